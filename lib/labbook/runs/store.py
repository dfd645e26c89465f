"""Results as files: written whole or not at all, checked when read, shown as tables. Does not import torch."""

from __future__ import annotations

import itertools
import json
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cifarlab.config import RunConfig, digest_of
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from labbook.errors import ConfigError, LabError
from labbook.paths import results_root, runs_folder

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
# What chapters say about where a result came from, and what they name of its processor and versions.
PROVENANCE = (
    "date", "device", "cpu", "threads", "precision", "versions", "git_commit", "git_clean", "code_digest",
    "training_seconds", "images_per_second", "peak_memory_bytes",
)
INSIDE = {"cpu": ("model", "instructions"), "versions": ("python", "torch", "torchvision")}
Fraction = Annotated[float, Field(ge=0, le=1)]


class StoreError(LabError):
    """A result cannot be written; the message names the file and the remedy."""


class DamagedResultWarning(UserWarning):
    """A file in the results folder was damaged or foreign and has been set aside."""


class EpochRow(BaseModel):
    """One epoch. Losses in nats, accuracies as fractions; None where the loss was not a
    finite number, and for validation where no image was held out."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    epoch: int
    train_loss: float | None
    train_accuracy: Fraction
    val_loss: float | None
    val_accuracy: Fraction | None
    learning_rate: float
    seconds: float
    val_seconds: float


class Final(BaseModel):
    """The last epoch's figures and whether the run diverged.

    ``fit_loss`` and ``fit_accuracy`` are the finished network's on training images as it would be tested: in evaluation
    mode, without augmentation or dropout. ``train_loss`` is met on the way, with both. Older results lack them.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    train_loss: float | None
    train_accuracy: Fraction
    val_loss: float | None
    val_accuracy: Fraction | None
    diverged: bool
    fit_loss: float | None = None
    fit_accuracy: Fraction | None = None


class GradientRow(BaseModel):
    """The L2 norm of each layer's gradient at one optimizer step, counted from 0; None where it was not finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
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
    def _consistent(self) -> Result:
        config = RunConfig.of(**self.config)
        if config.id != self.id:
            raise ValueError(f"its id is {self.id!r} but its configuration's is {config.id!r}")
        epochs = len(self.history)
        if [row.epoch for row in self.history] != list(range(1, epochs + 1)):
            raise ValueError("the epochs of its history are not numbered 1, 2, …")
        if not 1 <= epochs <= config.epochs or (epochs < config.epochs and not self.final.diverged):
            raise ValueError(f"its history has {epochs} epochs, its configuration {config.epochs}")
        names = ("train_loss", *(("val_loss", "val_accuracy") if config.val_images else ()))
        # The epoch in which a run diverged is its last.
        for row in self.history[: epochs - self.final.diverged]:
            if absent := [name for name in names if getattr(row, name) is None]:
                raise ValueError(f"it did not diverge in epoch {row.epoch}, but has no {absent[0]} there")
        last = self.history[-1]
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
            if getattr(self.final, name) != getattr(last, name):
                raise ValueError(
                    f"its final {name} is {getattr(self.final, name)}, its last epoch's {getattr(last, name)}"
                )
        facts = self.provenance
        lacking = [name for name in PROVENANCE if name not in facts]
        lacking += [f"{outer}.{name}" for outer in INSIDE for name in INSIDE[outer] if name not in facts.get(outer, ())]
        lacking += ["code_digest of a sitting" for s in facts.get("sittings", []) if "code_digest" not in s]
        if lacking:
            raise ValueError(f"its provenance lacks {', '.join(lacking)}")
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
            "a run goes on from its last checkpoint."
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are not there.

    Raises:
        StoreError: the disk refused.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"The folder {path} could not be made: {error.strerror or error}. Choose another for results with "
            "CIFARLAB_RESULTS."
        ) from error


def write(result: Result) -> Path:
    """Write a run's result and return its path. See :func:`write_text` for what can go wrong."""
    path = path_of(result.id)
    write_text(path, json.dumps(result.model_dump(), indent=1, allow_nan=False) + "\n")
    return path


