"""The seam between a lab and the machinery: what a lab hands over, and how the machinery finds it.

A lab derives its run configuration from :class:`Config` and describes itself by one :class:`Lab` object. The file
``labbook.toml`` at the project's root names that object: ``lab = "cifarlab.lab:LAB"``.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import sys
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from labbook.errors import ConfigError, LabError, did_you_mean, shown
from labbook.paths import project_root


class Config(BaseModel):
    """Base of a lab's run configuration: every choice that can change a run's numbers, checked and frozen.

    A derived class declares the choices as fields, each with a default; it needs ``epochs`` and ``seed``. Where a run
    takes place is provenance and does not belong here. A field that is dropped later goes to ``retired`` with the value
    that all stored runs have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    retired: ClassVar[Mapping[str, Any]] = {}
    # Fields counted in epochs: they keep their share of a run that is given another length.
    shares: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _read_plainly(cls, values: Any) -> Any:
        """Take 1 for 1.0 where a float is wanted, and leave out retired fields that have their only value."""
        if not isinstance(values, dict):
            return values
        floats = {name for name, field in cls.model_fields.items() if field.annotation is float}
        return {
            name: float(value) if name in floats and type(value) is int and abs(value) < 2**53 else value
            for name, value in values.items() if not (name in cls.retired and value == cls.retired[name])
        }

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Build a configuration.

        Raises:
            ConfigError: one clear line per wrong value: the field, the value, what is allowed.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigError("\n".join(_sentence(cls, problem) for problem in error.errors())) from None

    def with_(self, **changes: Any) -> Self:
        """Return a copy with ``changes`` made and checked."""
        return type(self).of(**(self.model_dump() | changes))

    @property
    def name(self) -> str:
        """The readable beginning of the id: what is trained, for how long, with which seed."""
        return f"run-e{self.epochs}-s{self.seed}"

    @property
    def id(self) -> str:
        """A readable name and eight hex digits of the fields that differ from the defaults.

        Hashing only the differences keeps ids valid when a later version adds a field: never change a default.
        """
        return f"{self.name}-{digest_of(self.model_dump(exclude_defaults=True))}"


def digest_of(changed: Mapping[str, Any]) -> str:
    """The end of a run's id: eight hex digits of the fields that differ from the defaults."""
    return hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]


def _sentence(cls: type[Config], problem: Any) -> str:
    """Turn one of pydantic's problems into a line with the field, the value and the remedy."""
    if not problem["loc"]:
        return problem["msg"].removeprefix("Value error, ")
    name, value = str(problem["loc"][0]), problem["input"]
    if problem["type"] == "extra_forbidden":
        fields = list(cls.model_fields)
        return f"unknown parameter {name!r}{did_you_mean(name, fields)}. Known: {', '.join(fields)}."
    annotation = cls.model_fields[name].annotation
    if allowed := [str(choice) for choice in get_args(annotation)]:
        return f"{name}: {shown(value)} is not known{did_you_mean(value, allowed)}. Allowed: {', '.join(allowed)}."
    sentence = f"{name}: {shown(value)} is refused: {problem['msg'][0].lower()}{problem['msg'][1:]}."
    if isinstance(value, str) and annotation in (int, float):
        try:
            number = annotation(value)
        except ValueError:
            return sentence
        return f"{sentence} It is text to YAML: write {number!r} without quotes."
    return sentence


class Training(Protocol):
    """A run under way, as a lab hands it to the runner: it yields epochs, and its state can be saved and given back."""

    history: list[dict[str, Any]]      # a row a finished epoch; the figures of labbook.runs.store.EpochRow
    gradients: list[dict[str, Any]]    # rows of step and each layer's gradient norm; may stay empty
    diverged: bool                     # whether the loss stopped being a finite number

    def epochs(self, on_step: Callable[[], object] | None = None) -> Iterator[dict[str, Any]]:
        """Train epoch after epoch from where the run is, yielding each one's row, until it is finished or diverged."""

    def state_dict(self) -> dict[str, Any]:
        """Everything from which the run goes on to the same numbers."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``.

        Raises:
            KeyError, ValueError, RuntimeError: it is of another network or optimizer.
        """

    def final(self) -> dict[str, Any]:
        """Further figures of the finished run, such as ``fit_loss`` and ``fit_accuracy``; may be empty."""

    def weights(self) -> bytes | None:
        """The trained network as a file, or None where it is not to be kept."""


