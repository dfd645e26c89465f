"""What a run leaves while it is under way: any entry in that folder is input, and none of it is evidence."""

from __future__ import annotations

import os
import warnings

import pytest
from labbook.paths import scratch_folder
from labbook.runs import engine, scratch, store
from labbook.runs.scratch import Progress

ODD = {
    "empty": b"", "cut short": b'{"epochs": 1, "o', "a list": b"[]", "lists": b"[[[[]]]]", "a number": b"7",
    "null": b"null", "deep": b"[" * 100_000, "no text": b"\xff\xfe", "epochs a text": b'{"epochs": "x", "of": 5}',
    "epochs negative": b'{"epochs": -1, "of": 5}', "of nothing": b'{"epochs": 0, "of": 0}',
    "true": b'{"epochs": true, "of": 5}', "a long number": b'{"epochs": ' + b"1" * 5000 + b', "of": 5}',
    "infinite": b'{"epochs": Infinity, "of": 5}',
}


@pytest.fixture
def folder(results):
    scratch_folder().mkdir(parents=True)
    return scratch_folder()


def test_a_note_says_how_far_a_run_is(results):
    assert scratch.progress() == {}
    scratch.note("mine", 1, 5)
    assert scratch.progress() == {"mine": Progress(epochs=1, of=5)}
    assert scratch.progress_of("mine") == Progress(epochs=1, of=5)
    assert scratch.progress_of("another") is None


@pytest.mark.parametrize("name", ODD)
def test_a_note_that_is_none_is_passed_over(folder, name):
    scratch.note("whole", 1, 5)
    scratch.progress_path("odd").write_bytes(ODD[name])
    assert scratch.progress() == {"whole": Progress(epochs=1, of=5)}


def test_fields_of_other_versions_in_a_note_are_passed_over(folder):
    scratch.progress_path("odd").write_text('{"epochs": 1, "of": 5, "threads": "x", "alive": []}')
    assert scratch.progress_of("odd") == Progress(epochs=1, of=5)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("nowhere", path)])
def test_an_entry_that_is_no_file_is_passed_over_and_not_waited_for(folder, make):
    scratch.note("whole", 1, 5)
    for name in ("odd.progress.json", f"{'x' * 241}.progress.json"):
        make(folder / name)
    assert scratch.progress() == {"whole": Progress(epochs=1, of=5)}
    scratch.clear("odd")


def test_a_run_is_under_way_while_its_process_holds_its_lock(folder):
    assert not scratch.under_way("mine")
    with scratch.lock("mine"):
        assert scratch.under_way("mine")
        assert not scratch.under_way("another")
    assert not scratch.under_way("mine")


def test_what_a_kill_left_half_written_is_cleared_with_the_run(results):
    places = [scratch.checkpoint_path("mine").parent, scratch.weights_path("mine").parent, store.runs_folder()]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    mine = [place / f".mine.{end}.123.part" for place, end in zip(places, ("checkpoint", "pt", "json"), strict=True)]
    others = places[0] / ".another.checkpoint.123.part"
    for path in (*mine, others, scratch.checkpoint_path("mine"), scratch.progress_path("mine")):
        path.touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scratch.clear("mine")
    assert [path for place in places for path in place.iterdir() if path.is_file()] == [others]


def test_a_run_that_another_call_carries_out_is_taken_last(results):
    """The claim holds while its kernel only starts and holds no lock yet."""
    from collections import deque

    from cifarlab.config import PRESETS, RunConfig

    smoke = RunConfig.of(**PRESETS["smoke"])
    configs = [smoke.with_(seed=seed) for seed in range(3)]
    scratch_folder().mkdir(parents=True)
    taken, claim = engine.take(deque(configs))
    assert taken == configs[0]
    todo = deque(configs)
    second, claim_to_it = engine.take(todo)
    assert (second, list(todo)) == (configs[1], [configs[0], configs[2]])
    claim.release()
    again, _ = engine.take(deque(configs))
    assert again == configs[0]
    claim_to_it.release()
