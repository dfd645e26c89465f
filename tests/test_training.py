"""Training: it learns, it repeats, and a killed run resumes to the same bits."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys

import pytest
import torch
from cifarlab import data, models, precision, speednet, training
from cifarlab.config import PRESETS, RunConfig
from cifarlab.optimizers import make_optimizers
from cifarlab.streams import stream
from labbook import machine as processor
from labbook.errors import ConfigError
from labbook.runs import checkpoints, files, runner
from torch.utils._python_dispatch import TorchDispatchMode

SMOKE = RunConfig.of(**PRESETS["smoke"], learning_rate=0.003)

TRAIN_AND_PRINT = """
import hashlib, json, os, sys, torch
from pathlib import Path
from cifarlab import data, training
from cifarlab.allocator import keep_freed_memory
from cifarlab.config import RunConfig
torch.set_num_threads(int(os.environ.get("THREADS", "1")))
keep_freed_memory()  # as a run does
config = RunConfig.of(**json.loads(sys.argv[1]))
images = data.split(data.load(config), config)
trained = training.train(config, *images, checkpoint=Path(sys.argv[2]) if len(sys.argv) > 2 else None,
                         on_step=lambda: (print("step", flush=True), sys.stdin.readline()))  # waits to be let on
numbers = [[row[k] for k in ("train_loss", "val_loss", "val_accuracy")] for row in trained.history]
state = hashlib.sha256()
for tensor in trained.model.state_dict().values():
    state.update(tensor.contiguous().numpy().tobytes())
