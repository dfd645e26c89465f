"""A study as its YAML file describes it: what varies, what stays fixed, which seeds."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from labbook import strict_yaml
from labbook.errors import LabError, did_you_mean, shown
from labbook.lab import Config, the_lab
from labbook.paths import project_root


class StudyError(LabError):
    """A study's file is wrong, or a level or parameter is unknown; the message names it."""


def _plain(value: Any) -> Any:
    if isinstance(value, list | dict | set | tuple | bytes) or value is None:
        raise ValueError(f"{shown(value)} is no single value such as 0.1, adam or true")
    return value


# Generators take seeds of 64 bits, of which JSON's readers keep 53.
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**53)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1)]
Fields = dict[str, Annotated[Any, AfterValidator(_plain)]]
SEEDS = TypeAdapter(Seeds)
CROSS = " / "


def joined(main: str, setting: str) -> str:
    """The name of a crossed study's level, from its two parts."""
    return main + CROSS + setting


def parted(level: str) -> tuple[str, str]:
    """The main level and the setting in a level's name; the setting of a study that is not crossed is empty."""
    main, _, setting = level.partition(CROSS)
    return main, setting


def known_preset(preset: Any) -> str:
    """Return the name of a preset.

    Raises:
        StudyError: the lab has none of that name.
    """
    if preset not in (known := list(the_lab().presets)):
        raise StudyError(
            f"preset: {shown(preset)} is not known{did_you_mean(preset, known)}. Allowed: {', '.join(known)}."
        )
    return preset


ACCURACY = "val_accuracy"
Others = Literal["all"] | Annotated[tuple[str, ...], Field(min_length=1)]


class PlannedClaim(BaseModel):
    """A claim of more than a difference in final validation accuracy, planned in a study's file.

    Written ``[a, b, {by: 2.0}]``: a is higher than b by 2 or more. ``[a, b, {within: 0.5}]``: they differ by less.
    ``[a, b, {of: val_loss}]``: they differ in another final figure, or in one that a chapter computes and names.
    ``[a, {highest: all}]``, ``[a, {lowest: [b, c]}]``: a is above, or below, each of them. ``[a, {reaches: 94}]``: the
    mean of a is so high. Accuracies are in percent and points.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    levels: tuple[str, ...] = Field(min_length=1, max_length=2)
    of: str = ACCURACY
    by: Annotated[float, Field(gt=0)] | None = None
    within: Annotated[float, Field(gt=0)] | None = None
    reaches: float | None = None
    highest: Others | None = None
    lowest: Others | None = None

    @model_validator(mode="before")
    @classmethod
    def _row(cls, row: Any) -> Any:
        if not isinstance(row, list | tuple):
            return row
        if not row or not isinstance(row[-1], dict):
            raise ValueError("a claim is a row such as [a, b, {by: 2.0}]; plain pairs stand under comparisons")
        return {"levels": row[:-1], **row[-1]}

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        said = self.said
        if len(said) > 1 or (len(self.levels) == 1) != (said.keys() <= {"reaches", "highest", "lowest"} and bool(said)):
            raise ValueError("a claim has two levels and at most one of by and within, or one level and one of "
                             "reaches, highest and lowest")
        if len(set(self.levels)) < len(self.levels) or self.levels[0] in self.others:
            raise ValueError(f"{self.levels[0]!r} is compared with itself")
        if not said and self.of == ACCURACY:
            raise ValueError("a plain pair stands under comparisons")
        return self

    @property
    def said(self) -> dict[str, Any]:
        """What is claimed beyond a difference, as a field and its value; empty where that is all."""
        names = ("by", "within", "reaches", "highest", "lowest")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def others(self) -> tuple[str, ...]:
        """The levels that are named of which the first is the highest or lowest."""
        named = self.highest or self.lowest or "all"
        return () if named == "all" else named

    @property
    def key(self) -> tuple:
        """What two rows have in common that claim the same: only a least difference has a direction."""
        levels = self.levels if self.by else tuple(sorted(self.levels))
        return levels, self.of, *((name, tuple(sorted(value)) if isinstance(value, tuple) else value)
                                  for name, value in self.said.items())

    @property
    def line(self) -> str:
        """The row as it stands in a study's file."""
        def written(value: Any) -> str:
            if isinstance(value, tuple):
                return f"[{', '.join(map(written, value))}]"
            return f"{value:g}" if isinstance(value, float) else value if value == "all" else json.dumps(
                value, ensure_ascii=False)

        fields = ({"of": self.of} if self.of != ACCURACY else {}) | self.said
        inside = ", ".join(f"{name}: {written(value)}" for name, value in fields.items())
        return f"- [{', '.join(map(written, self.levels))}, {{{inside}}}]"


