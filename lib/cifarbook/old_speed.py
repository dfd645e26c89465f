# goes with the old chapter
"""What the chapters on speed and the speedrun say of the benchmarks' answers, in words and tables."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cifarlab.config import RunConfig
from labbook.studies import study as studies

from cifarbook import networks
from cifarbook.bench import spread

SPEEDRUN, KEPT = "the speedrun's network", "freed memory given back"
BY_DEFINITION = "bfloat16, rounded products in float32"
BY_WINOGRAD = "the same, large convolutions by Winograd's algorithm"
WAYS = ("float32", "bfloat16, PyTorch's own", BY_DEFINITION, BY_WINOGRAD)
# The original's budget.
IMAGES = 20 * RunConfig().train_images
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
    return networks.training_flops(studies.load("speedrun").config(race["level"], 0))


def its_training_flops() -> float:
    """The arithmetic of the published program's training, counted as ours is.

    Its network and steps are those of the level of eight epochs, but that it trains its first biases for three only.
    """
    return networks.training_flops(studies.load("speedrun").config("8 epochs", 0).with_(whitening_bias_epochs=3.0))


def goals_table(
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
        best = best_rate(convolutions[str(width)], loops["matmul_flops"])
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


def best_rate(rows: Sequence[Mapping[str, Any]], matmul_flops: Mapping[str, float]) -> float:
    """FLOP/s of the fastest thing measured here: the matrix product, or one part of one of :func:`convolutions`.

    A convolution may be faster than the one large product: each shape has code of its own in PyTorch's library.
    """
    bare = [1e3 * row["flops"] / took for row in rows for took in row["milliseconds"].values()]
    return max([*matmul_flops.values(), *bare])


def held_against(
    loop: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], matmul_flops: Mapping[str, float], batch_size: int
) -> dict[str, float]:
    """What share of the measured ceilings the training loop reaches; ``loop`` is a row of the benchmark ``loops``.

    ``of_matmul`` and ``of_best`` are of FLOP/s; ``convolutions`` and ``step`` are seconds, their ratio the share of a
    step that its bare convolutions take.
    """
    return {
        "of_matmul": loop["our_flops"] / max(matmul_flops.values()),
        "of_best": loop["our_flops"] / best_rate(rows, matmul_flops),
        "convolutions": sum(sum(row["milliseconds"].values()) for row in rows) / 1e3,
        "step": batch_size / statistics.median(loop["our_images_per_second"]),
    }


def gain(speeds: Mapping[str, list[float]]) -> float | None:
    """What Winograd's algorithm gains: the median over rounds of its speed over the definition's.

    None in the answer of a machine that was measured before there was this way.
    """
    if BY_WINOGRAD not in speeds:
        return None
    return statistics.median(
        fast / plain for fast, plain in zip(speeds[BY_WINOGRAD], speeds[BY_DEFINITION], strict=True))


KINDS = {"without": "taken away", "tried": "not kept", "evaluation": "not kept"}


def trials_table(trials: Mapping[str, Any]) -> list[dict[str, str]]:
    """An answer of `trials` or `processes` as it is shown: one row a variant; at each
    width its speed over ours, median (lowest to highest round), and on a line of their own both speeds. An answer of
    earlier code may lack kinds, variants and speeds.
    """
    widths = list(dict.fromkeys(width for kind in KINDS for width in trials.get(kind, {})))
    rows = []
    for kind, word in KINDS.items():
        found = trials.get(kind, {})
        for name in dict.fromkeys(name for variants in found.values() for name in variants):
            row = {"change": name, "": word}
            for width in widths:
                place = f"at width {width}" if width.isdigit() else f"of {width}"
                answer = found.get(width, {}).get(name)
                cell = spread(answer["ratio"]) if answer else "–"
                if speeds := (answer or {}).get("images_per_second"):
                    ours, changed = (statistics.median(speeds[who]) for who in ("ours", "variant"))
                    cell += f"\n{ours:,.0f} → {changed:,.0f}"
                row[f"speed {place}"] = cell
            rows.append(row)
    return rows


def _product(card: Mapping[str, Any]) -> float:
    return max(card["matmul_flops"].values())


def _speed(row: Mapping[str, Any]) -> float:
    return statistics.median(row["images_per_second"])


def _shares(card: Mapping[str, Any], row: Mapping[str, Any]) -> list[float]:
    """The row's arithmetic a second over that of the large matrix product, one a round."""
    return [speed * row["flops_per_image"] / _product(card) for speed in row["images_per_second"]]


