"""Benchmarks: what they count and in which order they measure. How fast anything is, is not tested."""

from __future__ import annotations

import pytest
import torch
from cifarlab import data, layers, models
from cifarlab.bench import ceiling, measuring, operations, products, race, trials
from cifarlab.config import RunConfig


def test_actions_are_measured_in_turn_and_warmed_up_first():
    calls = []
    seconds = measuring.alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == ["a", "b"] * 3
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_bare_convolutions_count_the_networks_arithmetic():
    config = RunConfig.of(width=4, batch_size=8)
    rows = ceiling.convolutions(config, rounds=1)
    macs = {row["layer"]: row["macs"] for row in layers.layer_table(models.build(config)) if row["kind"] == "Conv2d"}
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


@pytest.mark.parametrize("name", [*trials.WITHOUT, *(name for name, step in trials.TRIED.items() if not step.compiled)])
def test_every_variant_of_a_step_trains(name):
    step = (trials.WITHOUT | trials.TRIED)[name]
    pool = data.synthetic(2 * step.batch_size)
    torch.manual_seed(0)
    trials.stepper(step, width=2, pool=pool)()


@pytest.mark.dataset
def test_a_point_is_measured_in_its_own_process():
    (point,) = measuring.points([{"config": {"width": 2, "batch_size": 32}, "images": 64, "epochs": 2, "threads": 1}])
    assert point["images"] == 64
    assert point["images_per_second"] == pytest.approx(64 / point["seconds_per_epoch"])
    assert point["peak_memory_bytes"] > 1e8


def test_another_machines_answers_lie_beside_ours():
    pool = data.synthetic(8)
    assert all(products.step_seconds(way, 2, pool, at_least=0.0) > 0 for way in products.WAYS)
    for name in ("loops", "products"):
        for place in measuring.folders(name):
            assert measuring.read(name, place)["name"] == name


def test_the_race_needs_a_copy_of_the_program_it_knows(monkeypatch, tmp_path):
    monkeypatch.delenv("AIRBENCH94", raising=False)
    with pytest.raises(measuring.BenchmarkError, match=r"AIRBENCH94: .* name your copy"):
        race.measure()
    other = tmp_path / "other.py"
    other.write_text("print('another program')\n")
    monkeypatch.setenv("AIRBENCH94", str(other))
    with pytest.raises(measuring.BenchmarkError, match=r"no '@torch\.compile' in this file"):
        race.measure()


def test_the_program_is_changed_in_every_place_that_names_a_gpu():
    program = "\n".join(old.rstrip("\n") for old, _ in race.CHANGES + race.IN_BFLOAT16) + "\n"
    for bfloat16 in (False, True):
        changed = race.adapted(program, bfloat16)
        assert "cuda" not in changed and "half()" not in changed
        assert ("autocast" in changed) == bfloat16


def test_our_side_of_the_race_counts_training_and_the_final_evaluation():
    config = RunConfig.of(model="speednet", width=2, optimizer="muon", batch_size=32, epochs=1, learning_rate=0.1)
    outcome = race.our_run(config, data.synthetic(64), data.synthetic(32))
    assert outcome["seconds"] > 0
    assert 0 <= outcome["test_accuracy"] <= 1


def test_a_missing_answer_says_how_to_measure_it(tmp_path):
    with pytest.raises(measuring.BenchmarkError, match="make bench"):
        measuring.read("loops", str(tmp_path))