print("result", json.dumps([numbers, state.hexdigest(), trained.gradients]))
print("sittings", len(trained.sittings))
"""


def command(config: RunConfig, *checkpoint) -> list[str]:
    return [sys.executable, "-c", TRAIN_AND_PRINT, config.model_dump_json(), *map(str, checkpoint)]


def last_lines(config: RunConfig, *checkpoint) -> list[str]:
    return output_of(config, *checkpoint)[-2:]


def output_of(config: RunConfig, *checkpoint) -> list[str]:
    """What a process prints that is let run to its end."""
    done = subprocess.run(command(config, *checkpoint), capture_output=True, text=True, check=True,
                          stdin=subprocess.DEVNULL)
    return done.stdout.splitlines()


def test_a_model_overfits_64_images():
    config = SMOKE.with_(train_images=64, epochs=25, batch_size=16, width=8)
    images, _ = data.split(data.load(config), config)
    history = training.train(config, images, images).history
    assert history[-1]["train_accuracy"] > 0.98
    assert history[-1]["train_loss"] < history[0]["train_loss"] / 5


# Everything that draws random numbers is on: order, flips, crops, holes, dropped channels.
RANDOM = SMOKE.with_(epochs=4, augment="flip_crop_cutout", dropout=0.3, dropout_at="blocks", schedule="warmup_cosine")


SPEEDRUN = {
    "model": "speednet", "optimizer": "muon", "learning_rate": 0.1, "augment": "alternating_flip_shift",
    "low_resolution": 16, "low_resolution_epochs": 2.5, "low_resolution_stages": 2, "whitening_bias_epochs": 1.5,
}


@pytest.mark.parametrize(("changes", "threads"), [
    ({}, 1), ({"optimizer": "sgd"}, 1), ({"precision": "bfloat16"}, 2), (SPEEDRUN, 1),
    (SPEEDRUN | {"precision": "bfloat16"}, 2),
])
def test_killed_at_a_random_step_it_resumes_to_the_same_bits(tmp_path, monkeypatch, changes, threads):
    monkeypatch.setenv("THREADS", str(threads))
    config = RANDOM.with_(**changes)
    expected, _ = last_lines(config)
    an_epoch = config.steps_per_epoch
    total = config.epochs * an_epoch
    kill_at = random.randrange(1, total + 1)
    checkpoint = tmp_path / "run.checkpoint"
    with subprocess.Popen(command(config, checkpoint), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          bufsize=1) as process:
        for step in range(1, kill_at + 1):
            assert process.stdout.readline() == "step\n"
            if step < kill_at:
                process.stdin.write("go on\n")
        # It waits after that step, before an epoch's checkpoint where that was its last.
        os.kill(process.pid, signal.SIGKILL)
    *steps, found, resumed = output_of(config, checkpoint)
    assert found == expected, f"killed after step {kill_at}"
    kept = (kill_at - 1) // an_epoch
    assert steps == ["step"] * (total - kept * an_epoch), f"killed after step {kill_at}"
    assert resumed == f"sittings {2 if kept else 1}"


@pytest.mark.parametrize(("precision", "threads"), [("float32", 1), ("bfloat16", 2)])
def test_same_seed_same_numbers_in_a_fresh_process_and_another_seed_differs(monkeypatch, precision, threads):
    monkeypatch.setenv("THREADS", str(threads))
    config = RANDOM.with_(precision=precision)
    first, _ = last_lines(config)
    assert last_lines(config)[0] == first
    assert last_lines(config.with_(seed=1))[0] != first


def test_global_random_state_is_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    images = data.split(data.load(SMOKE), SMOKE)
    training.train(SMOKE.with_(epochs=1), *images)
    assert torch.equal(torch.rand(3), expected)


def test_a_damaged_checkpoint_is_set_aside_and_the_run_starts_again(tmp_path):
    images = data.split(data.load(SMOKE), SMOKE)
    checkpoint = tmp_path / "run.checkpoint"
    expected = training.train(SMOKE, *images, checkpoint=checkpoint).history
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.warns(UserWarning, match=r"run\.checkpoint is damaged .* run\.checkpoint\.damaged"):
        again = training.train(SMOKE, *images, checkpoint=checkpoint).history
    assert [row["val_loss"] for row in again] == [row["val_loss"] for row in expected]
    assert (tmp_path / "run.checkpoint.damaged").exists()


def test_a_checkpoint_of_another_network_is_set_aside_and_the_run_starts_again(tmp_path):
    images = data.split(data.load(SMOKE), SMOKE)
    expected = training.train(SMOKE, *images).history
    checkpoint = tmp_path / "run.checkpoint"
    for other in (SMOKE.with_(width=6), SMOKE.with_(norm="none", learning_rate=0.001)):
        training.train(other, *images, checkpoint=checkpoint)
        with pytest.warns(UserWarning, match=r"run\.checkpoint is of another network or optimizer .* first epoch"):
            again = training.train(SMOKE, *images, checkpoint=checkpoint).history
        assert [row["val_loss"] for row in again] == [row["val_loss"] for row in expected]
        checkpoint.unlink()


def test_memory_that_ends_while_a_checkpoint_is_read_says_nothing_of_the_checkpoint(tmp_path, monkeypatch):
    images = data.split(data.load(SMOKE), SMOKE)
    checkpoint = tmp_path / "run.checkpoint"
    training.train(SMOKE, *images, checkpoint=checkpoint)

    def full(*_):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(torch.nn.Module, "load_state_dict", full)
    with pytest.raises(torch.OutOfMemoryError):
        training.train(SMOKE, *images, checkpoint=checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["run.checkpoint"]


def test_a_second_damaged_checkpoint_is_kept_beside_the_first(tmp_path):
    checkpoint = tmp_path / "run.checkpoint"
    for content in (b"first", b"second"):
        checkpoint.write_bytes(content)
        with pytest.warns(UserWarning, match="is damaged"):
            assert checkpoints.load(checkpoint) is None
    assert (tmp_path / "run.checkpoint.damaged").read_bytes() == b"first"
    assert (tmp_path / "run.checkpoint.2.damaged").read_bytes() == b"second"


def test_a_checkpoint_of_other_code_is_said_to_be_that(tmp_path, monkeypatch):
    checkpoint = tmp_path / "run.checkpoint"
    checkpoints.save(checkpoint, {"history": []})
    assert checkpoints.load(checkpoint) == {"format": checkpoints.FORMAT, "history": []}
    monkeypatch.setattr(checkpoints, "FORMAT", 99)
    with pytest.warns(UserWarning, match=r"run\.checkpoint is of format 4; this code reads format 99\. It is set"):
        assert checkpoints.load(checkpoint) is None


def test_a_checkpoint_that_cannot_be_read_at_the_moment_stays(tmp_path, monkeypatch):
    checkpoint = tmp_path / "run.checkpoint"
    checkpoints.save(checkpoint, {"history": [1]})

    def failing(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output"):
        patch.setattr(torch, "load", failing)
        checkpoints.load(checkpoint)
    assert checkpoints.load(checkpoint)["history"] == [1]


def test_a_full_disk_leaves_the_old_checkpoint_and_says_what_to_do(tmp_path, monkeypatch):
    checkpoint = tmp_path / "run.checkpoint"
    checkpoints.save(checkpoint, {"history": [1]})

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(files.StoreError, match=r"run\.checkpoint could not be written: No space left.*Free some"):
            checkpoints.save(checkpoint, {"history": [1, 2]})
    assert checkpoints.load(checkpoint)["history"] == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["run.checkpoint"]


def test_a_loss_that_is_not_a_number_ends_the_run_as_diverged():
    # Every step multiplies the weights by 1 - 10 x 1 = -9.
    config = SMOKE.with_(optimizer="sgd", learning_rate=10.0, weight_decay=1.0, norm="none", epochs=8)
    images = data.split(data.load(config), config)
    trained = training.train(config, *images)
    assert trained.diverged
    assert len(trained.history) < 8


def textbook_losses(config, images) -> list[float]:
    """Ten steps of a plain loop: NCHW, float32, Adam one tensor at a time; the loss of each."""
    model = models.build(config).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, foreach=False, fused=False)
    losses = []
    for epoch in range(config.epochs):
        order, moves = stream(config.seed, "order", epoch), stream(config.seed, "augmentation", epoch)
        for inputs, labels in data.batches(images, config, order, moves, epoch):
            optimizer.param_groups[0]["lr"] = training.learning_rate(config, len(losses))
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(inputs.contiguous()), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def test_the_first_losses_are_those_of_a_plain_loop_in_nchw():
    config = SMOKE.with_(train_images=64, batch_size=64, val_images=10, epochs=10)
    images = data.split(data.load(config), config)
    ours = [row["train_loss"] for row in training.train(config, *images).history]
    plain = textbook_losses(config, images[0])
    assert ours[0] == pytest.approx(plain[0], rel=1e-5)
    # Sums in another order. Adam divides a gradient by its own size, so where one is near zero its rounding shows.
    for step, (one, other) in enumerate(zip(ours, plain, strict=True)):
        assert one == pytest.approx(other, rel=1e-5 + step * 2**-9)


@pytest.mark.parametrize(("changes", "units"), [({}, True), ({}, False), (SPEEDRUN | {"learning_rate": 0.02}, True)])
def test_the_first_losses_in_float32_and_in_bfloat16_agree(monkeypatch, changes, units):
    """With bfloat16 units and with the float32 products that stand for them elsewhere."""
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda: units)
    # One step an epoch, so that an epoch's mean loss is a step's loss.
    config = SMOKE.with_(train_images=64, batch_size=64, val_images=10, epochs=10, **changes)
    images = data.split(data.load(config), config)
    plain, fast = (
        [row["train_loss"] for row in training.train(config.with_(precision=precision), *images).history]
        for precision in ("float32", "bfloat16")
    )
    # bfloat16 keeps 8 bits of the significand, a relative error of 2**-8; each step's adds to those before.
    for step, (exact, rounded) in enumerate(zip(plain, fast, strict=True), start=1):
        assert rounded == pytest.approx(exact, rel=2 * step * 2**-8)
    assert fast != plain


@pytest.mark.parametrize(("changes", "sides"), [
    ({}, [32] * 8),
    ({"low_resolution": 24, "low_resolution_epochs": 2.5}, [24] * 5 + [32] * 3),
    ({"low_resolution": 16, "low_resolution_epochs": 3.0, "low_resolution_stages": 2}, [16] * 3 + [24] * 3 + [32] * 2),
    ({"low_resolution": 20, "low_resolution_epochs": 4.0, "low_resolution_stages": 3}, [20] * 3 + [24] * 3 + [28] * 2),
])
def test_images_grow_in_equal_stages(changes, sides):
    config = SMOKE.with_(model="speednet", train_images=128, batch_size=64, epochs=4, **changes)
    assert [speednet.image_side(config, step) for step in range(8)] == sides


def test_speednets_first_biases_are_trained_in_their_epochs_only():
    config = SMOKE.with_(**SPEEDRUN | {"whitening_bias_epochs": 1.0}, train_images=128, batch_size=64, width=4)
    images = data.split(data.load(config), config)

    def biases(epochs):  # at a constant rate a shorter run is the beginning of a longer
        run = config.with_(epochs=epochs, schedule="constant", low_resolution_epochs=1.0)
        return training.train(run, *images).model.whitening.bias

    assert not torch.equal(biases(1), models.build(config).whitening.bias)
    assert torch.equal(biases(3), biases(1))
    assert [speednet.trains_whitening_bias(config, step) for step in range(4)] == [True, True, False, False]


def shown(monkeypatch, **changes) -> tuple[torch.Tensor, torch.Tensor]:
    """What two epochs of training show the network of ``SMOKE`` with ``changes``: its inputs and their labels."""
    seen, cut = [], data.batches

    def watched(*arguments):
        for batch in cut(*arguments):
            seen.append(batch)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(training.data, "batches", watched)
        config = SMOKE.with_(train_images=64, batch_size=16, val_images=10, epochs=2, width=4, **changes)
        training.train(config, *data.split(data.load(config), config))
    inputs, labels = zip(*seen, strict=True)
    return torch.cat(inputs), torch.cat(labels)


def test_order_augmentation_and_initialisation_do_not_touch_each_other(monkeypatch):
    """So that two levels of a study differ in their factor alone."""
    inputs, labels = shown(monkeypatch)
    moved, same_labels = shown(monkeypatch, augment="flip_crop")
    assert torch.equal(same_labels, labels)
    assert not torch.equal(moved, inputs)
    for changes in ({"dropout": 0.3}, {"norm": "none"}, {"kernel_size": 1}, {"schedule": "constant"}):
        assert torch.equal(shown(monkeypatch, **changes)[0], inputs), changes
        assert torch.equal(shown(monkeypatch, augment="flip_crop", **changes)[0], moved), changes
    assert not torch.equal(shown(monkeypatch, seed=SMOKE.seed + 1)[1], labels)
    plain, dropping = (models.build(SMOKE.with_(dropout=rate)) for rate in (0.0, 0.3))
    assert torch.equal(plain.classifier.weight, dropping.classifier.weight)


def test_steps_are_counted_as_batches_are_cut():
    for images, batch in ((100, 10), (101, 10), (109, 10), (5, 10), (2, 2), (3, 2)):
        config = SMOKE.with_(train_images=images, val_images=1, batch_size=batch)
        pool, _ = data.split(data.load(config), config)
        generator = torch.Generator().manual_seed(0)
        assert len(list(data.batches(pool, config, generator, generator))) == config.steps_per_epoch


class ReadsCounted(TorchDispatchMode):
    """Counts the numbers that are read from tensors: on a GPU the host waits for each."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "changes",
    [
        {"augment": "flip_crop_cutout", "dropout": 0.1},
        {"model": "speednet", "optimizer": "muon", "augment": "alternating_flip_shift"},
    ],
)
def test_no_number_is_read_from_the_device_before_the_epochs_last_step(changes):
    config = SMOKE.with_(**changes)
    images, _ = data.split(data.load(config), config)
    model = models.build(config)
    optimizers = make_optimizers(config, model)
    schedulers = training.make_schedulers(config, optimizers)
    at_step = []
    with ReadsCounted() as reads:
        training.train_epoch(
            model, optimizers, schedulers, images, config, 0, lambda: at_step.append(reads.count), gradients=[]
        )
    assert at_step == [0] * config.steps_per_epoch
    assert reads.count > 0  # the loss and the accuracy: the counter counts


