"""A sample of committed runs trained again: which, how they are compared, what is written. Nothing is trained here."""

from __future__ import annotations

import json
import statistics

import pytest
from cifarlab.config import RunConfig
from labbook import cli
from labbook.errors import LabError
from labbook.runs import engine, store
from labbook.studies import reproduction

from tests import made

NARROW = RunConfig.of(width=16, epochs=5, precision="bfloat16")
CPU = {"model": "Some CPU @ 2 GHz", "instructions": ["avx2"]}
ACCURACIES = [0.80, 0.81, 0.82]


def facts(**given):
    return {"cpu": CPU, "device": "cpu", "threads": 1, "sittings": []} | given


@pytest.fixture
def committed(results) -> list[store.Result]:
    return [made.put(NARROW.with_(seed=seed), accuracy, **facts()) for seed, accuracy in enumerate(ACCURACIES)]


def test_only_narrow_short_runs_of_one_thread_on_a_processor_are_sampled(committed):
    for number, (changes, kept) in enumerate([
        ({"width": 32}, facts()), ({"epochs": 6}, facts()), ({}, facts(device="a GPU")), ({}, facts(threads=2)),
    ]):
        made.put(NARROW.with_(seed=10 + number, **changes), **kept)
    made.put(NARROW.with_(seed=20), diverged=True, **facts())
    assert reproduction.candidates(store.read_all()) == committed


def test_a_sample_is_the_same_for_one_seed_and_a_larger_one_adds_to_it(committed):
    chosen = reproduction.sample(committed, 3, seed=0)
    assert reproduction.sample(committed[::-1], 2, seed=0) == chosen[:2]
    assert {one.id for one in chosen} == {one.id for one in committed}
    assert len({tuple(one.id for one in reproduction.sample(committed, 3, seed)) for seed in range(20)}) > 1
    with pytest.raises(LabError, match="no run of width up to 16 and 5 epochs"):
        reproduction.sample([], 3, seed=0)


def test_the_prediction_interval_of_three_values():
    low, high = reproduction.prediction_interval(ACCURACIES)
    # t of 2 degrees of freedom at 97.5 %, as tables have it.
    half = 4.3027 * statistics.stdev(ACCURACIES) * (1 + 1 / 3) ** 0.5
    assert (low, high) == pytest.approx((0.81 - half, 0.81 + half), abs=1e-5)
    assert reproduction.prediction_interval([0.8]) is None


@pytest.mark.parametrize(("accuracy", "seeds", "given", "verdict", "same_kind"), [
    (0.80, ACCURACIES, {}, "bit for bit", True),
    (0.801, ACCURACIES, {}, "within the interval", True),
    (0.801, ACCURACIES, {"cpu": CPU | {"instructions": ["avx2", "avx512f"]}}, "within the interval", False),
    (0.5, ACCURACIES, {}, "outside the interval", True),
    (0.81, [0.80], {}, "no interval", True),
    (0.80, [0.80], {"versions": {"torch": "3", "python": "3", "torchvision": "1"}}, "bit for bit", False),
])
def test_two_runs_agree_bit_for_bit_or_within_the_interval(results, accuracy, seeds, given, verdict, same_kind):
    before = made.result(NARROW, 0.80, **facts())
    found = reproduction.compared(before, made.result(NARROW, accuracy, **facts(**given)), seeds)
    assert (found.verdict, found.same_kind) == (verdict, same_kind)


def test_one_bit_in_one_epoch_is_a_difference(results):
    before, again = made.result(NARROW, **facts()), made.result(NARROW, **facts())
    assert reproduction.same_numbers(before, again)
    again.history[1].val_loss += 2**-50
    assert not reproduction.same_numbers(before, again)


def test_a_run_that_went_on_elsewhere_is_of_both_kinds():
    versions = {"torch": "2"}
    other = {"cpu": CPU | {"instructions": ["avx2", "amx_bf16"]}, "versions": versions}
    one = {"cpu": CPU, "versions": versions}
    assert reproduction.kind(one) == reproduction.kind(one | {"sittings": [one, one]})
    assert reproduction.kind(one) != reproduction.kind(one | {"sittings": [other]})


def test_the_command_trains_in_a_folder_of_its_own_and_writes_a_table(committed, results, monkeypatch, capsys):
    trained = []

    def train(configs, device, threads):
        assert (device, threads) == ("cpu", 1)
        for config in configs:
            trained.append(config.id)
            made.put(config, 0.80, **facts())
        return []

    monkeypatch.setattr(engine, "execute", train)
    assert cli.main(["reproduce", "--count", "2", "--seed", "0"]) == 0
    said = capsys.readouterr().out
    path = results / "reproduced" / "some-cpu-2-ghz-avx2.json"
    assert f"written to {path}" in said
    assert trained == [one.id for one in reproduction.sample(committed, 2, seed=0)]
    assert sorted(store.read_all(), key=lambda one: one.id) == sorted(committed, key=lambda one: one.id)
    (found,) = reproduction.read_all().values()
    assert [one.id for one in found] == trained
    assert json.loads(path.read_text())["candidates"] == 3
    first = next((one for one in found if one.committed == 0.80), None)
    assert first is None or first.identical


def test_a_failure_is_exit_status_1_and_all_failing_is_a_sentence(committed, monkeypatch, capsys):
    monkeypatch.setattr(engine, "execute", lambda *_, **__: ["some-id: out of memory"])
    assert cli.main(["reproduce", "--count", "1"]) == 2
    assert "no run could be trained again:\nsome-id: out of memory" in capsys.readouterr().err


def test_what_was_found_on_each_machine_is_whole():
    for machine, found in reproduction.read_all(made.ROOT / "results" / "reproduced").items():
        assert found, machine
        assert len({one.id for one in found}) == len(found)
