"""A run's state on disk: whole or not at all; one flipped bit is refused; what cannot be used is set aside."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest
import torch
from cifarlab import data, training
from cifarlab.config import PRESETS, RunConfig
from cifarlab.lab import LAB
from labbook.runs import checkpoints, files

SMOKE = RunConfig.of(**PRESETS["smoke"])


@pytest.fixture(scope="module")
def state() -> dict:
    """A run's, after its first epoch."""
    run = training.Training(SMOKE, *data.split(data.load(SMOKE), SMOKE))
    next(run.epochs())
    return run.state_dict()


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "run.checkpoint"


def test_a_state_comes_back_as_it_was(path, state):
    checkpoints.save(path, state, LAB)
    found = checkpoints.load(path, LAB)
    assert found.keys() == state.keys()
    assert found["history"] == state["history"]
    assert all(torch.equal(value, state["model"][name]) for name, value in found["model"].items())
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert checkpoints.load(path.with_name("other"), LAB) is None


def flipped(content: bytes, place: int, bit: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def test_one_flipped_bit_anywhere_is_refused_and_set_aside(path, state):
    checkpoints.save(path, state, LAB)
    whole = path.read_bytes()
    chance = random.Random(0)
    head = range(len(checkpoints.HEAD) + 65)
    places = [*head, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(100))]
    for place in places:
        damaged = flipped(whole, place, chance.randrange(8))
        path.write_bytes(damaged)
        with pytest.warns(files.DamagedResultWarning, match=r"The checkpoint run\.checkpoint is .* set aside as run\."
                                                            r".* The run starts from its first epoch"):
            assert checkpoints.load(path, LAB) is None, place
        assert not path.exists()
        (aside,) = path.parent.iterdir()
        assert aside.read_bytes() == damaged
        aside.unlink()


@pytest.mark.parametrize("kept", [0, 10, 60, 87, 4_000, -1])
def test_a_checkpoint_that_was_cut_short_is_set_aside(path, state, kept):
    checkpoints.save(path, state, LAB)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.warns(files.DamagedResultWarning, match=r"run\.checkpoint is"):
        assert checkpoints.load(path, LAB) is None
    assert [entry.name for entry in path.parent.iterdir()] == ["run.checkpoint.damaged"]


def test_a_checkpoint_of_another_format_is_said_to_be_that(path, state):
    path.write_bytes(LAB.dump(state))   # as the first edition wrote them: whole, but without a digest
    with pytest.warns(files.DamagedResultWarning, match=r"run\.checkpoint is of another format"):
        assert checkpoints.load(path, LAB) is None


def test_code_in_a_checkpoint_does_not_run(path, tmp_path, monkeypatch):
    import io

    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "it ran"),)

    buffer = io.BytesIO()
    torch.save({"history": Runs()}, buffer)
    monkeypatch.setattr(LAB, "dump", lambda _: buffer.getvalue(), raising=False)
    checkpoints.save(path, {}, LAB)
    with pytest.warns(files.DamagedResultWarning, match=r"cannot be read by this code \(UnpicklingError"):
        assert checkpoints.load(path, LAB) is None
    assert not (tmp_path / "it ran").exists()


def test_memory_that_ends_while_it_is_read_says_nothing_of_the_checkpoint(path, state, monkeypatch):
    checkpoints.save(path, state, LAB)

    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(MemoryError):
        checkpoints.load(path, LAB)
    assert path.exists()


def test_a_checkpoint_that_cannot_be_read_at_the_moment_stays(path, state, monkeypatch):
    checkpoints.save(path, state, LAB)

    def failing(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch, pytest.raises(files.StoreError, match=r"run\.checkpoint could not be read"):
        patch.setattr(Path, "read_bytes", failing)
        checkpoints.load(path, LAB)
    assert checkpoints.load(path, LAB)["history"] == state["history"]


def test_a_full_disk_leaves_the_old_checkpoint(path, state, monkeypatch):
    checkpoints.save(path, state, LAB)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(files.StoreError, match="could not be written: No space left"):
        patch.setattr(os, "fsync", full)
        checkpoints.save(path, state | {"history": []}, LAB)
    assert checkpoints.load(path, LAB)["history"] == state["history"]