def test_a_compiled_network_trains_to_the_same_numbers_and_resumes(tmp_path, monkeypatch):
    """With a backend that traces but generates no code, which would take minutes; the last batch is a smaller one."""
    compile_in_place = torch.nn.Module.compile
    modes = []

    def traced(module, mode, dynamic):
        modes.append(mode)
        compile_in_place(module, backend="aot_eager", dynamic=dynamic)

    monkeypatch.setattr(torch.nn.Module, "compile", traced)
    config = SMOKE.with_(train_images=70, val_images=10, batch_size=32, compiled=True)
    images = data.split(data.load(config), config)
    plain = training.train(config.with_(compiled=False), *images).history
    assert modes == []
    checkpoint = tmp_path / "run.checkpoint"
    training.train(config.with_(epochs=1), *images, checkpoint)
    resumed = training.train(config, *images, checkpoint)
    assert modes == ["default", "default"]
    whole = training.train(config, *images)
    assert all(torch.equal(value, whole.model.state_dict()[name]) for name, value in resumed.model.state_dict().items())
    for name in ("train_loss", "val_loss"):
        assert [row[name] for row in resumed.history] == pytest.approx([row[name] for row in plain], rel=1e-3)
    assert resumed.model.state_dict().keys() == models.build(config).state_dict().keys()


