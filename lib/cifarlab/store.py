"""Results as files: written whole or not at all, checked when read, shown as tables. Does not import torch."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from cifarlab.config import ConfigError, RunConfig
from cifarlab.errors import LabError
from cifarlab.paths import runs_folder

SCHEMA = 1


class StoreError(LabError):
    """A result cannot be written; the message names the file and the remedy."""


class DamagedResultWarning(UserWarning):
    """A result file was damaged or foreign and has been set aside."""


class EpochRow(BaseModel):
    """One epoch. Losses in nats, accuracies as fractions; None where the loss was not a
    finite number, and for validation where no image was held out."""

    model_config = ConfigDict(extra="forbid")
    epoch: int
    train_loss: float | None
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    learning_rate: float
    seconds: float
    val_seconds: float


class Final(BaseModel):
    """The last epoch's figures and whether the run diverged.

    ``fit_loss`` and ``fit_accuracy`` are the finished network's on training images as it would be tested: in evaluation
    mode, without augmentation or dropout. ``train_loss`` is met on the way, with both. Older results lack them.
    """

    model_config = ConfigDict(extra="forbid")
    train_loss: float | None
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    diverged: bool
    fit_loss: float | None = None
    fit_accuracy: float | None = None


class GradientRow(BaseModel):
    """The L2 norm of each layer's gradient at one optimizer step, counted from 0; None where it was not finite."""

    model_config = ConfigDict(extra="forbid")
    step: int
    norms: dict[str, float | None]


class Result(BaseModel):
    """One run's file."""

    model_config = ConfigDict(extra="forbid")
    schema_version: Literal[1]
    id: str
    config: dict[str, Any]
    history: list[EpochRow]
    final: Final
    gradients: list[GradientRow] = []
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _belongs(self) -> Result:
        expected = RunConfig.of(**self.config).id
        if expected != self.id:
            raise ValueError(f"its id is {self.id!r} but its configuration's is {expected!r}")
        return self


def path_of(run_id: str) -> Path:
    """Where the result of ``run_id`` lies, or will."""
    return runs_folder() / f"{run_id}.json"


def write_text(path: Path, text: str) -> None:
    """Write ``text`` so that ``path`` holds all of it or what it held before.

    Raises:
        StoreError: the disk refused.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Like :func:`write_text`, for bytes."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise StoreError(
            f"{path} could not be written: {error.strerror or error}. Nothing was half-written. "
            "Free some space (or choose another folder with CIFARLAB_RESULTS) and run it again: "
            "a finished run's checkpoint is kept, so nothing is trained twice."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def write(result: Result) -> Path:
    """Write a run's result and return its path. See :func:`write_text` for what can go wrong."""
    path = path_of(result.id)
    write_text(path, json.dumps(result.model_dump(), indent=1, allow_nan=False) + "\n")
    return path


def _read(path: Path) -> Result | None:
    try:
        result = Result.model_validate(json.loads(path.read_bytes()))
        if result.id != path.stem:
            raise ValueError(f"it holds the run {result.id!r}")
        return result
    except (ValidationError, ConfigError, ValueError) as error:
        aside = path.with_name(path.name + ".damaged")
        path.replace(aside)
        reason = " ".join(str(error).split())[:200]
        warnings.warn(
            f"The result file {path.name} is damaged or foreign ({reason}). It is set aside as {aside.name}, not "
            "deleted. Restore it from git, or run its study again to make a new one.",
            DamagedResultWarning,
            stacklevel=3,
        )
        return None


def read(run_id: str) -> Result | None:
    """Return the result of ``run_id``, or None where there is none.

    A damaged or foreign file is set aside under another name, with a :class:`DamagedResultWarning` that names it.
    """
    path = path_of(run_id)
    return _read(path) if path.is_file() else None


def read_all() -> list[Result]:
    """Every result in the store, by id."""
    results = [_read(path) for path in sorted(runs_folder().glob("*.json"))]
    return [result for result in results if result]


def set_aside() -> list[str]:
    """Names of the files that were set aside as damaged and still lie there."""
    return sorted(path.name for path in runs_folder().glob("*.damaged"))


def history_frame(results: list[Result]) -> pd.DataFrame:
    """One row per run and epoch, with the run's ``id``."""
    rows = [{"id": result.id, **row.model_dump()} for result in results for row in result.history]
    return pd.DataFrame(rows, columns=["id", *EpochRow.model_fields])
