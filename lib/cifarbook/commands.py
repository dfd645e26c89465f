"""The command ``labbook final-test``: evaluate a study's runs on the test set, once, for what validation chose."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from labbook.errors import LabError, did_you_mean, shown
from labbook.studies.results import StudyResults, ensure

from cifarbook import final_test as test

Views = Literal["one", "mirror", "mirror_shift"]


def final_test(
    study: Annotated[str, typer.Argument(help="The study whose best level is evaluated.")],
    level: Annotated[str | None, typer.Option(help="This level, whatever its validation accuracy.")] = None,
    views: Annotated[Views, typer.Option(help="The views of an image over which predictions are averaged.")] = "one",
    again: Annotated[bool, typer.Option(
        "--again", help="Evaluate anew what was evaluated before and whose weights are here, and compare.")] = False,
) -> None:
    """Evaluate the chosen level on the test set.

    The level with the highest mean validation accuracy; of a study that holds no images out, every level, since another
    study chose them. Every run of the study, or of the level that is named, must be there. The first seed's model is
    kept.
    """
    found = ensure(study, train=False)
    if level is not None and level not in found.levels:
        raise LabError(
            f"level: no finished run of {shown(level)}{did_you_mean(level, found.levels)}. "
            f"There are: {', '.join(found.levels)}."
        )
    (evaluate_again if again else evaluate)(found, level, views)


def evaluate(found: StudyResults, named: str | None, views: Views) -> None:
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
        chosen = [test.choose(found)]
        print("chosen on validation:")
    for level in chosen:
        print(level)
        runs = test.runs_of(found, level)
        for seed, config in runs.items():
            print(f"seed {seed}: test accuracy {100 * test.predictions(config, views).accuracy:.2f} %")
        first = runs[min(runs)]
        print(f"model kept: {test.keep_model(first).name}" if test.weights(first) else
              "model not kept: its weights are on the machine that trained it")


def evaluate_again(found: StudyResults, named: str | None, views: Views) -> None:
    """Evaluate anew the runs that were evaluated before and whose weights are here, and say how far they agree.

    Raises:
        LabError: there is none.
    """
    compared = False
    for level in [named] if named else found.levels:
        for seed, config in test.runs_of(found, level).items():
            if test.weights(config) and test.evaluated(config, views):
                print(f"{level}, seed {seed}: {test.again(config, views)}")
                compared = True
    if not compared:
        raise LabError(
            f"{_whose(found.study.name, named)}: no run has both predictions with views {views!r} and weights here, so "
            "there is nothing to evaluate again."
        )


def _whose(study: str, level: str | None) -> str:
    return f"study {study!r}" + (f", level {level!r}" if level else "")