def test_a_compiled_run_without_a_compiler_is_refused(monkeypatch, results):
    monkeypatch.setattr(processor.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"compiled: True needs the C\+\+ compiler .*leave compiled False"):
        runner.run(SMOKE.with_(compiled=True), torch.device("cpu"))


def test_a_compiled_run_that_would_not_round_is_refused(monkeypatch, results):
    monkeypatch.setattr(runner.precision, "has_fast_bfloat16", lambda: False)
    config = SMOKE.with_(precision="bfloat16", compiled=True)
    with pytest.raises(ConfigError, match="compiled: True is refused with precision bfloat16"):
        runner.run(config, torch.device("cpu"))


TRAINED_TWICE = [
    {}, {"compiled": True}, {"optimizer": "muon", "augment": "flip_crop_cutout"},
    {"model": "speednet", "optimizer": "muon", "learning_rate": 0.1,
     "low_resolution": 24, "low_resolution_epochs": 1.0},
]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("changes", TRAINED_TWICE, ids=str)
def test_the_same_run_on_a_gpu(changes):
    config = SMOKE.with_(precision="bfloat16", **changes)
    images = [part.to(torch.device("cuda")) for part in data.split(data.load(config), config)]
    first, again = (training.train(config, *images) for _ in range(2))
    assert first.history[-1]["train_loss"] < first.history[0]["train_loss"]
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_no_step_waits_for_the_device():
    config = SMOKE.with_(precision="bfloat16", augment="flip_crop")
    images, _ = data.split(data.load(config), config)
    images = images.to(torch.device("cuda"))
    model = models.build(config).to(images.pixels.device, memory_format=torch.channels_last)
    optimizers = make_optimizers(config, model)
    schedulers = training.make_schedulers(config, optimizers)

    steps = 0

    def watch():
        # The first step's images are on their way from the host, and after the last one the sums are read.
        nonlocal steps
        steps += 1
        torch.cuda.set_sync_debug_mode("error" if steps < config.steps_per_epoch else "default")

    try:
        training.train_epoch(model, optimizers, schedulers, images, config, 0, watch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert steps == config.steps_per_epoch > 2


def test_test_time_views_are_an_average_of_the_image_and_its_neighbours():
    inputs = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for views, count in (("one", 1), ("mirror", 2), ("mirror_shift", 6)):
        weighted = training.weighted_views(inputs, views)
        assert len(weighted) == count
        assert sum(weight for weight, _ in weighted) == 1
        assert all(view.shape == inputs.shape for _, view in weighted)
    left_up = weighted[1][1]
    assert torch.equal(left_up[:, :, 1:, 1:], inputs[:, :, :-1, :-1])


def test_without_held_out_images_there_is_no_validation():
    config = SMOKE.with_(val_images=0, epochs=1)
    (row,) = training.train(config, *data.split(data.load(config), config)).history
    assert row["val_loss"] is None
    assert row["val_accuracy"] is None
    assert row["train_loss"] > 0
