"""The command line, ``python -m labbook COMMAND``: results, status, final-test, download, card."""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings

from cifarlab.config import PRESETS

from labbook.errors import ConfigError, LabError, did_you_mean
from labbook.paths import results_root
from labbook.runs import execution, packing, store
from labbook.studies import study as studies
from labbook.studies.results import StudyResults, ensure


def seconds(text: str) -> float:
    """Read a duration such as ``90s``, ``45m``, ``2h`` or ``1h30m``.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text or not (match := re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)):
        raise argparse.ArgumentTypeError(f"budget: {text!r} is not a duration such as 45m, 2h or 1h30m")
    hours, minutes, rest = (int(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + rest


def whole_number(text: str) -> int:
    """Read a number from 1.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is refused: it must be a whole number from 1")
    return int(text)


def chosen_studies(arguments: argparse.Namespace) -> list[studies.Study]:
    """The studies that the arguments name, or all; of them those of one preset.

    Raises:
        ConfigError: the preset is none of theirs.
    """
    loaded = [studies.load(name) for name in dict.fromkeys(arguments.study or studies.names())]
    chosen = [study for study in loaded if arguments.preset in (None, study.preset)]
    if not chosen:
        whose = f"study {', '.join(map(repr, arguments.study))}" if arguments.study else "any study"
        found = ", ".join(sorted({study.preset for study in loaded}))
        raise ConfigError(f"preset: {arguments.preset!r} is not the budget of {whose}. Found: {found}.")
    return chosen


def planned(
    chosen: list[studies.Study], first_seeds: int | None = None, only: str | None = None
) -> list[studies.RunConfig]:
    """Every run of the studies, first seeds first: an unfinished matrix gives every chapter something.

    Raises:
        ConfigError: none of the studies has the level ``only``.
    """
    if only is not None and only not in (known := [level for study in chosen for level in study.levels]):
        raise ConfigError(f"level: {only!r} is not known{did_you_mean(only, known)}. There are: {', '.join(known)}.")
    runs = [
        (study.seeds.index(config.seed), config)
        for study in chosen for level, config in study.runs(seeds=study.seeds[:first_seeds]) if only in (None, level)
    ]
    return [config for _, config in sorted(runs, key=lambda run: run[0])]


def results(arguments: argparse.Namespace) -> int:
    """Execute what is missing. Interrupt it at any moment; the next call goes on."""
    configs = planned(chosen_studies(arguments), arguments.seeds, arguments.level)
    todo = execution.missing(configs)
    done = {config.id for config in configs} - {config.id for config in todo}
    for run_id in done:
        # A process that was killed between writing its result and tidying up has left both.
        execution.clear(run_id)
    print(f"{len(done)} runs are in the store, {len(todo)} to do", flush=True)
    failures = packing.execute_packed(todo, arguments.device, arguments.workers, arguments.budget)
    left = len(execution.missing(todo))
    if failures:
        print(f"failed: {len(failures)}; the next call tries again", file=sys.stderr)
    elif left and arguments.budget is not None:
        print(f"the budget is spent: {len(todo) - left} runs finished, {left} are left; the next call goes on")
    return 1 if failures else 0


def status(arguments: argparse.Namespace) -> int:
    """Print what each study has, lacks, saw diverge and has from older code; of studies that are named, every run.

    The exit status is 1 while files that were set aside as damaged lie there.
    """
    from labbook.runs.provenance import made_by_todays_code

    under_way = execution.progress()
    found = {result.id: result for result in store.read_all()}
    planned_ids: list[str] = []
    chosen = chosen_studies(arguments)
    wide = max(len(study.name) for study in chosen)
    print(f"{'study':<{wide}}{'planned':>8}{'done':>6}{'missing':>9}{'diverged':>10}{'older code':>12}  under way")
    for study in chosen:
        ids = [config.id for _, config in study.runs()]
        planned_ids += ids
        done = [found[run_id] for run_id in ids if run_id in found]
        moving = [
            f"{run_id} {state['epochs']}/{state['of']}{'' if state['alive'] else ' (stopped)'}"
            for run_id, state in under_way.items() if run_id in ids and run_id not in found
        ]
        print(
            f"{study.name:<{wide}}{len(ids):>8}{len(done):>6}{len(ids) - len(done):>9}"
            f"{sum(r.final.diverged for r in done):>10}"
            f"{sum(not made_by_todays_code(r.provenance, r.id) for r in done):>12}  {', '.join(moving)}"
        )
    if arguments.study:
        for run_id in dict.fromkeys(planned_ids):   # studies may share a run
            print(f"{'done' if run_id in found else 'missing':<9}{run_id}")
    if extra := sorted(set(found) - set(planned_ids)):
        print(f"in the store, in none of these studies: {len(extra)}")
    aside = store.set_aside()
    for name in aside:
        print(f"set aside as damaged: {name}")
    return 1 if aside else 0


