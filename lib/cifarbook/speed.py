"""Figures and ratios of the chapters on speed: a step's parts, bfloat16, the race, accuracy by arithmetic."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from labbook.page.figures import COLOURS, FAINT, INK, SMALL, WIDE, BookFigure, new_figure, plain_log_ticks
from labbook.studies.stats import AccuracyInterval
from matplotlib.patches import Rectangle

# How PyTorch's profiler names what is drawn as one part of a step.
PARTS = {
    "convolution": ("convolution, forward", "convolution, backward"), "normalization": ("normalization",),
    "pooling": ("pooling",), "ReLU": ("ReLU",),
}
REST = "everything else"


def outcome(values: Sequence[float], goal: float, at_least: bool = True) -> str:
    """Whether a goal was met in every round, in some, or missed; ``at_least`` or else below it."""
    reached = [value >= goal if at_least else value < goal for value in values]
    return "met" if all(reached) else "met in some rounds" if any(reached) else "missed"


def by_round(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """The ratios of two measurements that took turns, round by round."""
    return [one / other for one, other in zip(numerators, denominators, strict=True)]


def parts_of_a_step(milliseconds: Mapping[str, float]) -> dict[str, float]:
    """Milliseconds of a training step by kind of operation, the small kinds together."""
    parts = {name: sum(milliseconds.get(kind, 0.0) for kind in kinds) for name, kinds in PARTS.items()}
    return parts | {REST: sum(milliseconds.values()) - sum(parts.values())}


def step_figure(milliseconds: Mapping[str, Mapping[str, Mapping[str, float]]]) -> BookFigure:
    """A step's time by kind of operation, in percent of the first loop's: a panel a width, a stacked bar a loop.

    ``milliseconds``: width to loop to kind.
    """
    figure, axes = new_figure(1, len(milliseconds), width=WIDE, height=1.5)
    for axis, (width, loops) in zip(axes, milliseconds.items(), strict=True):
        whole = sum(next(iter(loops.values())).values())
        for place, kinds in enumerate(reversed(list(loops.values()))):
            start = 0.0
            for (name, value), colour in zip(parts_of_a_step(kinds).items(), COLOURS, strict=False):
                axis.barh(place, 100 * value / whole, left=start, height=0.62, color=colour, edgecolor="white",
                          linewidth=0.6, label=name if not place else None)
                start += 100 * value / whole
        axis.set_yticks(range(len(loops)), list(reversed(list(loops))))
        axis.set_title(f"width {width}", loc="left", fontsize=SMALL)
        axis.grid(False, axis="y")
    axes[-1].set_xlabel("time of a step (% of the original's)")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False, fontsize=SMALL)
    return figure


def formats_figure(speeds: Mapping[str, Mapping[str, float]]) -> BookFigure:
    """Speed of a step by how its products are computed, over that in float32: processor to way to the ratio."""
    figure, (axis,) = new_figure(width=WIDE, height=3.0)
    ways = list(dict.fromkeys(way for found in speeds.values() for way in found))
    for number, (processor, found) in enumerate(speeds.items()):
        places = [len(ways) - 1 - ways.index(way) - 0.36 * (number - 0.5) for way in found]
        values = list(found.values())
        axis.barh(places, [value - 1 for value in values], left=1, height=0.32, color=COLOURS[number], label=processor)
        for place, value in zip(places, values, strict=True):
            right = value >= 1
            axis.text(value * (1.05 if right else 0.95), place, f"{value:.{2 if value < 0.1 else 1}f}", va="center",
                      ha="left" if right else "right", fontsize=SMALL, color=INK)
    axis.axvline(1, color=INK, linewidth=1)
    axis.set_yticks(range(len(ways)), list(reversed(ways)))
    axis.set_xscale("log")
    axis.set_xlim(0.04, 3)
    plain_log_ticks(axis.xaxis)
    axis.grid(False, axis="y")
    axis.set_xlabel("speed against float32 (right of 1: faster)")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=SMALL)
    return figure


def whitening(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal directions of the 2 × 2 patches of images (N, H, W, 3): (12, 2, 2, 3), and their shares of variance.

    The largest share comes first. Channels are brought to mean 0 and deviation 1 before.
    """
    scaled = (images - images.mean((0, 1, 2))) / images.std((0, 1, 2))
    patches = np.lib.stride_tricks.sliding_window_view(scaled, (2, 2), axis=(1, 2))
    flat = patches.reshape(-1, 12)   # channel, row, column
    variances, directions = np.linalg.eigh(flat.T @ flat / len(flat))
    shown = directions.T[::-1].reshape(-1, 3, 2, 2).transpose(0, 2, 3, 1)
    return shown, variances[::-1] / variances.sum()


def whitening_figure(images: np.ndarray) -> BookFigure:
    """The directions of :func:`whitening` as small pictures, each with its share of the variance."""
    directions, shares = whitening(images)
    figure, (axis,) = new_figure(width=WIDE, height=2.7)
    for place, (direction, share) in enumerate(zip(directions, shares, strict=True)):
        row, column = divmod(place, 6)
        picture = np.clip(0.5 + 0.5 * direction / np.abs(direction).max(), 0, 1)
        axis.imshow(picture, extent=(column, column + 0.82, -1.25 * row - 0.82, -1.25 * row))
        axis.add_patch(Rectangle((column, -1.25 * row - 0.82), 0.82, 0.82, fill=False, edgecolor=FAINT, linewidth=0.8))
        axis.text(column + 0.41, -1.25 * row + 0.05, f"{100 * share:.2g} %", ha="center", va="bottom", fontsize=SMALL)
    axis.set(xlim=(-0.02, 5.84), ylim=(-2.1, 0.3), aspect="equal")
    axis.axis("off")
    return figure