class Study(BaseModel):
    """One YAML file of ``studies/``.

    ``crossed`` is a second factor: every level is run with each of its settings, and the study's levels are then named
    ``level / setting``. ``comparisons`` are pairs of levels that are compared besides each level with the reference,
    ``claims`` what a chapter claims beyond such differences (:class:`PlannedClaim`). All are one family: the correction
    counts each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    title: str
    question: str
    factor: str
    preset: Annotated[str, AfterValidator(known_preset)]
    seeds: Seeds
    reference: str
    fixed: Fields = {}
    levels: dict[str, Fields] = Field(min_length=1)
    crossed: dict[str, Fields] = {}
    comparisons: tuple[tuple[str, str], ...] = ()
    claims: tuple[PlannedClaim, ...] = ()

    @model_validator(mode="after")
    def _cross(self) -> Self:
        for where, settings in (("fixed", self.fixed), *self.levels.items(), *self.crossed.items()):
            if "seed" in settings:
                raise ValueError(f"{where}: seed is not for a study to set; its field seeds does")
        if both := sorted(self.set_by_every_level & self.fixed.keys()):
            raise ValueError(f"fixed: {', '.join(both)} would change nothing, every level sets it")
        for name in (*self.levels, *self.crossed):
            if not name.strip():
                raise ValueError("levels: one has an empty name")
            if CROSS in name:
                raise ValueError(f"{name!r} has {CROSS!r} in it, which joins the two names of a crossed study's levels")
        if self.crossed:
            for level, settings in self.levels.items():
                for name, others in self.crossed.items():
                    if both := sorted(settings.keys() & others.keys()):
                        raise ValueError(f"levels: {level!r} and crossed: {name!r} both set {', '.join(both)}")
            pairs = {
                joined(level, name): settings | others
                for level, settings in self.levels.items() for name, others in self.crossed.items()
            }
            # The model is frozen: what follows sees the pairs as its levels, and crossing happens once.
            object.__setattr__(self, "levels", pairs)
            object.__setattr__(self, "crossed", {})
        return self

    @property
    def mains(self) -> list[str]:
        """The levels, where the study is crossed without their settings."""
        return list(dict.fromkeys(parted(level)[0] for level in self.levels))

    @property
    def settings(self) -> list[str]:
        """The settings of a crossed study's second factor; of any other one empty name."""
        return list(dict.fromkeys(parted(level)[1] for level in self.levels))

    @property
    def set_by_every_level(self) -> set[str]:
        """The fields of a run that every level sets: what the study is about, so no parameter reaches them."""
        return set.intersection(*(set(settings) for settings in self.levels.values()))

    def config(self, level: str, seed: int, preset: str | None = None, **overrides: Any) -> Config:
        """The run of one level and seed. ``overrides`` whose value is None are left to the preset.

        Another preset than the study's own is a budget that wins over ``fixed``. Nothing wins over what a level sets:
        that is what the study is about. Only a warm-up, and the epochs of small images, keep their share of a run that
        gets another length, so that studies go on having runs in common and a run goes on having both kinds of epochs.

        Raises:
            StudyError: no such level or preset. ConfigError: a value is refused.
        """
        if level not in self.levels:
            raise StudyError(
                f"level: {shown(level)} is not in study {self.name!r}{did_you_mean(level, list(self.levels))}. "
                f"Known: {', '.join(self.levels)}."
            )
        preset = self.preset if preset is None else known_preset(preset)
        presets = the_lab().presets
        own, of_level = dict(presets[self.preset]) | self.fixed, self.levels[level]
        budget = presets[preset] if preset != self.preset else {}
        given = {name: value for name, value in overrides.items() if value is not None}
        values = own | budget | given | of_level | {"seed": seed}
        return the_lab().config.of(**_with_shares(values, own | of_level, as_given=given.keys() - of_level.keys()))

    def runs(
        self, levels: Sequence[str] | None = None, seeds: Sequence[int] | None = None,
        preset: str | None = None, **overrides: Any,
    ) -> list[tuple[str, Config]]:
        """Every (level, configuration), seed by seed, so that an unfinished study already has every level.

        Raises:
            StudyError: two levels would be the same run.
        """
        runs: dict[str, tuple[str, Config]] = {}
        for seed in self.seeds if seeds is None else seeds:
            for level in self.levels if levels is None else levels:
                config = self.config(level, seed, preset, **overrides)
                if config.id in runs:
                    raise StudyError(
                        f"levels: {level!r} and {runs[config.id][0]!r} of study {self.name!r} are the same run"
                        + (f" with {_said(preset=preset, **overrides)}" if preset or overrides else "")
                    )
                runs[config.id] = level, config
        return list(runs.values())


