"""Studies: what varies, what stays fixed, which seeds; and :func:`ensure`, which turns one into results."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pandas as pd
import yaml
from cifarlab.config import PRESETS, RunConfig
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from labbook.errors import ConfigError, LabError, did_you_mean
from labbook.paths import project_root, runs_folder
from labbook.runs import provenance, store
from labbook.runs.execution import RunFailedError, execute_all
from labbook.runs.packing import execute_packed


class StudyError(LabError):
    """A study's file is wrong, or a level or parameter is unknown; the message names it."""


CROSS = " / "
# Fields that are a part of a run's epochs.
SHARES = ("warmup_epochs", "low_resolution_epochs", "whitening_bias_epochs")


def joined(main: str, setting: str) -> str:
    """The name of a crossed study's level, from its two parts."""
    return main + CROSS + setting


def parted(level: str) -> tuple[str, str]:
    """The main level and the setting in a level's name; the setting of a study that is not crossed is empty."""
    main, _, setting = level.partition(CROSS)
    return main, setting


class Study(BaseModel):
    """One YAML file of ``studies/``.

    ``crossed`` is a second factor: every level is run with each of its settings, and the study's levels are then named
    ``level / setting``. ``comparisons`` are pairs of levels that are compared besides each level with the reference.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    title: str
    question: str
    factor: str
    preset: Literal["smoke", "laptop", "report"]
    seeds: tuple[Annotated[int, Field(strict=True, ge=0)], ...] = Field(min_length=1)
    reference: str
    fixed: dict[str, Any] = {}
    levels: dict[str, dict[str, Any]] = Field(min_length=1)
    crossed: dict[str, dict[str, Any]] = {}
    comparisons: tuple[tuple[str, str], ...] = ()

    @model_validator(mode="after")
    def _cross(self) -> Self:
        for where, settings in (("fixed", self.fixed), *self.levels.items(), *self.crossed.items()):
            if "seed" in settings:
                raise ValueError(f"{where}: seed is not for a study to set; its field seeds does")
        if both := sorted(self.set_by_every_level & self.fixed.keys()):
            raise ValueError(f"fixed: {', '.join(both)} would change nothing, every level sets it")
        for name in (*self.levels, *self.crossed):
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

    def config(self, level: str, seed: int, preset: str | None = None, **overrides: Any) -> RunConfig:
        """The run of one level and seed. ``overrides`` whose value is None are left to the preset.

        Another preset than the study's own is a budget that wins over ``fixed``. Nothing wins over what a level sets:
        that is what the study is about. Only a warm-up, and the epochs of small images, keep their share of a run that
        gets another length, so that studies go on having runs in common and a run goes on having both kinds of epochs.

        Raises:
            StudyError: no such level or preset. ConfigError: a value is refused.
        """
        if level not in self.levels:
            raise StudyError(
                f"level: {level!r} is not in study {self.name!r}{did_you_mean(level, list(self.levels))}. "
                f"Known: {', '.join(self.levels)}."
            )
        preset = preset or self.preset
        if preset not in PRESETS:
            raise StudyError(
                f"preset: {preset!r} is not known{did_you_mean(preset, list(PRESETS))}. "
                f"Allowed: {', '.join(PRESETS)}."
            )
        own, of_level = PRESETS[self.preset] | self.fixed, self.levels[level]
        budget = PRESETS[preset] if preset != self.preset else {}
        given = {name: value for name, value in overrides.items() if value is not None}
        values = own | budget | given | of_level | {"seed": seed}
        planned = (own | of_level)["epochs"]
        return RunConfig.of(**_with_shares(values, planned, as_given=given.keys() - of_level.keys()))

    def runs(
        self, levels: Sequence[str] | None = None, seeds: Sequence[int] | None = None,
        preset: str | None = None, **overrides: Any,
    ) -> list[tuple[str, RunConfig]]:
        """Every (level, configuration), seed by seed, so that an unfinished study already has every level.

        Raises:
            StudyError: two levels would be the same run.
        """
        runs: dict[str, tuple[str, RunConfig]] = {}
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
    return ", ".join(f"{name} = {value!r}" for name, value in given.items() if value is not None)


class _UniqueKeys(yaml.SafeLoader):
    """YAML lets a later key replace an earlier one in silence; a duplicate level must be refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=deep)
            if not isinstance(key, Hashable):
                raise yaml.YAMLError(f"a {type(key).__name__} is no name (line {key_node.start_mark.line + 1})")
            if key in seen:
                raise yaml.YAMLError(f"{key!r} appears twice (line {key_node.start_mark.line + 1})")
            seen.add(key)
        return super().construct_mapping(node, deep)


