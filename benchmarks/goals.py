"""The goals that this project set itself for its speed, beside what was measured, and what stands in the way."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cifarlab import arithmetic
from labbook.studies import study as studies

from benchmarks import ceiling

# Times the speed of the original's loop, by width, on a processor with bfloat16 units.
TIMES_THE_ORIGINAL = {64: 5.0, 16: 4.0}
OF_MATMUL = {64: 0.60}
OF_MATMUL_ON_A_GPU = {64: 0.50}
OVERHEAD_SECONDS = 5.0
TIMES_THE_PROGRAM = 2.0
# Of the website, without the dataset: every page, and once more with nothing changed.
BUILD_SECONDS = 90.0
REBUILD_SECONDS = 15.0


def outcome(values: Sequence[float], goal: float, at_least: bool = True) -> str:
    """Whether a goal was met: in all rounds, in some, or in none; ``at_least`` or else below it."""
    reached = [value >= goal if at_least else value < goal for value in values]
    return "met" if all(reached) else "in some rounds" if any(reached) else "not met"


def percent(share: float) -> str:
    """A fraction as a table shows it."""
    return f"{100 * share:.0f} %"


def what_it_takes(row: Mapping[str, Any], goal: float, matmul: float, best: float) -> str:
    """What ``goal`` times the original's speed would ask of the processor; ``row`` is a width's of ``loops``.

    ``matmul`` and ``best`` are FLOP/s: of one large product, and of the fastest product or convolution.
    """
    per_image = row["our_flops"] / statistics.median(row["our_images_per_second"])
    original = per_image * statistics.median(row["original_images_per_second"])
    return (
        f"The original's float32 loop already computes at {percent(original / matmul)} of the matrix product's rate, "
        f"so the goal is {percent(goal * original / matmul)} of it ({percent(goal * original / best)} of the fastest "
        f"rate, product or convolution); ours reaches {percent(row['our_flops'] / matmul)}."
    )


def what_the_race_takes(race: Mapping[str, Any], matmul: float) -> str:
    """What ``TIMES_THE_PROGRAM`` would ask of the processor; ``race`` and ``matmul`` (FLOP/s) as in :func:`table`.

    Reckoned from the round in which ours was fastest: ``matmul`` is of one day, and on a machine that is shared a round
    of another day may have had half of it.
    """
    flops, its_flops = _flops(race), its_training_flops()
    ours, theirs = min((ours["seconds"], theirs["seconds"])
                       for ours, theirs in zip(race["ours"], race["theirs"], strict=True))
    return (
        f"A run of ours ({race['level']}) is {flops / 1e15:.2f} PFLOP, "
        f"{'in the fastest round ' if len(race['ours']) > 1 else ''}done at {percent(flops / ours / matmul)} of the "
        f"matrix product's rate, the program's {its_flops / 1e15:.2f} PFLOP, counted alike, as it comes done at "
        f"{percent(its_flops / theirs / matmul)}; for ours the goal would be "
        f"{percent(TIMES_THE_PROGRAM * flops / theirs / matmul)} of it."
    )


def with_memory_kept(race: Mapping[str, Any]) -> str:
    """How the two compare where the program keeps its memory as ours does; empty where that was not measured."""
    if not (ratios := ratios_with_memory_kept(race)):
        return ""
    work = _flops(race) / its_training_flops()
    return (
        f"Where the program keeps its memory, as ours does, ours ({race['level']}) has {over_rounds(ratios)} its "
        f"speed, with {work:.2f} times its arithmetic: operation for operation it goes "
        f"{work * statistics.median(ratios):.2f} times as fast."
    )


def ratios_with_memory_kept(race: Mapping[str, Any]) -> list[float]:
    """The program's seconds with its memory kept over ours, round by round; empty where that was not measured."""
    if not (kept := race.get("theirs_keeping_memory")):
        return []
    return [theirs["seconds"] / ours["seconds"] for theirs, ours in zip(kept, race["ours"], strict=True)]


def over_rounds(ratios: Sequence[float]) -> str:
    """So many times: the median of a race's rounds and, where there are several, the lowest and the highest."""
    rounds = f"{min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds" if len(ratios) > 1 else "one round"
    return f"{statistics.median(ratios):.2f} times ({rounds})"