def _said(**given: Any) -> str:
    return ", ".join(f"{name} = {shown(value)}" for name, value in given.items() if value is not None)


def studies_folder() -> Path:
    return project_root() / "studies"


def names(folder: Path | None = None) -> list[str]:
    """The names of all studies."""
    return sorted(path.stem for path in (folder or studies_folder()).glob("*.yml"))


def load(name: str, folder: Path | None = None) -> Study:
    """Read and check ``studies/<name>.yml``.

    Raises:
        StudyError: no such study, or something in it is unknown, duplicate or refused, named.
    """
    folder = folder or studies_folder()
    known = names(folder)
    if name not in known:
        raise StudyError(f"study: {shown(name)} is not known{did_you_mean(name, known)}. Known: {', '.join(known)}.")
    path = folder / f"{name}.yml"
    try:
        return _checked(name, strict_yaml.parse(_text(path)))
    except ValidationError as error:
        raise StudyError("\n".join(f"{path.name}: {_sentence(problem)}" for problem in error.errors())) from None
    except LabError as error:
        raise StudyError("\n".join(f"{path.name}: {line}" for line in str(error).splitlines())) from None


def _text(path: Path) -> str:
    if not path.is_file():   # nothing else is opened: a named pipe would wait for ever
        raise StudyError("it is no file, but a folder, a broken link or a device. Remove it.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise StudyError(f"it is not written in UTF-8 ({error}). Save it as UTF-8.") from None
    except OSError as error:
        raise StudyError(f"it cannot be read: {error.strerror}.") from None


def _checked(name: str, fields: Any) -> Study:
    if not isinstance(fields, dict):
        raise StudyError("it is empty or no list of fields such as `title: …`")
    if "name" in fields:
        raise StudyError("unknown field 'name': a study is named by its file")
    study = Study(**{str(field): value for field, value in fields.items()}, name=name)
    if study.reference not in study.levels:
        raise StudyError(f"reference: {shown(study.reference)} is not one of its levels"
                         f"{did_you_mean(study.reference, list(study.levels))}")
    if len(set(study.seeds)) < len(study.seeds):
        raise StudyError("seeds: one appears twice")
    for pair in study.comparisons:
        if unknown := [level for level in pair if level not in study.levels]:
            raise StudyError(f"comparisons: {shown(unknown[0])} is not one of its levels"
                             f"{did_you_mean(unknown[0], list(study.levels))}")
        if pair[0] == pair[1]:
            raise StudyError(f"comparisons: {pair[0]!r} is compared with itself")
    for claim in study.claims:
        unknown = [level for level in (*claim.levels, *claim.others) if level not in study.levels]
        if claim.of == ACCURACY and unknown:
            raise StudyError(f"claims: {shown(unknown[0])} is not one of its levels"
                             f"{did_you_mean(unknown[0], list(study.levels))}")
    if len({claim.key for claim in study.claims}) < len(study.claims):
        raise StudyError("claims: one appears twice")
    study.runs()   # refuses what the lab refuses, and levels that are the same run
    return study


def _sentence(problem: Any) -> str:
    """One of pydantic's problems as a sentence with the field, the value and the remedy."""
    message = problem["msg"].removeprefix("Value error, ")
    where = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    if "[key]" in problem["loc"]:
        return f"{where}: the name {shown(problem['input'])} is no text for YAML. Put it in quotes."
    if problem["type"] == "extra_forbidden":
        known = [name for name in Study.model_fields if name != "name"]
        return f"unknown field {shown(where)}{did_you_mean(where, known)}. Known: {', '.join(known)}."
    if problem["type"] == "missing":
        return f"the field {where!r} is missing."
    if problem["type"] == "value_error":
        return f"{where}: {message}." if where else message
    remedy = " Put it in quotes." if problem["type"] == "string_type" and not isinstance(
        problem["input"], dict | list) else ""
    return f"{where}: {shown(problem['input'])} is refused: {message[0].lower()}{message[1:]}.{remedy}"


def _with_shares(values: dict[str, Any], planned: dict[str, Any], as_given: Collection[str]) -> dict[str, Any]:
    """A run's ``values``; where its epochs are others than ``planned``, fields counted in epochs keep their share.

    Those in ``as_given`` stay as they are.
    """
    config = the_lab().config
    default = {name: field.default for name, field in config.model_fields.items()}
    epochs, before = ((default | fields)["epochs"] for fields in (values, planned))
    try:
        float(epochs), float(before)
    except (TypeError, ValueError, OverflowError):   # no number of epochs: it is refused with the other fields
        return values
    if epochs == before or type(epochs) is not int or epochs <= 0:
        return values
    shares = {name: (default | values)[name] for name in config.shares if name not in as_given}
    return values | {name: share * epochs / before for name, share in shares.items()}