def studies_folder() -> Path:
    return project_root() / "studies"


def names() -> list[str]:
    """The names of all studies."""
    return sorted(path.stem for path in studies_folder().glob("*.yml"))


def load(name: str, folder: Path | None = None) -> Study:
    """Read and check ``studies/<name>.yml``.

    Raises:
        StudyError: no such study, or something in it is unknown, duplicate or refused, named.
    """
    folder = folder or studies_folder()
    path = folder / f"{name}.yml"
    if not path.is_file():
        known = sorted(p.stem for p in folder.glob("*.yml"))
        raise StudyError(f"study: {name!r} is not known{did_you_mean(name, known)}. Known: {', '.join(known)}.")
    try:
        fields = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
        if not isinstance(fields, dict):
            raise StudyError("it is empty or no list of fields such as `title: …`")
        if "name" in fields:
            raise StudyError("unknown field 'name': a study is named by its file")
        study = Study(**{str(field): value for field, value in fields.items()}, name=name)
        if study.reference not in study.levels:
            raise StudyError(f"reference: {study.reference!r} is not one of its levels")
        if len(set(study.seeds)) < len(study.seeds):
            raise StudyError("seeds: one appears twice")
        for pair in study.comparisons:
            if unknown := [level for level in pair if level not in study.levels]:
                raise StudyError(f"comparisons: {unknown[0]!r} is not one of its levels"
                                 f"{did_you_mean(unknown[0], list(study.levels))}")
            if pair[0] == pair[1]:
                raise StudyError(f"comparisons: {pair[0]!r} is compared with itself")
        study.runs()
    except ValidationError as error:
        raise StudyError("\n".join(f"{path.name}: {_sentence(problem)}" for problem in error.errors())) from None
    except UnicodeDecodeError as error:
        raise StudyError(f"{path.name}: it is not written in UTF-8 ({error}). Save it as UTF-8.") from None
    except (yaml.YAMLError, ConfigError, StudyError) as error:
        raise StudyError(f"{path.name}: {error}") from None
    return study


def _sentence(problem: Any) -> str:
    if not problem["loc"]:
        return problem["msg"].removeprefix("Value error, ")
    where = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    if "[key]" in problem["loc"]:
        return f"{where}: the name {problem['input']!r} is no text for YAML. Put it in quotes."
    if problem["type"] == "extra_forbidden":
        known = [name for name in Study.model_fields if name != "name"]
        return f"unknown field {where!r}{did_you_mean(where, known)}. Known: {', '.join(known)}."
    if problem["type"] == "missing":
        return f"the field {where!r} is missing."
    return f"{where}: {problem['input']!r} is refused: {problem['msg'][0].lower()}{problem['msg'][1:]}."


# --- results of a study ---------------------------------------------------------------------------------------------


def _with_shares(values: dict[str, Any], planned: int, as_given: Collection[str]) -> dict[str, Any]:
    """A run's fields, where it gets other epochs than ``planned`` with ``SHARES`` that keep their share of them.

    Those in ``as_given`` stay as they are.
    """
    default, epochs = RunConfig.model_fields, values["epochs"]
    # What is no number of epochs is refused with the other fields.
    if epochs == planned or type(epochs) is not int or epochs <= 0:
        return values
    return values | {
        name: values.get(name, default[name].default) * epochs / planned for name in SHARES if name not in as_given}