def _share(card: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    """The median of :func:`_shares`."""
    return statistics.median(_shares(card, row))


def _times(speeds: Sequence[float], others: Sequence[float]) -> str:
    """How many times as fast, by rounds: the median, the lowest and the highest."""
    ratios = [speed / other for speed, other in zip(speeds, others, strict=True)]
    return f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"


def card_loops(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for the original's loop at each width, and for ours at each width, batch size, compiled or not."""
    batch = RunConfig().batch_size
    originals = {row["width"]: row["original_images_per_second"] for row in card["loops"]}
    theirs = {width: statistics.median(speeds) for width, speeds in originals.items()}
    rows = [
        ((width, 0, False), {
            "loop": "the original's", "width": width, "batch": batch, "images/s": f"{speed:,.0f}", "ratio": "1",
            "of the product": "", "twenty epochs": f"{IMAGES / speed:.0f} s", "first passes": "",
        }) for width, speed in theirs.items()
    ] + [
        ((row["width"], row["batch_size"], row["compiled"]), {
            "loop": "ours, compiled" if row["compiled"] else "ours", "width": row["width"], "batch": row["batch_size"],
            "images/s": f"{_speed(row):,.0f}", "ratio": _times(row["images_per_second"], originals[row["width"]]),
            "of the product": percent(_share(card, row)),
            "twenty epochs": f"{IMAGES / _speed(row):.0f} s", "first passes": f"{row['first_steps_seconds']:.0f} s",
        }) for row in card["ours"]
    ]
    return [row for _, row in sorted(rows, key=lambda item: item[0])]


def card_at_once(card: Mapping[str, Any]) -> dict[str, Any]:
    """Images a second over all of so many runs that train at the same time: one row."""
    found = card["at_once"]
    return {"width": found["width"]} | {
        f"{count} at once (images/s)": f"{statistics.median(speeds):,.0f}"
        for count, speeds in found["images_per_second"].items()
    }


def card_verdicts(card: Mapping[str, Any]) -> list[str]:
    """Whether the goal for a GPU is met and what keeps it waiting, and how many runs at once use it fully."""
    sentences = []
    for width, goal in OF_MATMUL_ON_A_GPU.items():
        ours = [row for row in card["ours"] if row["width"] == width]
        reached = [f"{percent(_share(card, row))} with batches of {row['batch_size']:,d}"
                   f"{', compiled' if row['compiled'] else ''}"
                   for row in sorted(ours, key=lambda row: (row["batch_size"], row["compiled"]))]
        met = outcome(_shares(card, max(ours, key=lambda row: _share(card, row))), goal)
        sentences.append(f"The goal, {percent(goal)} of the matrix product's rate at width {width}, is {met}: "
                         f"{'; '.join(reached)}.")
        step = {(row["batch_size"], row["compiled"]): row["batch_size"] / _speed(row) for row in ours}
        first = {(row["batch_size"], row["compiled"]): row["first_steps_seconds"] for row in ours}
        small, large = min(step)[0], max(step)[0]
        grown = step[large, False] / step[small, False]
        if grown < 0.5 * large / small:
            sentences.append(
                f"A step of {large / small:.0f} times the images takes only {grown:.1f} times as long: with batches of "
                f"{small} a card so large waits for the host, or is not filled by what it is handed.")
        if (small, True) in step:
            plain, compiled = (first[small, way] + step[small, way] * IMAGES / small for way in (False, True))
            sentences.append(
                f"Compiled, a step with batches of {small} takes {step[small, True] / step[small, False]:.2f} of its "
                f"time. Twenty epochs, first passes included, take {compiled:.0f} s compiled and {plain:.0f} s not.")
    together = {int(count): statistics.median(speeds) for count, speeds in card["at_once"]["images_per_second"].items()}
    enough = min(count for count, speed in together.items() if speed >= 0.95 * max(together.values()))
    by_round = card["at_once"]["images_per_second"]
    sentences.append(
        f"{enough} runs at once, at width {card['at_once']['width']}, finish "
        f"{_times(by_round[str(enough)], by_round['1'])} times the images of one"
        + ("; more than that add nothing." if enough < max(together) else "."))
    return sentences


def when(answers: Sequence[Mapping[str, Any]]) -> str:
    """On which days answers were measured."""
    days = sorted({answer["provenance"]["date"][:10] for answer in answers})
    return f"measured {' to '.join(dict.fromkeys((days[0], days[-1])))}"


def days_of(answer: Mapping[str, Any]) -> list[str]:
    """On which day each round of the race was measured: that of the answer, where none was added."""
    return answer.get("days") or [answer["provenance"]["date"][:10]] * len(answer["ratio"])
