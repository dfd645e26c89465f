"""The command line ``labbook``: train what is missing, say what is there, read the test set, train a sample again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from labbook import terminal
from labbook.errors import ConfigError, LabError, did_you_mean, shown
from labbook.lab import Config, the_lab
from labbook.runs import engine, scratch, store
from labbook.studies import study as studies

app = terminal.application(
    "The runs of a lab book: train what is missing, say what is there, read the test set, train a sample again.",
    {
        "results": "the next call goes on from the last finished epoch",
        "reproduce": "the next call goes on from the last finished epoch",
        "status": "nothing was changed",
        "final-test": "what was evaluated is kept, and the next call evaluates the rest",
    },
)

Names = Annotated[list[str] | None, typer.Argument(metavar="STUDY", help="Only these studies.")]
Preset = Annotated[str | None, typer.Option(help="Only the studies of this budget, such as laptop.")]
Device = Annotated[str, typer.Option(help="Where to train: auto, cpu or cuda.")]
Workers = Annotated[int | None, typer.Option(
    parser=terminal.count, metavar="COUNT",
    help="Runs at once, each on one thread; 1: one on all cores. Else as many as fit.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a wrong value is one clear sentence and exit status 2."""
    return terminal.run(app, arguments)


def chosen_studies(names: Sequence[str] | None = None, preset: str | None = None) -> list[studies.Study]:
    """The studies of these names, or all; of them those of one preset.

    Raises:
        StudyError: a study or the preset is not known. ConfigError: none of the studies has that preset.
    """
    if preset is not None:
        studies.known_preset(preset)
    loaded = [studies.load(name) for name in dict.fromkeys(names or studies.names())]
    chosen = [study for study in loaded if preset in (None, study.preset)]
    if not chosen:
        whose = f"study {', '.join(map(repr, names))}" if names else "any study"
        found = ", ".join(sorted({study.preset for study in loaded}))
        raise ConfigError(f"preset: {preset!r} is not the budget of {whose}. Found: {found}.")
    return chosen


def planned(
    chosen: Sequence[studies.Study], first_seeds: int | None = None, only: str | None = None
) -> list[Config]:
    """Every run of the studies, first seeds first: an unfinished matrix gives every chapter something.

    Raises:
        ConfigError: none of the studies has the level ``only``.
    """
    if only is not None and only not in (known := [level for study in chosen for level in study.levels]):
        raise ConfigError(
            f"level: {shown(only)} is not known{did_you_mean(only, known)}. There are: {', '.join(known)}.")
    runs = [
        (study.seeds.index(config.seed), config)
        for study in chosen for level, config in study.runs(seeds=study.seeds[:first_seeds]) if only in (None, level)
    ]
    return [config for _, config in sorted(runs, key=lambda run: run[0])]


@app.command()
def results(
    names: Names = None,
    preset: Preset = None,
    level: Annotated[str | None, typer.Option(help="Only this level.")] = None,
    seeds: Annotated[int | None, typer.Option(
        parser=terminal.count, metavar="COUNT", help="Only the first so many seeds of each study.")] = None,
    device: Device = "auto",
    workers: Workers = None,
    budget: Annotated[float | None, typer.Option(
        parser=terminal.seconds, metavar="DURATION", help="Start no further run after this long, such as 2h.")] = None,
) -> None:
    """Train the runs that are missing.

    Those that the studies plan and the store lacks. Stop it at any moment: the next call goes on.
    """
    configs = planned(chosen_studies(names, preset), seeds, level)
    todo = engine.missing(configs)
    done = {config.id for config in configs} - {config.id for config in todo}
    for run_id in done:
        # A process that was killed between writing its result and tidying up has left both.
        scratch.clear(run_id)
    print(f"{len(done)} runs are in the store, {len(todo)} to do", flush=True)
    failures = engine.execute(todo, device, workers, stop_after_seconds=budget)
    left = len(engine.missing(todo))
    if failures:
        print(f"failed: {len(failures)}; the next call tries again", file=sys.stderr)
        raise typer.Exit(1)
    if left and budget is not None:
        print(f"the budget is spent: {len(todo) - left} runs finished, {left} are left; the next call goes on")


