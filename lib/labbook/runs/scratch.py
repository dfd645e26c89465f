"""What a run leaves in the scratch folder while it is under way: checkpoint, note of its progress, locks, weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labbook.paths import scratch_folder
from labbook.runs import store
from labbook.runs.files import StoreError, listed, read_bytes, remove, write_text


class Progress(BaseModel):
    """How far a run is: ``epochs`` finished ``of`` how many."""

    model_config = ConfigDict(frozen=True, strict=True)
    epochs: int = Field(ge=0)
    of: int = Field(ge=1)


def checkpoint_path(run_id: str) -> Path:
    """Where a run that is not finished keeps its state."""
    return scratch_folder() / f"{run_id}.checkpoint"


def progress_path(run_id: str) -> Path:
    """Where a run that is not finished says how far it is."""
    return scratch_folder() / f"{run_id}.progress.json"


def weights_path(run_id: str) -> Path:
    """Where a finished run's weights lie, in half precision."""
    return scratch_folder() / "weights" / f"{run_id}.pt"


class Lock(FileLock):
    """A file that one process at a time holds locked.

    Raises:
        StoreError: when it is acquired where the disk refuses. Timeout: another process holds it.
    """

    def acquire(self, *arguments: Any, **named: Any) -> Any:
        """As filelock has it."""
        try:
            return super().acquire(*arguments, **named)
        except Timeout:
            raise
        except OSError as error:
            raise StoreError(
                f"{self.lock_file} could not be locked: {error.strerror or error}. See to the folder's permissions and "
                "its disk, or choose another for results with LABBOOK_RESULTS."
            ) from error


def lock(run_id: str) -> Lock:
    """What the process that trains a run holds locked."""
    return Lock(scratch_folder() / f"{run_id}.lock")


def claim(run_id: str) -> Lock:
    """What the process that has a run carried out holds locked."""
    return Lock(scratch_folder() / f"{run_id}.claim")


def under_way(run_id: str) -> bool:
    """Whether another process trains this run now."""
    held = lock(run_id)
    if not Path(held.lock_file).exists():
        return False
    try:
        with held.acquire(timeout=0):
            return False
    except Timeout:
        return True
    except StoreError:
        return False  # a store that can only be read: nothing trains in it


def note(run_id: str, epochs: int, of: int) -> None:
    """Write down how far a run is.

    Raises:
        StoreError: the disk refused.
    """
    write_text(progress_path(run_id), Progress(epochs=epochs, of=of).model_dump_json())


def progress_of(run_id: str) -> Progress | None:
    """How far a run is; None where it has not begun, has ended, or its note was cut short by a crash."""
    try:
        content = read_bytes(progress_path(run_id))
        return None if content is None else Progress.model_validate(json.loads(content))
    except (StoreError, ValidationError, ValueError, RecursionError):
        return None


def progress() -> dict[str, Progress]:
    """Runs under way or interrupted, by id."""
    ids = [path.name.removesuffix(".progress.json") for path in listed(scratch_folder(), "*.progress.json")]
    return {run_id: found for run_id in ids if (found := progress_of(run_id))}


def clear(run_id: str) -> None:
    """Remove what a run needs no more once its result is in the store, also what a kill left half-written."""
    folders = {path.parent for path in (checkpoint_path(run_id), weights_path(run_id), store.path_of(run_id))}
    half_written = [path for folder in folders for path in listed(folder, f".{run_id}.*.part")]
    for path in (checkpoint_path(run_id), progress_path(run_id), *half_written):
        remove(path)
