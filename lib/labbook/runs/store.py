"""Results as files: one JSON a run, checked when it is read, shown as tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from labbook.errors import ConfigError
from labbook.lab import digest_of, the_lab
from labbook.paths import results_root, runs_folder
from labbook.runs.files import StoreError, listed, quarantine, read_bytes, write_text

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, strict=True)]
Digest = Annotated[str, Field(min_length=1, max_length=64)]


class Part(BaseModel):
    """A part of a result file: no unknown fields, no infinite numbers."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class EpochRow(Part):
    """One epoch. Losses in nats, accuracies as fractions; None where the loss was not a finite number, and for
    validation where no image was held out."""

    epoch: int
    train_loss: float | None
    train_accuracy: Fraction
    val_loss: float | None
    val_accuracy: Fraction | None
    learning_rate: float
    seconds: float
    val_seconds: float


class Final(Part):
    """The last epoch's figures and whether the run diverged.

    ``fit_loss`` and ``fit_accuracy`` are the finished network's on training images as it would be tested: in evaluation
    mode, without augmentation or dropout. ``train_loss`` is met on the way, with both. Older results lack them.
    """

    train_loss: float | None
    train_accuracy: Fraction
    val_loss: float | None
    val_accuracy: Fraction | None
    diverged: bool
    fit_loss: float | None = None
    fit_accuracy: Fraction | None = None


class GradientRow(Part):
    """The L2 norm of each layer's gradient at one optimizer step, counted from 0; None where it was not finite."""

    step: int
    norms: dict[str, float | None]


class Cpu(Part):
    """A processor: its model's name and those of its instruction sets that decide how fast and how it rounds."""

    model: str
    instructions: list[str]
    held_to: str | None = None


class Sitting(Part):
    """One stretch of training without interruption: after how many epochs it began, and by what it was made."""

    after_epochs: Count
    code_digest: Digest
    device: str
    threads: Count
    cpu: Cpu | None = None
    date: str | None = None
    versions: dict[str, str] | None = None


class Provenance(Part):
    """Where, when and with what a run was made: facts that are not part of its identity."""

    date: str
    device: str
    cpu: Cpu
    threads: Count
    platform: str = ""
    precision: str
    versions: dict[str, str]
    dataset_md5: str | None = None
    git_commit: str | None
    git_clean: bool | None
    code_digest: Digest
    wall_seconds: float | None = None
    training_seconds: float
    images_per_second: float | None = None
    peak_memory_bytes: Count
    sittings: list[Sitting] = []
    resumed_after_epochs: list[Count] = []   # in the place of sittings, in the oldest files

    @model_validator(mode="after")
    def _dated(self) -> Provenance:
        _date.validate_python(self.date)
        if "python" not in self.versions:
            raise ValueError("its versions do not name python's")
        return self


_date = TypeAdapter(AwareDatetime)


class Result(Part):
    """One run's file. ``config`` is the configuration as it was written; :attr:`run` is it, checked."""

    schema_version: Literal[1]
    id: str
    config: dict[str, Any]
    history: list[EpochRow]
    final: Final
    gradients: list[GradientRow] = []
    provenance: Provenance

    @property
    def facts(self) -> dict[str, Any]:
        """The provenance as it was written: plain values, without what the file does not have."""
        return self.provenance.model_dump(exclude_unset=True)

    @model_validator(mode="after")
    def _consistent(self) -> Result:
        config = the_lab().config.model_validate(self.config)
        if config.id != self.id:
            raise ValueError(f"its id is {self.id!r} but its configuration's is {config.id!r}")
        epochs = len(self.history)
        if [row.epoch for row in self.history] != list(range(1, epochs + 1)):
            raise ValueError("the epochs of its history are not numbered 1, 2, …")
        if not 1 <= epochs <= config.epochs or (epochs < config.epochs and not self.final.diverged):
            raise ValueError(f"its history has {epochs} epochs, its configuration {config.epochs}")
        held_out = getattr(config, "val_images", None) != 0
        names = ("train_loss", *(("val_loss", "val_accuracy") if held_out else ()))
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
        return self