class Lab(ABC):
    """What a lab hands to the machinery. Only ``training``, ``dump`` and ``load`` must be written."""

    name: str = "lab"
    config: type[Config]
    presets: Mapping[str, Mapping[str, Any]] = {}
    # Modules whose code can change a run's numbers: their digest is recorded with each run.
    numeric_modules: Sequence[str] = ()
    # Test-time augmentations that :meth:`evaluate` knows.
    views: Sequence[str] = ("one",)
    # Packages whose version is recorded with each run.
    packages: Sequence[str] = ("numpy",)

    @abstractmethod
    def training(self, config: Config, device: Any) -> Training:
        """Load the data, build the network of ``config`` on ``device``, and return the run before its first epoch."""

    @abstractmethod
    def dump(self, state: Mapping[str, Any]) -> bytes:
        """Turn a training state into bytes for a checkpoint file."""

    @abstractmethod
    def load(self, content: bytes) -> dict[str, Any]:
        """Read what :meth:`dump` wrote, without running any code that it may contain."""

    def choose_device(self, name: str = "auto") -> Any:
        """The device called ``name``: ``auto``, ``cpu``, or what else the lab knows.

        Raises:
            DeviceError: it is not known or not there.
        """
        if name not in ("auto", "cpu"):
            raise DeviceError(f"device: {name!r} is not known. Allowed: auto, cpu.")
        return "cpu"

    def resolve(self, config: Config, device: Any) -> tuple[Config, str]:
        """Make choices that depend on the machine concrete; returns the configuration and a line that says so."""
        return config, ""

    def check_data(self, configs: Sequence[Config]) -> None:  # noqa: B027, a lab without files has none to check
        """Refuse before any run starts where the data of ``configs`` are missing or damaged.

        Raises:
            LabError: names the file and the remedy.
        """

    def set_threads(self, count: int | None) -> int:
        """Compute on ``count`` threads from here on (None: as many as now); returns how many that is."""
        return count or 1

    def facts(self, config: Config, device: Any) -> dict[str, Any]:
        """What provenance records of the lab's own: ``device`` (its name), ``precision``, ``dataset_md5``, …"""
        return {"device": str(device), "precision": "float64", "dataset_md5": None}

    def peak_memory(self, device: Any) -> int | None:
        """The peak memory in bytes of a device that counts its own, else None: then the process's is recorded."""
        return None

    def evaluate(self, config: Config, weights: bytes, views: str) -> tuple[Any, Any, Any]:
        """Apply a finished run's ``weights`` to the test set: NumPy's logits (N, classes) float32, labels (N,) int64,
        and the images (N, height, width, channels) uint8. ``views`` is test-time augmentation, ``"one"`` for none.

        Raises:
            LabError: there is no test set, or it is not here.
        """
        raise LabError("This lab has no test set.")

    def work(self, config: Config) -> float:
        """How much a run takes, in any unit, for the progress bar."""
        return float(config.epochs)

    def memory(self, config: Config, device: Any) -> float:
        """How many GB a run's process takes at most."""
        return 1.0

    def at_once(self, configs: Sequence[Config], device: Any, most: int) -> int:
        """How many of these runs to train side by side, at most ``most``; 1 gives every run all cores."""
        return most


class DeviceError(LabError):
    """The device that was asked for is not known or not there."""


@functools.cache
def the_lab() -> Lab:
    """The lab of this project, as ``labbook.toml`` names it.

    Raises:
        LabError: the file is missing or names nothing that can be imported.
    """
    path = project_root() / "labbook.toml"
    try:
        module, _, attribute = tomllib.loads(path.read_text(encoding="utf-8"))["lab"].partition(":")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise LabError(
            f"{path} does not name the lab ({error}). Its line is: lab = \"package.module:OBJECT\"") from None
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # a small lab is one file beside labbook.toml
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except (ImportError, ValueError) as error:
        raise LabError(f"{path} names the lab {module!r}, which cannot be imported: {error}.") from None
    if not isinstance(found, Lab):
        raise LabError(f"{path}: {module}:{attribute} is no Lab object.")
    return found
