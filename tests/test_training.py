"""Training: it learns, it repeats, and a run that goes on from its saved state ends with the same bits."""

from __future__ import annotations

import pytest
import torch
from cifarlab import data, models, precision, training
from cifarlab.config import PRESETS, RunConfig
from cifarlab.lab import LAB
from cifarlab.optimizers import make_optimizers
from cifarlab.schedules import learning_rate, steps_per_epoch
from cifarlab.streams import stream
from torch.utils._python_dispatch import TorchDispatchMode

SMOKE = RunConfig.of(**PRESETS["smoke"], learning_rate=0.003)
# Everything that draws random numbers is on: order, flips, crops, holes, dropped channels.
RANDOM = SMOKE.with_(epochs=3, train_images=128, augment="flip_crop_cutout", dropout=0.3, dropout_at="blocks",
                     schedule="warmup_cosine", warmup_epochs=1.0)
SPEEDRUN = {
    "model": "speednet", "optimizer": "muon", "learning_rate": 0.1, "augment": "alternating_flip_shift",
    "low_resolution": 16, "low_resolution_epochs": 2.0, "low_resolution_stages": 2, "whitening_bias_epochs": 1.5,
}


@pytest.fixture(autouse=True)
def threads():
    """The number of this process's threads is what it was before."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def images_of(config: RunConfig) -> tuple[data.Images, data.Images]:
    return data.split(data.load(config), config)


def trained(config: RunConfig) -> training.Training:
    """A run from its first epoch to its last."""
    run = training.Training(config, *images_of(config))
    for _ in run.epochs():
        pass
    return run


def numbers(run: training.Training) -> list:
    """What the run computed, but for its times."""
    return [[{name: value for name, value in row.items() if "seconds" not in name} for row in run.history],
            run.gradients, run.diverged]


def same(one: training.Training, other: training.Training) -> bool:
    """Whether two runs agree bit for bit."""
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    return numbers(one) == numbers(other) and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_model_overfits_64_images():
    config = SMOKE.with_(train_images=64, epochs=25, batch_size=16, width=8)
    images, _ = images_of(config)
    run = training.Training(config, images, images)
    history = list(run.epochs())
    assert history == run.history
    assert history[-1]["train_accuracy"] > 0.98
    assert history[-1]["train_loss"] < history[0]["train_loss"] / 5


@pytest.mark.parametrize(("changes", "count"), [
    ({}, 1), ({"optimizer": "sgd"}, 1), ({"optimizer": "adamw", "weight_decay": 0.01}, 1),
    ({"optimizer": "muon"}, 1), ({"precision": "bfloat16"}, 1), (SPEEDRUN, 1),
    (SPEEDRUN | {"precision": "bfloat16", "train_images": 64}, 2),
])
def test_a_run_that_goes_on_from_its_saved_state_ends_with_the_same_bits(changes, count):
    torch.set_num_threads(count)
    config = RANDOM.with_(**changes)
    whole = trained(config)
    for stopped_after in (1, 2)[: 3 - count]:   # two threads wait for each other on a busy machine
        first = training.Training(config, *images_of(config))
        for row in first.epochs():
            if row["epoch"] == stopped_after:
                break
        saved = LAB.dump(first.state_dict())
        second = training.Training(config, *images_of(config))
        second.load_state_dict(LAB.load(saved))
        rows = list(second.epochs())
        assert len(rows) == config.epochs - stopped_after
        assert same(second, whole)
    # What was loaded is all of it: from a run's end nothing is left to do.
    ended = training.Training(config, *images_of(config))
    ended.load_state_dict(LAB.load(LAB.dump(whole.state_dict())))
    assert list(ended.epochs()) == []
    assert ended.final() == whole.final()


def test_a_state_of_another_network_or_optimizer_is_refused():
    state = LAB.load(LAB.dump(training.Training(RANDOM, *images_of(RANDOM)).state_dict()))
    for other in (RANDOM.with_(width=6), RANDOM.with_(norm="none"), RANDOM.with_(optimizer="muon")):
        with pytest.raises((KeyError, ValueError, RuntimeError)):
            training.Training(other, *images_of(other)).load_state_dict(state)


def test_same_seed_same_numbers_and_another_seed_differs():
    first = trained(RANDOM)
    assert same(first, trained(RANDOM))
    assert not same(first, trained(RANDOM.with_(seed=1)))


def test_global_random_state_is_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    trained(SMOKE.with_(epochs=1)).final()
    assert torch.equal(torch.rand(3), expected)


def test_a_loss_that_is_not_a_number_ends_the_run_as_diverged():
    # Every step multiplies the weights by 1 - 10 x 1 = -9.
    run = trained(SMOKE.with_(optimizer="sgd", learning_rate=10.0, weight_decay=1.0, norm="none", epochs=8))
    assert run.diverged
    assert len(run.history) < 8


def test_weights_are_kept_in_half_precision():
    run = training.Training(SMOKE, *images_of(SMOKE))
    kept = LAB.load(run.weights())
    assert kept["prep.conv.weight"].dtype == torch.float16
    assert torch.equal(kept["prep.conv.weight"], run.model.prep.conv.weight.half())
    assert kept.keys() == run.model.state_dict().keys()


def textbook_losses(config, images) -> list[float]:
    """Ten steps of a plain loop: NCHW, float32, Adam one tensor at a time; the loss of each."""
    model = models.build(config).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, foreach=False, fused=False)
    losses = []
    for epoch in range(config.epochs):
        order, moves = stream(config.seed, "order", epoch), stream(config.seed, "augmentation", epoch)
        for inputs, labels in data.batches(images, config, order, moves, epoch):
            optimizer.param_groups[0]["lr"] = learning_rate(config, len(losses))
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(inputs.contiguous()), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def test_the_first_losses_are_those_of_a_plain_loop_in_nchw():
    config = SMOKE.with_(train_images=64, batch_size=64, val_images=10, epochs=10)
    ours = [row["train_loss"] for row in trained(config).history]
    plain = textbook_losses(config, images_of(config)[0])
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
    plain, fast = ([row["train_loss"] for row in trained(config.with_(precision=name)).history]
                   for name in ("float32", "bfloat16"))
    # bfloat16 keeps 8 bits of the significand, a relative error of 2**-8; each step's adds to those before.
    for step, (exact, rounded) in enumerate(zip(plain, fast, strict=True), start=1):
        assert rounded == pytest.approx(exact, rel=2 * step * 2**-8)
    assert fast != plain


def test_speednets_first_biases_are_trained_in_their_epochs_only():
    config = SMOKE.with_(**SPEEDRUN | {"whitening_bias_epochs": 1.0}, train_images=128, batch_size=64, width=4)

    def biases(epochs):  # at a constant rate a shorter run is the beginning of a longer
        run = config.with_(epochs=epochs, schedule="constant", low_resolution_epochs=1.0)
        return trained(run).model.whitening.bias

    assert not torch.equal(biases(1), models.build(config).whitening.bias)
    assert torch.equal(biases(3), biases(1))


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
        trained(config)
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
        assert len(list(data.batches(pool, config, generator, generator))) == steps_per_epoch(config)


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
            model, optimizers, schedulers, images, config, 0, lambda: at_step.append(reads.count))
    assert at_step == [0] * steps_per_epoch(config)
    assert reads.count > 0  # the loss and the accuracy: the counter counts


TRAINED_TWICE = [
    {}, {"optimizer": "muon", "augment": "flip_crop_cutout"},
    {"model": "speednet", "optimizer": "muon", "learning_rate": 0.1,
     "low_resolution": 24, "low_resolution_epochs": 1.0},
]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("changes", TRAINED_TWICE, ids=str)
def test_the_same_run_on_a_gpu(changes):
    config = SMOKE.with_(precision="bfloat16", **changes)
    first, again = (
        training.Training(config, *(part.to(torch.device("cuda")) for part in images_of(config))) for _ in range(2))
    assert all(list(run.epochs()) for run in (first, again))
    assert first.history[-1]["train_loss"] < first.history[0]["train_loss"]
    assert same(first, again)


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
        torch.cuda.set_sync_debug_mode("error" if steps < steps_per_epoch(config) else "default")

    try:
        training.train_epoch(model, optimizers, schedulers, images, config, 0, watch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert steps == steps_per_epoch(config) > 2


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
    (row,) = trained(SMOKE.with_(val_images=0, epochs=1)).history
    assert row["val_loss"] is None
    assert row["val_accuracy"] is None
    assert row["train_loss"] > 0


def test_neither_the_loop_nor_its_choices_see_a_test_image(monkeypatch):
    """The test set chooses nothing: no run reads it, from its first step to its final figures."""
    load, asked = data.load, []
    monkeypatch.setattr(data, "load", lambda config, train=True: asked.append(train) or load(config, train))
    run = LAB.training(SMOKE.with_(epochs=1), torch.device("cpu"))
    assert list(run.epochs())
    assert run.final()
    assert run.weights()
    assert asked == [True]
    kept, held_out = images_of(SMOKE)
    whole = data.load(SMOKE)
    assert len(kept) + len(held_out) == len(whole)