def path_of(run_id: str) -> Path:
    """Where the result of ``run_id`` lies, or will."""
    return runs_folder() / f"{run_id}.json"


def write(result: Result) -> Path:
    """Write a run's result and return its path.

    Raises:
        StoreError: the disk refused.
    """
    path = path_of(result.id)
    fields = result.model_dump(exclude_unset=True)
    write_text(path, json.dumps(fields, indent=1, allow_nan=False) + "\n")
    return path


def quarantine_evidence(run_id: str) -> None:
    """Put aside the test predictions and weights that were kept of an earlier run with this id."""
    for folder in ("predictions", "models"):
        for path in listed(results_root() / folder, f"{run_id}.*"):
            if path.suffix != ".damaged":
                quarantine(path, f"{path.name} in {folder}/ is of an earlier run of this configuration",
                           "`python -m labbook final-test` makes it again.")


def _of_newer_library(fields: Any) -> bool:
    """Whether a result file is of a later version of this library or of the lab: another schema, or a configuration
    that is refused here though it is the one that its run's id was made of."""
    if not isinstance(fields, dict) or not isinstance(config := fields.get("config"), dict):
        return False
    if (schema := fields.get("schema_version")) != SCHEMA:
        return isinstance(schema, int) and schema > SCHEMA
    cls = the_lab().config
    try:
        cls.model_validate(config)
    except (ValidationError, ConfigError):
        changed = {name: value for name, value in config.items() if name not in cls.retired and (
            name not in cls.model_fields or value != cls.model_fields[name].default)}
        return str(fields.get("id")).endswith(f"-{digest_of(changed)}")
    return False


def _reason(error: Exception) -> str:
    """In one line what is wrong; of pydantic's problems the first, without its advertisement."""
    text = str(error)
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False, include_input=False)[0]
        text = f"{'.'.join(map(str, problem['loc']))} {problem['msg']}"
    return " ".join(text.split())[:200]


def _read(path: Path) -> Result | None:
    if (content := read_bytes(path)) is None:
        return None
    fields = None
    try:
        fields = json.loads(content)
        result = Result.model_validate(fields)
        if result.id != path.stem:
            raise ValueError(f"it holds the run {result.id!r}")
        return result
    except StoreError:
        raise
    # A file is input: whatever the reading of it raises, it is the file that is wrong.
    except (ValueError, TypeError, ArithmeticError, RecursionError, AttributeError, KeyError) as error:
        reason = _reason(error)
        try:
            newer = _of_newer_library(fields)
        except (ValueError, TypeError, ArithmeticError, RecursionError):
            newer = False
        if newer:
            raise StoreError(
                f"The result file {path.name} was written by a newer version of this library ({reason}). It is left "
                "as it is: update the library, or choose another folder for results with LABBOOK_RESULTS."
            ) from None
        quarantine(
            path, f"The result file {path.name} is damaged or foreign ({reason})",
            "Restore it from git, or run its study again to make a new one.",
        )
        return None


def read(run_id: str) -> Result | None:
    """Return the result of ``run_id``, or None where there is none.

    A damaged or foreign file is set aside under another name, with a warning that names it.

    Raises:
        StoreError: a newer version of this library wrote it, or the disk refused.
    """
    return _read(path_of(run_id))


def read_all(folder: Path | None = None) -> list[Result]:
    """Every result in the store, or in another folder, by id."""
    results = [_read(path) for path in listed(folder or runs_folder(), "*.json")]
    return [result for result in results if result]


def set_aside() -> list[str]:
    """Names of the results, predictions and models that were set aside and still lie there."""
    folders = (runs_folder(), results_root() / "predictions", results_root() / "models")
    return sorted(path.name for folder in folders for path in listed(folder, "*.damaged"))


def history_frame(results: list[Result]) -> pd.DataFrame:
    """One row per run and epoch, with the run's ``id``."""
    import pandas as pd  # a quarter of a second to import, and a training run needs none of it

    rows = [{"id": result.id, **row.__dict__} for result in results for row in result.history]
    return pd.DataFrame(rows, columns=["id", *EpochRow.model_fields])