def _flops(race: Mapping[str, Any]) -> float:
    """The arithmetic of our runs in the race."""
    return arithmetic.training_flops(studies.load("speedrun").config(race["level"], 0))


def its_training_flops() -> float:
    """The arithmetic of the published program's training, counted as ours is.

    Its network and steps are those of the level of eight epochs, but that it trains its first biases for three only.
    """
    return arithmetic.training_flops(studies.load("speedrun").config("8 epochs", 0).with_(whitening_bias_epochs=3.0))


def table(
    loops: Mapping[str, Any], convolutions: Mapping[str, Any], packing: Mapping[str, Any],
    race: Mapping[str, Any] | None = None, building: Mapping[str, Any] | None = None,
) -> list[dict[str, str]]:
    """One row a goal: ``goal``, ``measured`` (median, lowest to highest), ``outcome``, and ``why`` where it is not met.

    ``loops``, ``packing``, ``race`` and ``building`` are the benchmarks' answers, ``convolutions`` those of ``ceiling``
    by width.
    """
    widths = {row["width"]: row for row in loops["rows"]}
    matmul = max(loops["matmul_flops"].values())
    units = "bfloat16" in loops["matmul_flops"]
    rows = []

    def add(
        goal: str, values: Sequence[float], target: float, why: str, at_least: bool = True,
        shown: Callable[[float], str] = "{:.2f}".format,
    ) -> None:
        found = outcome(values, target, at_least)
        rounds = f"{shown(min(values))} to {shown(max(values))}" if len(values) > 1 else "one round"
        rows.append({
            "goal": goal, "measured": f"{shown(statistics.median(values))} ({rounds})",
            "outcome": found, "why": "" if found == "met" else why,
        })

    for width, goal in TIMES_THE_ORIGINAL.items():
        best = ceiling.best_rate(convolutions[str(width)], loops["matmul_flops"])
        why = what_it_takes(widths[width], goal, matmul, best)
        add(f"{goal:g} times the original's loop at width {width}", widths[width]["ratio"], goal,
            why if units else f"The goal is for processors with bfloat16 units. {why}")
    for width, goal in (OF_MATMUL_ON_A_GPU if loops.get("device") == "cuda" else OF_MATMUL).items():
        row = widths[width]
        per_image = row["our_flops"] / statistics.median(row["our_images_per_second"])
        add(f"{percent(goal)} of the matrix product's rate at width {width}",
            [per_image * speed / matmul for speed in row["our_images_per_second"]], goal,
            "The rest of a step goes to convolutions below that rate, and to norm, ReLU and pooling.", shown=percent)
    parts = [f"{what} {statistics.median(packing['overhead'][name]):.1f} s"
             for name, what in (("imports", "imports"), ("reading", "reading and checking the data"))
             if name in packing["overhead"]]
    add(f"the smallest run takes less than {OVERHEAD_SECONDS:g} s beside its training", packing["overhead"]["seconds"],
        OVERHEAD_SECONDS,
        f"Of it, {' and '.join(parts)}; a fresh process does both for each run." if parts else
        "Each run is a fresh process that imports everything and reads and checks the data; no part was timed alone.",
        at_least=False, shown="{:.1f} s".format)
    if building:
        for what, name, goal in (("the website is built in", "whole_seconds", BUILD_SECONDS),
                                 ("and again, untouched, in", "untouched_seconds", REBUILD_SECONDS)):
            add(f"{what} less than {goal:g} s, without the dataset", [building[name]], goal,
                "Every page that computes is a notebook of its own; they are run one a core.", at_least=False,
                shown="{:.0f} s".format)
    if race:
        names = {"theirs": "theirs", "theirs_keeping_memory": "with its memory kept", "ours": "ours"}
        accuracies = ", ".join(f"{name} {100 * statistics.mean(run['test_accuracy'] for run in race[who]):.2f} %"
                               for who, name in names.items() if race.get(who))
        add(f"{TIMES_THE_PROGRAM:g} times the speed of airbench94_muon.py, side by side with our {race['level']} (mean "
            f"test accuracy there: {accuracies})", race["ratio"], TIMES_THE_PROGRAM, what_the_race_takes(race, matmul))
    return rows
