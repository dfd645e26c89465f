"""The progress bar: it goes by work, counts what was finished before, moves within a run, and never back."""

from __future__ import annotations

import threading

import pytest
from cifarlab.config import PRESETS, RunConfig
from labbook.lab import the_lab
from labbook.runs import bar as runs_bar
from labbook.runs.scratch import Progress

NARROW = RunConfig.of(**PRESETS["smoke"])
WIDE = NARROW.with_(width=4 * NARROW.width)


@pytest.fixture
def under_way() -> dict[str, Progress]:
    return {}


@pytest.fixture
def bar(under_way):
    with runs_bar.RunsBar([NARROW, WIDE], lambda: under_way) as bar:
        yield bar


def test_a_finished_run_is_counted_and_moves_the_bar_by_its_work(bar):
    assert bar.bar.desc == "0/2 runs"
    bar.finish(WIDE.id)
    assert bar.bar.desc == "1/2 runs"
    assert bar.bar.n == pytest.approx(the_lab().work(WIDE))
    bar.finish(NARROW.id)
    assert bar.bar.n == pytest.approx(bar.bar.total)


def test_the_bar_moves_within_a_run_by_itself(under_way, monkeypatch):
    monkeypatch.setattr(runs_bar, "EVERY_SECONDS", 0.01)
    drawn = threading.Event()
    with runs_bar.RunsBar([NARROW, WIDE], lambda: under_way) as bar:
        assert bar.bar.n == 0
        under_way[WIDE.id] = Progress(epochs=1, of=2)
        monkeypatch.setattr(bar.bar, "refresh", drawn.set)
        assert drawn.wait(600)   # by the thread that follows the runs, whenever it gets to it
        bar.refresh()
        assert bar.bar.n == pytest.approx(bar.work[WIDE.id] / 2)


def test_the_bar_never_moves_back(bar, under_way):
    """A run's note is gone a moment before its end is known, and a checkpoint that was refused lies further back."""
    under_way[WIDE.id] = Progress(epochs=1, of=2)
    bar.refresh()
    half = bar.bar.n
    under_way.clear()
    bar.refresh()
    assert bar.bar.n == half
    bar.finish(WIDE.id)
    assert bar.bar.n == pytest.approx(bar.work[WIDE.id])


def test_what_an_interrupted_run_has_finished_is_done_and_no_speed(under_way):
    under_way[WIDE.id] = Progress(epochs=1, of=2)
    with runs_bar.RunsBar([NARROW, WIDE], lambda: under_way) as bar:
        assert bar.bar.initial == bar.bar.n == pytest.approx(bar.work[WIDE.id] / 2)


def test_nothing_to_do_draws_nothing(capsys):
    with runs_bar.RunsBar([], dict):
        pass
    assert capsys.readouterr().err == ""
