"""The progress bar: it goes by arithmetic, counts what was finished before, and moves within a run."""

from __future__ import annotations

import time

import pytest
from cifarlab import summary
from cifarlab.config import PRESETS, RunConfig
from labbook.runs import bar as runs_bar

NARROW = RunConfig.of(**PRESETS["smoke"])
WIDE = NARROW.with_(width=4 * NARROW.width)


@pytest.fixture
def under_way():
    return {}


@pytest.fixture
def bar(under_way, monkeypatch):
    monkeypatch.setattr(runs_bar, "EVERY_SECONDS", 0.01)
    with runs_bar.RunsBar([NARROW, WIDE], lambda: under_way) as bar:
        yield bar


def test_runs_weigh_what_they_compute_and_seeds_weigh_the_same():
    work = runs_bar.work([NARROW, NARROW.with_(seed=1), WIDE])
    assert work[NARROW.id] == work[NARROW.with_(seed=1).id] == summary.training_flops(NARROW)
    assert work[WIDE.id] > 4 * work[NARROW.id]


def test_a_finished_run_is_counted_and_moves_the_bar_by_its_arithmetic(bar):
    assert bar.bar.desc == "0/2 runs"
    bar.finish(WIDE.id)
    assert bar.bar.desc == "1/2 runs"
    assert bar.bar.n == pytest.approx(bar.work[WIDE.id])
    bar.finish(NARROW.id)
    assert bar.bar.n == pytest.approx(bar.bar.total)


def test_the_bar_moves_within_a_run(bar, under_way):
    assert bar.bar.n == 0
    under_way[WIDE.id] = {"epochs": 1, "of": 2}
    end = time.monotonic() + 20
    while bar.bar.n == 0 and time.monotonic() < end:
        time.sleep(0.01)
    assert bar.bar.n == pytest.approx(bar.work[WIDE.id] / 2)


def test_what_an_interrupted_run_has_finished_is_done_and_no_speed(under_way):
    under_way[WIDE.id] = {"epochs": 1, "of": 2}
    with runs_bar.RunsBar([NARROW, WIDE], lambda: under_way) as bar:
        assert bar.bar.initial == bar.bar.n == pytest.approx(bar.work[WIDE.id] / 2)


def test_nothing_to_do_draws_nothing(capsys):
    with runs_bar.RunsBar([], dict):
        pass
    assert capsys.readouterr().err == ""