def download(arguments: argparse.Namespace) -> int:
    """Fetch CIFAR-10 from its home page through torchvision, and check it."""
    from cifarlab.data import DatasetError, check_files, cifar10_root
    from torchvision.datasets import CIFAR10

    root = cifar10_root()
    try:
        CIFAR10(root, download=True)
    except (OSError, RuntimeError) as error:
        raise DatasetError(
            f"CIFAR-10 could not be fetched into {root}: {error}. Try again, or unpack {CIFAR10.url} there by other "
            "means, or set CIFAR10_ROOT to a folder that holds cifar-10-batches-py."
        ) from error
    check_files(root)
    print(f"CIFAR-10 is in {root}")
    return 0


def card(arguments: argparse.Namespace) -> int:
    """Compute the dataset's card (statistics and sample pictures) for the data chapter."""
    from cifarbook import card as dataset_card

    print(f"written to {dataset_card.write()}")
    return 0


def final_test(arguments: argparse.Namespace) -> int:
    """Evaluate the level that a study's validation accuracy chooses on the test set; keep the first seed's model.

    A level that is named is evaluated whatever its place. A study that holds no images out was chosen by another: then
    all its levels are evaluated. Every run of the level that is named, else of the study, must be there. With --again
    the runs that were evaluated before and whose weights are here are evaluated anew, and compared.
    """
    found = ensure(arguments.study, train=False)
    if arguments.level is not None and arguments.level not in found.levels:
        raise LabError(
            f"level: no finished run of {arguments.level!r}{did_you_mean(arguments.level, found.levels)}. "
            f"There are: {', '.join(found.levels)}."
        )
    (_evaluate_again if arguments.again else _evaluate)(found, arguments.level, arguments.views)
    return 0


def _evaluate(found: StudyResults, named: str | None, views: str) -> None:
    from cifarbook import final_test as test

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


def _evaluate_again(found: StudyResults, named: str | None, views: str) -> None:
    from cifarbook import final_test as test

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


def main(argv: list[str] | None = None) -> int:
    """Run one command; a wrong value is one clear sentence and exit status 2."""
    parser = argparse.ArgumentParser(prog="cifarlab", description=f"The lab's runs. Results: {results_root()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for function in (results, status):
        command = commands.add_parser(function.__name__, help=function.__doc__)
        command.set_defaults(function=function)
        command.add_argument("--study", nargs="+", help="only these studies")
        command.add_argument("--preset", help="only the studies of this budget")
    command = commands.choices["results"]
    command.add_argument("--device", default="auto", help="auto, cpu or cuda")
    command.add_argument("--level", help="only this level")
    command.add_argument("--seeds", type=whole_number, help="only the first so many seeds of each study")
    command.add_argument("--workers", type=whole_number,
                         help="runs at once, one thread each (1: all cores for one; default: as many as pay and fit)")
    command.add_argument("--budget", type=seconds, help="start no further run after this long, such as 2h")
    commands.add_parser("download", help=download.__doc__).set_defaults(function=download)
    commands.add_parser("card", help=card.__doc__).set_defaults(function=card)
    command = commands.add_parser("final-test", help=final_test.__doc__)
    command.set_defaults(function=final_test)
    command.add_argument("--study", required=True, help="the study whose best level is evaluated")
    command.add_argument("--level", help="this level, whatever its validation accuracy")
    command.add_argument("--views", choices=("one", "mirror", "mirror_shift"), default="one",
                         help="over which views of an image its predictions are averaged")
    command.add_argument("--again", action="store_true",
                         help="evaluate the weights that are here anew, and compare with what is committed")
    arguments = parser.parse_args(argv)
    # A warning such as that of a damaged file is a sentence for the user: without the line of code that gave it.
    warnings.showwarning = lambda message, *_, **__: print(message, file=sys.stderr)
    try:
        preset = getattr(arguments, "preset", None)
        if preset is not None and preset not in PRESETS:
            raise ConfigError(
                f"preset: {preset!r} is not known{did_you_mean(preset, list(PRESETS))}. Allowed: {', '.join(PRESETS)}."
            )
        exit_status = arguments.function(arguments)
        sys.stdout.flush()
        return exit_status
    except BrokenPipeError:   # who reads the output has had enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except LabError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the next call goes on from the last finished epoch", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