@dataclass(frozen=True)
class StudyResults:
    """The runs of a study that exist, as tables, and what is missing.

    ``runs``: one row per run (level, its two parts ``main`` and ``setting`` where the study is crossed, seed, id, final
    figures, diverged). Of runs that did not diverge, ``history``: one row per run and epoch (level, seed, its figures),
    and ``gradients``: one row per run, step and layer (level, seed, step, layer, norm). ``configs``: the configuration
    of each id.
    """

    study: Study
    runs: pd.DataFrame
    history: pd.DataFrame
    configs: dict[str, RunConfig]
    gradients: pd.DataFrame
    provenance: dict[str, dict[str, Any]]
    missing: tuple[str, ...]
    changed: dict[str, Any]

    @property
    def levels(self) -> list[str]:
        """The levels that have at least one run that did not diverge, in the study's order."""
        present = set(self.runs[~self.runs["diverged"]]["level"])
        return [level for level in self.study.levels if level in present]

    @property
    def trained(self) -> list[str]:
        """The levels that have a run, diverged or not, in the study's order."""
        present = set(self.runs["level"])
        return [level for level in self.study.levels if level in present]

    @property
    def settings(self) -> list[str]:
        """The settings of a crossed study's second factor that have a run, in the study's order."""
        present = set(self.runs["setting"])
        return [setting for setting in self.study.settings if setting in present]

    @property
    def best_settings(self) -> dict[str, str]:
        """Of each main level the whole name with the setting of the highest mean final validation accuracy.

        A setting at which a run diverged is no choice, unless there is no other.
        """
        lost = set(self.runs[self.runs["diverged"]]["level"])
        mean = {level: (level not in lost, self.values("val_accuracy", level).mean()) for level in self.levels}
        best: dict[str, str] = {}
        for level in mean:
            main, _ = parted(level)
            best[main] = max(best.get(main, level), level, key=mean.__getitem__)
        return best

    @property
    def seed_counts(self) -> list[int]:
        """The number of seeds of each of :attr:`levels`."""
        return [len(self.values("val_accuracy", level)) for level in self.levels]

    def config_of(self, level: str) -> RunConfig:
        """The configuration of one of the level's runs: they differ by their seed only."""
        return self.configs[self.runs[self.runs["level"] == level]["id"].iloc[0]]

    def values(self, column: str, level: str) -> pd.Series:
        """One final figure of a level's runs that did not diverge, indexed by seed."""
        rows = self.runs[(self.runs["level"] == level) & ~self.runs["diverged"]]
        return rows.set_index("seed")[column].sort_index()

    def older_code(self) -> list[str]:
        """Ids of results that were made by other code than today's."""
        return [
            run_id for run_id, facts in self.provenance.items() if not provenance.made_by_todays_code(facts, run_id)
        ]


