"""What the chapter says of a GPU: tables and sentences from the answers of :mod:`benchmarks.gpu`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cifarlab.config import RunConfig

from benchmarks import goals

# The original's budget.
IMAGES = 20 * RunConfig().train_images


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


def loops(card: Mapping[str, Any]) -> list[dict[str, Any]]:
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
            "of the product": goals.percent(_share(card, row)),
            "twenty epochs": f"{IMAGES / _speed(row):.0f} s", "first passes": f"{row['first_steps_seconds']:.0f} s",
        }) for row in card["ours"]
    ]
    return [row for _, row in sorted(rows, key=lambda item: item[0])]


def at_once(card: Mapping[str, Any]) -> dict[str, Any]:
    """Images a second over all of so many runs that train at the same time: one row."""
    found = card["at_once"]
    return {"width": found["width"]} | {
        f"{count} at once (images/s)": f"{statistics.median(speeds):,.0f}"
        for count, speeds in found["images_per_second"].items()
    }


def verdicts(card: Mapping[str, Any]) -> list[str]:
    """Whether the goal for a GPU is met and what keeps it waiting, and how many runs at once use it fully."""
    sentences = []
    for width, goal in goals.OF_MATMUL_ON_A_GPU.items():
        ours = [row for row in card["ours"] if row["width"] == width]
        reached = [f"{goals.percent(_share(card, row))} with batches of {row['batch_size']:,d}"
                   f"{', compiled' if row['compiled'] else ''}"
                   for row in sorted(ours, key=lambda row: (row["batch_size"], row["compiled"]))]
        met = goals.outcome(_shares(card, max(ours, key=lambda row: _share(card, row))), goal)
        sentences.append(f"The goal, {goals.percent(goal)} of the matrix product's rate at width {width}, is {met}: "
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