def race_steps(race: Mapping[str, Any], arithmetic: float) -> dict[str, float]:
    """What lies between the published program's time and ours, in percent of its time; medians over the rounds.

    ``arithmetic``: our operations over the program's. *memory* is the time with freed memory kept, *arithmetic* that
    time times our share of the operations, *ours* our time: what is left between the last two is how much slower, or
    faster, our operations are.
    """
    seconds = {who: [run["seconds"] for run in race[who]] for who in ("theirs", "theirs_keeping_memory", "ours")}
    kept, ours = (100 * statistics.median(by_round(seconds[who], seconds["theirs"]))
                  for who in ("theirs_keeping_memory", "ours"))
    return {"program": 100.0, "memory": kept, "arithmetic": kept * arithmetic, "ours": ours}


def race_figure(steps: Mapping[str, float], labels: Mapping[str, str]) -> BookFigure:
    """A waterfall from the program's time to ours; ``labels`` say what each step of :func:`race_steps` is."""
    figure, (axis,) = new_figure(width=WIDE, height=2.9)
    values = list(steps.values())
    bars = [("program", 0.0, values[0], FAINT)]
    for name, before, after in zip(("memory", "arithmetic", "operations"), values, values[1:], strict=False):
        bars.append((name, before, after, COLOURS[2] if after < before else COLOURS[1]))
    bars.append(("ours", 0.0, values[-1], COLOURS[0]))
    for place, (_, start, end, colour) in enumerate(bars):
        axis.barh(-place, end - start, left=start, height=0.6, color=colour)
        text = f"{end:.0f} %" if start == 0 else f"{end - start:+.0f} points".replace("-", "\N{MINUS SIGN}")
        axis.text(max(start, end) + 1.5, -place, text, va="center", fontsize=SMALL, color=INK)
        if place < len(bars) - 1:
            axis.plot([end, end], [-place - 0.3, -place - 0.7], color=INK, linewidth=0.8)
    axis.set_yticks([-place for place in range(len(bars))], [labels[name] for name, *_ in bars])
    axis.set(xlabel="time of a run (% of the program's)", xlim=(0, 118))
    axis.grid(False, axis="y")
    return figure


def tradeoff_figure(
    found: Mapping[str, AccuracyInterval], seeds: Mapping[str, Sequence[float]], arithmetic: Mapping[str, float],
    records: Sequence[Mapping[str, Any]], goals: Sequence[float],
) -> BookFigure:
    """Test accuracy (percent) against the arithmetic of a run (PFLOP); published records as crosses.

    The bar is the 95 % interval over seeds and images; ``seeds``: each recipe's accuracies in percent.
    """
    figure, (axis,) = new_figure(width=WIDE, height=4.0)
    for goal in goals:
        axis.axhline(goal, color=FAINT, linestyle=":", linewidth=1)
    for number, (name, one) in enumerate(found.items()):
        x, mean, half = arithmetic[name], 100 * one.mean, 100 * one.both
        axis.plot([x, x], [mean - half, mean + half], color=COLOURS[0], linewidth=2.5, alpha=0.6,
                  label=None if number else "95 % interval")
        axis.plot([x] * len(seeds[name]), seeds[name], linestyle="", marker="o", markersize=4, color=COLOURS[0],
                  label=None if number else "our runs")
    axis.plot([one["petaflops"] for one in records], [100 * one["test_accuracy"] for one in records], linestyle="",
              marker="x", markersize=9, markeredgewidth=2, color=COLOURS[1], label="published")
    axis.set_xscale("log")
    axis.set_xlim(0.17, 4.2)
    plain_log_ticks(axis.xaxis)
    for number, one in enumerate(records):   # beside its cross; the first one's below our runs
        axis.annotate(one["name"], (one["petaflops"], 100 * one["test_accuracy"]), fontsize=SMALL, color=COLOURS[1],
                      xytext=(-9, 5) if number else (4, -36), textcoords="offset points",
                      ha="right" if number else "left")
    axis.set(xlabel="arithmetic of a run (PFLOP)", ylabel="test accuracy (%)")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=SMALL)
    return figure


def finished_before(first: Sequence[Mapping[str, Any]], searched: Sequence[Mapping[str, Any]]) -> int:
    """How many of the runs ``searched`` had finished when the earliest of the runs ``first`` began (provenances).

    A run that went on after an interruption counts as finished somewhat later than it was.
    """
    def at(facts: Mapping[str, Any]) -> datetime.datetime:
        return datetime.datetime.fromisoformat(facts["date"])

    # A run's own date is its last part's; older runs do not have the others'.
    began = min(at(next((part for part in one.get("sittings", ()) if "date" in part), one)) for one in first)
    return sum(at(one) + datetime.timedelta(seconds=one["wall_seconds"]) <= began for one in searched)