def ensure(
    study: Study | str, *, preset: str | None = None, seeds: Sequence[int] | None = None,
    levels: Sequence[str] | None = None, train: bool | None = None, device: str = "auto",
    executor: Executor | None = None, threads: int = 1, required: bool = True, **overrides: Any,
) -> StudyResults:
    """Return a study's results, executing through papermill what the parameters ask for and the store lacks.

    With the study's own parameters nothing is trained: that matrix takes hours and is `make results`'s work, and a
    chapter shows what exists and says how many seeds. With any other parameters what is missing is trained now.
    ``train`` overrules this: True always trains, False never. Runs are trained packed (:mod:`labbook.runs.packing`), or by
    ``executor``, several at once and each on so many ``threads``: a script that calls this needs ``if __name__ ==
    "__main__":``, as for any process pool. A study that is not ``required`` may have no run yet.

    Raises:
        StudyError, ConfigError: a parameter is unknown or refused. RunFailedError: a run failed, or no run exists.
    """
    study = load(study) if isinstance(study, str) else study
    seeds, levels = as_list("seeds", seeds, int), as_list("levels", levels, str)
    for name in sorted(study.set_by_every_level & overrides.keys()):
        if overrides[name] is not None:
            raise StudyError(
                f"{name}: {overrides[name]!r} would change nothing: every level of study {study.name!r} sets {name} "
                "itself."
            )
    if "seed" in overrides:
        raise StudyError("seed: a study has several; give `seeds`, such as [0, 1].")
    changed = _changed(study, seeds, levels, preset=preset, **overrides)
    wanted = study.runs(levels, seeds, preset, **overrides)
    for name, value in overrides.items():
        # A field without effect beside others takes a value of its own: see RunConfig.
        if value is not None and all(getattr(config, name) != value for _, config in wanted):
            raise StudyError(
                f"{name}: {value!r} would change nothing: beside its other settings no run of study {study.name!r} "
                f"makes use of it."
            )
    if bool(changed) if train is None else train:
        runs = [config for _, config in wanted]
        failures = (
            execute_packed(runs, device) if executor is None else execute_all(runs, executor, device, threads))
        if failures:
            raise RunFailedError("\n".join(failures))
    rows, results, missing_ids = [], {}, []
    for level, config in wanted:
        result = store.read(config.id)
        if result is None:
            missing_ids.append(config.id)
            continue
        results[config.id] = result
        main, setting = parted(level)
        rows.append({
            "level": level, "main": main, "setting": setting, "seed": config.seed, "id": config.id,
            **result.final.model_dump(),
        })
    if not rows and required:
        raise RunFailedError(
            f"study {study.name!r}: none of its {len(wanted)} runs is in {runs_folder()}. "
            + (f"Train them with `make results STUDY={study.name}`." if not changed
               else "Only this call trains them, with the same parameters and `train=True`.")
        )
    runs = pd.DataFrame(rows, columns=["level", "main", "setting", "seed", "id", *store.Final.model_fields])
    runs = runs.astype({"diverged": bool})
    finished = [result for result in results.values() if not result.final.diverged]
    history = store.history_frame(finished).merge(runs[["id", "level", "seed"]], on="id")
    return StudyResults(
        study, runs, history, {config.id: config for _, config in wanted if config.id in results},
        _gradients(results, runs), {run_id: result.provenance for run_id, result in results.items()},
        tuple(missing_ids), changed,
    )


def _gradients(results: dict[str, store.Result], runs: pd.DataFrame) -> pd.DataFrame:
    rows = [
        {"level": run.level, "seed": run.seed, "step": row.step, "layer": layer, "norm": norm}
        for run in runs[~runs["diverged"]].itertuples() for row in results[run.id].gradients
        for layer, norm in row.norms.items()
    ]
    return pd.DataFrame(rows, columns=["level", "seed", "step", "layer", "norm"])


def as_list(name: str, value: Any, kind: type) -> list | None:
    """Read a list parameter: a list, or its text as papermill's ``-p seeds "[0, 1]"`` passes it; None stays None.

    Raises:
        ConfigError: it is not a list of ``kind``, is empty, or names something twice.
    """
    if value is None:
        return None
    try:
        found = yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError:
        found = None  # refused below
    found = list(found) if isinstance(found, list | tuple) else [found]
    if not found or any(type(item) is not kind for item in found):
        example = "[0, 1]" if kind is int else "[a, b]"
        raise ConfigError(f"{name}: {value!r} is refused: it must be a list such as {example}.")
    if len(set(found)) < len(found):
        raise ConfigError(f"{name}: {value!r} is refused: one appears twice.")
    return found


def _differ(ids: Callable[[dict[str, Any]], set[str]], given: dict[str, Any], wanted: set[str]) -> bool:
    """Whether ``given`` makes other runs than those ``wanted``, or none at all."""
    try:
        return ids(given) != wanted
    except (ConfigError, StudyError):
        return True


def _changed(study: Study, seeds: list[int] | None, levels: list[str] | None, **given: Any) -> dict[str, Any]:
    """The parameters that were given and make the runs others than the study's own."""
    def ids(values: dict[str, Any]) -> set[str]:
        return {config.id for _, config in study.runs(levels, seeds, **values)}

    wanted, own = ids(given), ids({})
    changed = {name: value for name, value in given.items() if value is not None and wanted != own}
    # Of several, those without which the runs would be others; all, where each could be left out alone.
    needed = {name: value for name, value in changed.items() if _differ(ids, given | {name: None}, wanted)}
    changed = needed or changed
    lists = (("seeds", seeds, study.seeds), ("levels", levels, study.levels))
    return changed | {name: value for name, value, own in lists if value is not None and value != list(own)}