def put_aside(path: Path, why: str, remedy: str) -> None:
    """Rename a file that cannot be used to its first free ``.damaged`` name, with a warning: it is never deleted."""
    names = itertools.chain([f"{path.name}.damaged"], (f"{path.name}.{n}.damaged" for n in itertools.count(2)))
    aside = next(place for name in names if not (place := path.with_name(name)).exists())
    try:
        path.rename(aside)
    except FileNotFoundError:
        return  # Another process read it at the same time, has put it aside and says so.
    except OSError as error:
        raise StoreError(f"{why}, and it could not be set aside as {aside.name}: {error.strerror or error}. {remedy}"
                         ) from error
    warnings.warn(
        f"{why}. It is set aside as {aside.name}, not deleted. {remedy}", DamagedResultWarning, stacklevel=4
    )


def put_aside_evidence(run_id: str) -> None:
    """Put aside the test predictions and weights that were kept of an earlier run with this id."""
    for folder in ("predictions", "models"):
        for path in sorted((results_root() / folder).glob(f"{run_id}.*")):
            if path.suffix != ".damaged":
                put_aside(path, f"{path.name} in {folder}/ is of an earlier run of this configuration",
                          "`python -m labbook final-test` makes it again.")


def _of_newer_library(fields: Any) -> bool:
    """Whether a result file is of a later version: another schema, or fields or choices that are unknown here."""
    if not isinstance(fields, dict) or not isinstance(fields.get("config"), dict):
        return False
    schema, config, final = (fields.get(name) for name in ("schema_version", "config", "final"))
    if schema != SCHEMA:
        return isinstance(schema, int) and schema > SCHEMA
    more = config.keys() > RunConfig.model_fields.keys() or (
        isinstance(final, dict) and final.keys() > Final.model_fields.keys())
    return more or _of_unknown_choices(config, fields.get("id"))


def _of_unknown_choices(config: dict[str, Any], run_id: Any) -> bool:
    """Whether a configuration is refused here though it is the one that its run's id was made of: it is not damaged."""
    try:
        RunConfig.of(**config)
    except ConfigError:
        defaults = {name: field.default for name, field in RunConfig.model_fields.items()}
        changed = {name: value for name, value in config.items() if name not in defaults or value != defaults[name]}
        return str(run_id).endswith(f"-{digest_of(changed)}")
    return False


def _reason(error: Exception) -> str:
    """In one line what is wrong; of pydantic's problems the first, without its advertisement."""
    text = str(error)
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False, include_input=False)[0]
        text = f"{'.'.join(map(str, problem['loc']))} {problem['msg']}"
    return " ".join(text.split())[:200]


def _read(path: Path) -> Result | None:
    fields = None
    try:
        fields = json.loads(path.read_bytes())
        result = Result.model_validate(fields)
        if result.id != path.stem:
            raise ValueError(f"it holds the run {result.id!r}")
        return result
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(
            f"The result file {path} could not be read: {error.strerror or error}. See to its permissions and its "
            "disk, or choose another folder for results with CIFARLAB_RESULTS."
        ) from error
    except (ValidationError, ConfigError, ValueError, TypeError) as error:
        reason = _reason(error)
        if _of_newer_library(fields):
            raise StoreError(
                f"The result file {path.name} was written by a newer version of this library ({reason}). It is left "
                "as it is: update the library, or choose another folder for results with CIFARLAB_RESULTS."
            ) from None
        put_aside(
            path, f"The result file {path.name} is damaged or foreign ({reason})",
            "Restore it from git, or run its study again to make a new one.",
        )
        return None


def read(run_id: str) -> Result | None:
    """Return the result of ``run_id``, or None where there is none.

    A damaged or foreign file is set aside under another name, with a :class:`DamagedResultWarning` that names it.

    Raises:
        StoreError: a newer version of this library wrote it, or the disk refused.
    """
    return _read(path_of(run_id))


def read_all(folder: Path | None = None) -> list[Result]:
    """Every result in the store, or in another folder, by id."""
    results = [_read(path) for path in sorted((folder or runs_folder()).glob("*.json"))]
    return [result for result in results if result]


def set_aside() -> list[str]:
    """Names of the results, predictions and models that were set aside and still lie there."""
    folders = (runs_folder(), results_root() / "predictions", results_root() / "models")
    return sorted(path.name for folder in folders for path in folder.glob("*.damaged"))


def history_frame(results: list[Result]) -> pd.DataFrame:
    """One row per run and epoch, with the run's ``id``."""
    import pandas as pd  # a quarter of a second to import, and a training run needs none of it

    rows = [{"id": result.id, **row.model_dump()} for result in results for row in result.history]
    return pd.DataFrame(rows, columns=["id", *EpochRow.model_fields])
