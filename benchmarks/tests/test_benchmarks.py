"""What the benchmarks count, in which order they measure, and that chapters can read it; never how fast anything is."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest
import torch
from cifarbook import bench
from cifarlab import data, models, summary, training
from cifarlab.config import RunConfig
from cifarlab.optimizers import make_optimizers

from benchmarks import (
    __main__,
    ceiling,
    common,
    costs,
    gpu,
    growth,
    loops,
    operations,
    packing,
    point,
    processes,
    products,
    steps,
    trials,
)

SYNTHETIC = {"dataset": "synthetic", "train_images": 64, "val_images": 0, "width": 2, "batch_size": 32,
             "precision": "float32"}


@pytest.fixture(autouse=True)
def no_dataset(monkeypatch):
    """Images that need no download, wherever a benchmark reads some, and no description of them."""
    monkeypatch.setattr(data, "load_cifar10", lambda train, root=None: data.synthetic(1024))
    monkeypatch.setattr(data, "dataset_md5", lambda: "none")


@pytest.fixture
def asked(monkeypatch):
    """What was asked of processes of their own; each process says 100 images a second."""
    calls = []

    def measured(values, script="point", **environment):
        calls.append([dict(value) for value in values])
        answer = {"images": 64, "images_per_second": 100.0, "peak_memory_bytes": 3_000_000,
                  "memory_before_bytes": 1_000_000, "milliseconds": {"optimizer": 1.0}, "overhead_seconds": 2.0}
        return [dict(value) | answer for value in values]

    for module in (growth, loops, operations, packing, processes):
        monkeypatch.setattr(module, "points", measured)
    monkeypatch.setattr(loops, "matmul_rates", lambda device: {"float32": 1e9})
    return calls


def test_actions_are_measured_in_turn_after_a_round_that_warms_up():
    calls = []
    seconds = common.alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == ["a", "b"] * 3
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


# Arguments that make a script's measurement small.
SMALL = {
    ceiling: {"widths": (2,)}, costs: {"count": 8, "rounds": 1}, loops: {"widths": (2,), "rounds": 2},
    trials: {"widths": (2,), "count": 8, "rounds": 1}, packing: {"widths": (2,), "rounds": 1},
}


@pytest.mark.parametrize("script", [
    ceiling, costs, growth, loops, operations, packing, processes, products, trials],
    ids=lambda script: script.__name__.removeprefix("benchmarks."))
def test_what_a_script_writes_is_what_chapters_read(script, asked, monkeypatch, tmp_path):
    name = script.__name__.removeprefix("benchmarks.")
    monkeypatch.setattr(ceiling, "matmul_rates", lambda device: {"float32": 1e9})
    monkeypatch.setattr(products, "step_seconds", lambda *_: 0.5)
    if script is costs:
        study = SimpleNamespace(preset="laptop", seeds=[0], levels=["a", "b"], config=lambda level, seed: RunConfig.of(
            width=2, dropout=0.3 if level == "a" else 0.0, precision="bfloat16"))
        monkeypatch.setattr(costs, "studies", SimpleNamespace(names=lambda: ["any"], load=lambda name: study))
    answer = script.measure(**SMALL.get(script, {}))
    assert all(isinstance(line, str) for line in script.lines(answer))
    common.write(name, answer, str(tmp_path))
    assert json.loads(json.dumps(answer)).items() <= bench.read(name, str(tmp_path)).items()


@pytest.mark.parametrize("name", __main__.ON_A_PROCESSOR + __main__.ON_A_GPU)
def test_every_benchmark_has_a_committed_answer_and_a_shape_to_check_it_by(name):
    assert name in bench.FIELDS
    assert bench.machines(name)


def test_bare_convolutions_count_the_networks_arithmetic():
    config = RunConfig.of(width=4, batch_size=8)
    rows = ceiling.convolutions(config, rounds=1)
    macs = {row["layer"]: row["macs"] for row in summary.layer_table(models.build(config)) if row["kind"] == "Conv2d"}
    assert {row["layer"]: row["flops"] for row in rows} == {name: 2 * 8 * count for name, count in macs.items()}
    assert "input" not in rows[0]["milliseconds"]
    assert all(row["milliseconds"]["input"] > 0 for row in rows[1:])


@pytest.mark.parametrize(("operation", "kind"), [
    ("aten::mkldnn_convolution", "convolution, forward"), ("aten::convolution_backward", "convolution, backward"),
    ("aten::native_batch_norm_backward", "normalization"), ("aten::max_pool2d_with_indices", "pooling"),
    ("aten::threshold_backward", "ReLU"), ("aten::_fused_adam_", "optimizer"), ("aten::copy_", "copies and types"),
    ("aten::addmm", "other"),
])
def test_operations_are_counted_under_their_kind(operation, kind):
    assert operations.kind_of(operation) == kind


def test_a_steps_time_is_split_by_kind(monkeypatch):
    monkeypatch.setattr(operations, "keep_freed_memory", lambda: None)
    shares = operations.step_shares("ours", width=2, steps=1)
    assert {"convolution, forward", "convolution, backward", "normalization", "optimizer"} <= set(shares)


@pytest.mark.parametrize("name", steps.WITHOUT)
def test_every_step_with_a_part_taken_away_trains(name, monkeypatch):
    built = []
    network_of = steps.network_of
    monkeypatch.setattr(steps, "network_of", lambda *given: built.append(network_of(*given)) or built[0])
    train = steps.stepper(steps.WITHOUT[name], width=2, pool=data.synthetic(256))
    before = [value.detach().clone() for value in built[0].parameters()]
    train()
    assert not any(torch.equal(old, new) for old, new in zip(before, built[0].parameters(), strict=True))


def test_our_step_is_the_one_that_training_makes(monkeypatch):
    pool = data.synthetic(128)
    config = RunConfig.of(width=2, train_images=128, val_images=0, batch_size=128, precision="bfloat16")
    torch.manual_seed(0)
    built = []
    network_of = steps.network_of
    monkeypatch.setattr(steps, "network_of", lambda *given: built.append(network_of(*given)) or built[0])
    measured = steps.stepper(steps.Step(), width=2, pool=pool)
    trained = models.build(config).to(memory_format=torch.channels_last)
    trained.load_state_dict(built[0].state_dict())
    optimizers = make_optimizers(config, trained)
    measured()
    training.train_epoch(trained, optimizers, training.make_schedulers(config, optimizers), pool, config, 0)
    # One batch holds the whole pool, so its order is all that differs: the sums' rounding.
    for (name, a), (_, b) in zip(built[0].named_parameters(), trained.named_parameters(), strict=True):
        assert torch.allclose(a, b, atol=2.1 * config.learning_rate), name
        assert (a - b).abs().median() < 0.01 * config.learning_rate, name


def test_images_one_by_one_are_the_same_images():
    pool = data.synthetic(5)
    inputs, labels = zip(*steps.AsPictures(pool), strict=True)
    assert torch.allclose(torch.stack(inputs), data.normalise(pool.pixels, "half"), atol=1e-6)
    assert list(labels) == pool.labels.tolist()


@pytest.mark.parametrize("way", products.WAYS)
def test_every_way_of_products_makes_a_step(way):
    assert products.step_seconds(way, 2, data.synthetic(8), at_least=0.0) > 0


def test_the_loops_take_turns_on_as_many_images(asked):
    (row,) = loops.measure(widths=(2,), rounds=2)["rows"]
    assert [call[0].get("loop", "ours") for call in asked] == ["original", "ours"] * 2
    assert [call[0]["images"] for call in asked] == [0, 64, 64, 64]
    assert row["ratio"] == [1.0, 1.0]


def test_a_process_that_keeps_its_memory_takes_turns_with_one_that_does_not(asked):
    answer = processes.measure(widths=(16,), rounds=2)
    assert [call[0]["keep_freed"] for call in asked] == 2 * [True, False, False, True]
    # The speed that times are computed from is that of whole images.
    assert not any(call[0]["config"].get("low_resolution") for call in asked)
    assert set(answer["without"]) == set(answer["networks"]) == {"16", processes.SPEEDRUN}


def test_runs_that_share_the_cores_are_added_up_and_one_alone_has_all_threads(asked):
    found = packing.one_or_many(8, cores=3, rounds=2)
    assert [[point["threads"] for point in call] for call in asked] == [[3], [1, 1, 1]] * 2
    assert (found["one_run"], found["a_run_a_core"]) == ([100.0] * 2, [300.0] * 2)


def test_a_runs_overhead_is_what_its_epoch_does_not_take(monkeypatch):
    row = SimpleNamespace(seconds=3.0, val_seconds=1.0)
    monkeypatch.setattr(packing.execution, "execute", lambda config: config.id)
    monkeypatch.setattr(packing.store, "read", lambda run_id: SimpleNamespace(history=[row]))
    monkeypatch.setattr(packing.time, "perf_counter", iter([10.0, 20.0]).__next__)
    assert packing.overhead(seed=0) == {"overhead_seconds": 6.0}


def test_one_factor_is_varied_at_a_time(asked):
    rows = growth.measure()["rows"]
    assert {row["factor"] for row in rows} == {*growth.FACTORS, "train_images", "epochs"}
    for row, (call,) in zip(rows, asked, strict=True):
        changed = {name for name, value in call["config"].items() if growth.BASE.get(name) != value}
        assert changed <= {row["factor"]}


@pytest.mark.parametrize("loop", ["ours", "original"])
def test_a_point_says_what_it_took(monkeypatch, loop):
    monkeypatch.setattr(point, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(point, "original_passes", lambda config, device: lambda images, epoch: images / 200)
    found = point.measure(SYNTHETIC, images=64, epochs=2, loop=loop)
    assert found["images"] == 64
    assert found["images_per_second"] == pytest.approx(64 / found["seconds_per_epoch"])
    assert found["peak_memory_bytes"] > 0


def test_the_originals_loop_trains_on_pictures(monkeypatch):
    pool = data.synthetic(64)
    read = []

    class Pictures(torch.utils.data.Dataset):
        def __init__(self, root, train, transform):
            self.as_pictures = steps.AsPictures(pool)

        def __len__(self):
            return len(pool)

        def __getitem__(self, index):
            read.append(index)
            return self.as_pictures[index]

    monkeypatch.setattr("torchvision.datasets.CIFAR10", Pictures)
    assert point.original_passes(RunConfig.of(width=2, batch_size=8), torch.device("cpu"))(24, 0) > 0
    assert sorted(read) == list(range(24))


def test_a_point_is_measured_in_a_process_of_its_own():
    (found,) = common.points([{"config": SYNTHETIC, "images": 64, "threads": 1}])
    assert found["images"] == 64
    assert found["config"] == SYNTHETIC and found["peak_memory_bytes"] > 1e7


def test_a_process_that_fails_is_named(monkeypatch):
    monkeypatch.setattr(common.subprocess, "Popen", lambda *_, **__: SimpleNamespace(
        communicate=lambda: ("", None), returncode=3))
    with pytest.raises(common.BenchmarkError, match=r"the benchmark of \{'images': 64\} failed with exit status 3"):
        common.points([{"images": 64}])


def test_a_process_gets_its_environment(monkeypatch):
    started = []

    class Process:
        returncode = 0

        def __init__(self, command, env, **_):
            started.append((command[-2:], env["LABBOOK_RESULTS"], env["OMP_NUM_THREADS"], "PATH" in env))

        def communicate(self):
            return "{}", None

    monkeypatch.setattr(common.subprocess, "Popen", Process)
    common.points([{"threads": 3}], "packing", LABBOOK_RESULTS="there")
    assert started == [(["benchmarks.packing", '{"threads": 3}'], "there", "3", "PATH" in os.environ)]


def test_the_gpus_benchmark_asks_each_process_in_turn_and_then_several_at_once(monkeypatch, tmp_path):
    told = []

    class Told(gpu.Trainer):
        def __init__(self, *what):
            self.what, self.process = what, SimpleNamespace(kill=lambda: told.append("killed"))
            self.ready = False

        def answer(self):
            self.ready, before = True, self.ready
            return {"images_per_second": 10.0} if before else {"first_steps_seconds": 1.0}

        def tell(self, seconds):
            told.append(self.what)

    monkeypatch.setattr(gpu, "Trainer", Told)
    monkeypatch.setattr(gpu, "matmul_rates", lambda device: {"float32": 1e9})
    found = gpu.measure(rounds=1, widths=(2, 4), batches=(128, 256), at_once=(1, 3))
    plain = ("ours", 2, 128)
    assert told == [
        ("original", 2, 128), ("original", 4, 128), plain, ("ours", 4, 128), ("ours", 4, 256), *4 * [plain],
        *7 * ["killed"]]
    assert found["at_once"] == {"width": 2, "images_per_second": {"1": [10.0], "3": [30.0]}}
    assert [(row["width"], row["ratio"]) for row in found["loops"]] == [(2, [1.0]), (4, [1.0])]
    assert gpu.lines(found)[-1] == "3 at once: 3.00 (3.00 to 3.00) times the images of one"
    common.write("gpu", found, str(tmp_path))
    assert len(bench.read("gpu", str(tmp_path))["ours"]) == 3


def test_a_trainer_says_when_it_is_ready_and_then_how_fast_it_is(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "original_passes", lambda config, device: lambda images, epoch: 1e-3 * images)
    monkeypatch.setattr(gpu.sys, "stdin", ["0.001", "0.001"])
    gpu.train_when_told("original", 2, 128)
    ready, *told = map(json.loads, capsys.readouterr().out.splitlines())
    assert ready["first_steps_seconds"] >= 0
    assert told == 2 * [{"images_per_second": pytest.approx(1000)}]


def test_the_command_line_measures_what_is_named_and_says_where_it_is(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(__main__.data, "check_files", lambda root: None)
    monkeypatch.setattr(__main__, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(loops, "measure", lambda: {"measured": 1})
    monkeypatch.setattr(loops, "lines", lambda answer: ["the answer"])
    assert __main__.main(["loops", "--folder", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "the answer" in said and str(tmp_path / "loops.json") in said
    written = json.loads((tmp_path / "loops.json").read_text())
    assert written["measured"] == 1 and written["wall_seconds"] >= 0 and written["provenance"]["cpu"]


@pytest.mark.parametrize(("arguments", "said"), [
    (["lops"], "'lops' is no benchmark. There are: loops,"), (["loops"], "CIFAR-10"),
])
def test_what_cannot_be_measured_is_one_sentence(monkeypatch, capsys, tmp_path, arguments, said):
    monkeypatch.setenv("CIFAR10_ROOT", str(tmp_path / "nowhere"))
    try:
        status = __main__.main(arguments)
    except SystemExit as end:
        status = end.code
    assert status == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
