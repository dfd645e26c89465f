"""The results of a study: :func:`ensure` reads the runs that exist, trains those that are missing, returns tables."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pydantic import ValidationError

from labbook import strict_yaml
from labbook.errors import ConfigError, shown
from labbook.lab import Config
from labbook.paths import runs_folder
from labbook.runs import provenance, store
from labbook.runs.engine import RunFailedError, execute
from labbook.studies.study import SEEDS, Study, StudyError, load, parted


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
    configs: dict[str, Config]
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

    @functools.cached_property
    def _by_level(self) -> dict[str, pd.DataFrame]:
        """The runs of each level, indexed by seed: a page asks for them thousands of times."""
        return {level: rows.set_index("seed").sort_index() for level, rows in self.runs.groupby("level", sort=False)}

    def config_of(self, level: str) -> Config:
        """The configuration of one of the level's runs: they differ by their seed only."""
        return self.configs[self._by_level[level]["id"].iloc[0]]

    def values(self, column: str, level: str) -> pd.Series:
        """One final figure of a level's runs that did not diverge, indexed by seed."""
        rows = self._by_level.get(level)
        if rows is None:
            rows = self.runs.iloc[:0].set_index("seed")
        return rows.loc[~rows["diverged"].astype(bool), column]

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
    ``train`` overrules this: True always trains, False never. Runs are trained packed (:mod:`labbook.runs.packing`), or
    by ``executor``, several at once and each on so many ``threads``: a script that calls this needs ``if __name__ ==
    "__main__":``, as for any process pool. A study that is not ``required`` may have no run yet.

    Raises:
        StudyError, ConfigError: a parameter is unknown or refused. RunFailedError: a run failed, or no run exists.
    """
    study = study if isinstance(study, Study) else load(study)
    if train is not None and type(train) is not bool:   # nan and "no" would count as true
        raise ConfigError(f"train: {shown(train)} is refused: it must be True, False or None.")
    seeds, levels = as_seeds(seeds), as_list("levels", levels, str)
    for name in sorted(study.set_by_every_level & overrides.keys()):
        if overrides[name] is not None:
            raise StudyError(
                f"{name}: {shown(overrides[name])} would change nothing: every level of study {study.name!r} sets "
                f"{name} itself."
            )
    if "seed" in overrides:
        raise StudyError("seed: a study has several; give `seeds`, such as [0, 1].")
    changed = _changed(study, seeds, levels, preset=preset, **overrides)
    wanted = study.runs(levels, seeds, preset, **overrides)
    for name, value in overrides.items():
        # A field without effect beside others takes a value of its own: see the lab's configuration.
        if value is not None and all(getattr(config, name) != value for _, config in wanted):
            raise StudyError(
                f"{name}: {shown(value)} would change nothing: beside its other settings no run of study "
                f"{study.name!r} makes use of it."
            )
    if bool(changed) if train is None else train:
        runs = [config for _, config in wanted]
        if failures := execute(runs, device, executor=executor, threads=threads if executor else None):
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
        _gradients(results, runs), {run_id: result.facts for run_id, result in results.items()},
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
        found = strict_yaml.parse(value) if isinstance(value, str) else value
    except strict_yaml.YamlError:
        found = None  # refused below
    found = list(found) if isinstance(found, list | tuple) else [found]
    if not found or any(type(item) is not kind for item in found):
        example = "[0, 1]" if kind is int else "[a, b]"
        raise ConfigError(f"{name}: {shown(value)} is refused: it must be a list such as {example}.")
    if len(set(found)) < len(found):
        raise ConfigError(f"{name}: {shown(value)} is refused: one appears twice.")
    return found


def as_seeds(value: Any) -> list[int] | None:
    """Read the parameter ``seeds``; None stays None.

    Raises:
        ConfigError: it is no list of different seeds, whole numbers from 0.
    """
    found = as_list("seeds", value, int)
    try:
        return None if found is None else list(SEEDS.validate_python(found))
    except ValidationError:
        raise ConfigError(f"seeds: {shown(value)} is refused: each must be from 0 to {2**53 - 1}.") from None


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