@app.command()
def status(names: Names = None, preset: Preset = None) -> None:
    """Say what is there and what is missing.

    One line a study; of studies that are named, every run. The exit status is 1 while files that were set aside as
    damaged lie in the store.
    """
    from labbook.runs.provenance import made_by_todays_code

    under_way = scratch.progress()
    found = {result.id: result for result in store.read_all()}
    planned_ids: list[str] = []
    chosen = chosen_studies(names, preset)
    wide = max(len(study.name) for study in chosen)
    print(f"{'study':<{wide}}{'planned':>8}{'done':>6}{'missing':>9}{'diverged':>10}{'older code':>12}  under way")
    for study in chosen:
        ids = [config.id for _, config in study.runs()]
        planned_ids += ids
        done = [found[run_id] for run_id in ids if run_id in found]
        moving = [
            f"{run_id} {state.epochs}/{state.of}{'' if scratch.under_way(run_id) else ' (stopped)'}"
            for run_id, state in under_way.items() if run_id in ids and run_id not in found
        ]
        print(
            f"{study.name:<{wide}}{len(ids):>8}{len(done):>6}{len(ids) - len(done):>9}"
            f"{sum(r.final.diverged for r in done):>10}"
            f"{sum(not made_by_todays_code(r.facts, r.id) for r in done):>12}  {', '.join(moving)}"
        )
    if names:
        for run_id in dict.fromkeys(planned_ids):   # studies may share a run
            print(f"{'done' if run_id in found else 'missing':<9}{run_id}")
    if extra := sorted(set(found) - set(planned_ids)):
        print(f"in the store, in none of these studies: {len(extra)}")
    aside = store.set_aside()
    for name in aside:
        print(f"set aside as damaged: {name}")
    if aside:
        raise typer.Exit(1)


@app.command("final-test")
def final_test(
    study: Annotated[str, typer.Argument(help="The study whose best level is evaluated.")],
    level: Annotated[str | None, typer.Option(help="This level, whatever its validation accuracy.")] = None,
    views: Annotated[str, typer.Option(help="The views of an image over which predictions are averaged.")] = "one",
    again: Annotated[bool, typer.Option(
        "--again", help="Evaluate anew what was evaluated before and whose weights are here, and compare.")] = False,
) -> None:
    """Evaluate the chosen level on the test set.

    The level with the highest mean validation accuracy; of a study that holds no images out, every level, since another
    study chose them. Every run of the study, or of the level that is named, must be there. The first seed's model is
    kept.
    """
    from labbook.studies import final_test as test
    from labbook.studies.results import ensure

    if views not in (known := the_lab().views):
        raise ConfigError(
            f"views: {shown(views)} is not known{did_you_mean(views, known)}. Allowed: {', '.join(known)}.")
    found = ensure(study, train=False)
    if level is not None and level not in found.levels:
        raise LabError(
            f"level: no finished run of {shown(level)}{did_you_mean(level, found.levels)}. "
            f"There are: {', '.join(found.levels)}."
        )
    (test.evaluate_again if again else test.evaluate)(found, level, views)


@app.command()
def reproduce(
    count: Annotated[int, typer.Option(parser=terminal.count, metavar="COUNT", help="How many runs.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Chooses which runs: another seed takes others.")] = 0,
) -> None:
    """Train a sample of committed runs again and compare.

    A random sample of the narrow, short runs, on this processor: minutes each. The table says how many agree bit for
    bit, and how many within the interval in which a further seed would lie; it is kept in results/reproduced/. The exit
    status is 1 where a run failed.
    """
    from labbook.studies import reproduction

    def train(configs: list[Config]) -> list[str]:
        return engine.execute(configs, "cpu", threads=1)   # as those that they are compared with

    found, failures, path = reproduction.reproduce(count, seed, train)
    print(reproduction.table(found))
    print(f"written to {path}")
    if failures:
        print(f"failed: {len(failures)}; the next call tries again", file=sys.stderr)
        raise typer.Exit(1)
