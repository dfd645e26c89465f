"""Which runs of a study the test set is read for: the level that validation chose, and nothing that it did not."""

from __future__ import annotations

from labbook.errors import LabError
from labbook.lab import Config
from labbook.runs import predictions
from labbook.studies.results import StudyResults


def choose(results: StudyResults) -> str:
    """The level with the highest mean validation accuracy after the last epoch: what the test set is read for.

    Compared over the seeds that all levels share. A level of which a run diverged is chosen only where that is so of
    every level.

    Raises:
        LabError: no level has a run that did not diverge, or the levels share no seed.
    """
    runs = results.runs
    diverged = set(runs[runs["diverged"]]["level"])
    levels = [level for level in results.levels if level not in diverged] or results.levels
    values = {level: results.values("val_accuracy", level) for level in levels}
    shared = sorted(set.intersection(*(set(column.index) for column in values.values()))) if values else []
    if not shared:
        raise LabError(
            f"study {results.study.name!r}: no level can be chosen, as there is no seed of which every level has a run "
            f"that did not diverge. `make results STUDY={results.study.name}` trains what is missing."
        )
    return max(levels, key=lambda level: values[level][shared].mean())


def runs_of(results: StudyResults, level: str) -> dict[int, Config]:
    """The configurations of a level's runs that did not diverge, by seed."""
    rows = results.runs[(results.runs["level"] == level) & ~results.runs["diverged"]].set_index("seed").sort_index()
    return {int(seed): results.configs[run_id] for seed, run_id in rows["id"].items()}


def readable(results: StudyResults, level: str, views: str = "one") -> dict[int, Config]:
    """The runs of a level whose test predictions a page shows, by seed: those kept as evidence.

    With other parameters than the study's own, also those whose weights are here to make them from. A page of the
    study's own runs makes none: the command ``final-test`` does, when the study is finished.

    Raises:
        predictions.NoPredictionsError: there is none.
    """
    found = {
        seed: config for seed, config in runs_of(results, level).items()
        if predictions.evaluated(config, views) or (results.changed and predictions.weights(config))
    }
    if not found:
        averaged = "" if views == "one" else f" --views {views}"
        raise predictions.NoPredictionsError(
            f"study {results.study.name!r}: no run of {level!r} has been evaluated on the test set. "
            f"`labbook final-test {results.study.name}{averaged}` does that."
        )
    return found


def evaluate(found: StudyResults, named: str | None, views: str) -> None:
    """Evaluate the level that is ``named``, else the chosen one, and print each seed's test accuracy.

    Raises:
        LabError: runs are missing.
    """
    name = found.study.name
    ids = [config.id for level, config in found.study.runs() if named in (None, level)]
    if missing := [run_id for run_id in ids if run_id in found.missing]:
        raise LabError(
            f"{_whose(name, named)}: {len(missing)} of its {len(ids)} runs are missing, and the test set is read once, "
            f"for all of them. Train them with `make results STUDY={name}`"
            + ("." if named else ", or name a level whose runs are there with --level.")
        )
    chosen = [named] if named else found.levels
    if not named and found.runs["val_accuracy"].notna().any():
        chosen = [choose(found)]
        print("chosen on validation:")
    for level in chosen:
        print(level)
        runs = runs_of(found, level)
        for seed, config in runs.items():
            print(f"seed {seed}: test accuracy {100 * predictions.predictions(config, views).accuracy:.2f} %")
        first = runs[min(runs)]
        print(f"model kept: {predictions.keep_model(first).name}" if predictions.weights(first) else
              "model not kept: its weights are on the machine that trained it")


def evaluate_again(found: StudyResults, named: str | None, views: str) -> None:
    """Evaluate anew the runs that were evaluated before and whose weights are here, and say how far they agree.

    Raises:
        LabError: there is none.
    """
    compared = False
    for level in [named] if named else found.levels:
        for seed, config in runs_of(found, level).items():
            if predictions.weights(config) and predictions.evaluated(config, views):
                print(f"{level}, seed {seed}: {predictions.again(config, views)}")
                compared = True
    if not compared:
        raise LabError(
            f"{_whose(found.study.name, named)}: no run has both predictions with views {views!r} and weights here, so "
            "there is nothing to evaluate again."
        )


def _whose(study: str, level: str | None) -> str:
    return f"study {study!r}" + (f", level {level!r}" if level else "")
