"""Drawings of the depth chapter: where a gradient goes in a residual block, accuracy and gradients against depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from labbook.page.figures import COLOURS, INK, PALE, SMALL, WIDE, BookFigure, new_figure, plain_log_ticks
from labbook.studies.stats import mean_interval
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

KINDS = {"plain": COLOURS[1], "residual": COLOURS[0]}
WORDS = {"plain": "plain", "residual": "with shortcuts"}
LINES = {"plain": ("--", "s"), "residual": ("-", "o")}


def two_ways_back() -> BookFigure:
    """A residual block from left to right: the image's way above, the gradient's way back below."""
    figure, (axis,) = new_figure(width=WIDE, height=3.1)
    axis.axis("off")
    axis.set(xlim=(0, 10), ylim=(-3.0, 2.5))
    _half(axis, 0.5, COLOURS[0], 1, "F", "x", "y", ("F(x)", "identity: x"), "forward")
    _half(axis, -2.4, COLOURS[1], -1, "∂F/∂x", "g", "g + g ∂F/∂x", ("g ∂F/∂x", "identity: g"), "backward")
    return figure


def _half(axis: Axes, y: float, colour: str, direction: int, box: str, start: str, end: str,
          ways: tuple[str, str], title: str) -> None:
    """One way through the block, to the right (``direction`` 1) or back; ``ways``: what block and shortcut carry."""
    def at(x: float) -> float:
        return x if direction > 0 else 10 - x

    def arrow(*places: tuple[float, float]) -> None:
        *before, (x0, y0), (x1, y1) = [(at(x), height) for x, height in places]
        axis.plot([x for x, _ in before] + [x0], [height for _, height in before] + [y0], color=colour, linewidth=1.6)
        axis.add_patch(FancyArrowPatch((x0, y0), (x1, y1), arrowstyle="-|>", mutation_scale=13, color=colour,
                                       linewidth=1.6, shrinkA=0, shrinkB=0))

    left = min(at(3.3), at(5.7))
    axis.add_patch(FancyBboxPatch((left, y - 0.4), 2.4, 0.8, boxstyle="round,pad=0,rounding_size=0.1", edgecolor=INK,
                                  facecolor=PALE["conv"]))
    axis.text(left + 1.2, y, box, ha="center", va="center", fontsize=SMALL, color=INK)
    arrow((1.1, y), (3.3, y))
    arrow((5.7, y), (7.55, y))
    arrow((1.9, y), (1.9, y + 1.1), (7.8, y + 1.1), (7.8, y + 0.25))
    arrow((8.05, y), (8.7, y))
    axis.text(at(7.8), y, "+", ha="center", va="center", fontsize=12, color=INK,
              bbox={"boxstyle": "circle,pad=0.12", "facecolor": "none", "edgecolor": INK})
    axis.text(at(1.0), y, start, ha="right" if direction > 0 else "left", va="center", fontsize=11, color=INK)
    axis.text(at(8.8), y, end, ha="left" if direction > 0 else "right", va="center", fontsize=11, color=INK)
    axis.text(at(6.6), y + 0.12, ways[0], ha="center", va="bottom", fontsize=SMALL, color=colour)
    axis.text(5, y + 1.2, ways[1], ha="center", va="bottom", fontsize=SMALL, color=colour)
    axis.text(0, y + 1.2, title, ha="left", va="bottom", fontsize=SMALL, color=INK, fontweight="bold")


def by_depth(values: Mapping[str, pd.Series], depths: Mapping[str, Sequence[int]], ylabel: str) -> BookFigure:
    """Accuracy (%) against depth, a line for each kind of network, every seed a dot, 95 % intervals of the means.

    ``values`` by level such as ``plain 9``, indexed by seed; ``depths`` of each kind. Five layers have no block, so
    that network begins both lines.
    """
    figure, (axis,) = new_figure(width=WIDE, height=3.6)
    for kind, colour in KINDS.items():
        line, marker = LINES[kind]
        points = [(depth, values.get(f"{kind} {depth}", values.get(f"plain {depth}"))) for depth in depths[kind]]
        points = [(depth, found) for depth, found in points if found is not None and len(found)]
        shift = 0.12 if kind == "residual" else -0.12
        axis.plot([depth for depth, _ in points], [found.mean() for _, found in points], color=colour, linestyle=line,
                  marker=marker, markersize=7, linewidth=2)
        for depth, found in points:
            axis.plot(np.full(len(found), depth + shift), found, linestyle="", marker="o", markersize=3, color=colour,
                      alpha=0.45)
            if len(found) > 2:
                interval = mean_interval(found)
                axis.vlines(depth, interval.low, interval.high, color=colour, linewidth=3, alpha=0.4)
        if points:
            depth, found = points[-1]
            axis.annotate(WORDS[kind], (depth, found.mean()), xytext=(10, 0), textcoords="offset points", va="center",
                          color=colour, fontsize=SMALL)
    axis.set_xticks(sorted({depth for of in depths.values() for depth in of}))
    axis.set(xlabel="weighted layers", ylabel=ylabel)
    axis.set_xlim(right=axis.get_xlim()[1] + 3)
    return figure


def gradients(table: pd.DataFrame, shown: Sequence[str], steps: Mapping[int, str]) -> BookFigure:
    """The gradient norm of each convolution, first to last, one panel a step on a common axis; means over seeds.

    ``table`` has ``level``, ``step``, ``layer``, ``norm``. ``steps``: step to the panel's title. The classifier is left
    out: its gradient has passed through no other layer.
    """
    figure, axes = new_figure(len(steps), width=2.8, height=3.3)
    table = table[(table["layer"] != "classifier") & table["step"].isin(steps) & table["level"].isin(shown)]
    means = table.groupby(["step", "level", "layer"], sort=False)["norm"].mean().astype(float)
    for axis, (step, title) in zip(axes, steps.items(), strict=True):
        for level in shown:
            kind = level.split()[0]
            line, marker = LINES[kind]
            mean = means[(step, level)] if (step, level) in means else means[:0]
            axis.plot(np.arange(1, len(mean) + 1), mean, linestyle=line, color=KINDS[kind], linewidth=1.8,
                      marker=marker, markersize=4, label=WORDS[kind])
        axis.set_yscale("log")
        if len(means):
            axis.set_ylim(means.min() / 1.3, means.max() * 1.3)
        plain_log_ticks(axis.yaxis)
        axis.set(xlabel="convolution, first to last", title=title, xticks=[1, 4, 8, 12, 16])
    axes[0].set_ylabel("gradient norm")
    for axis in axes[1:]:
        axis.set_yticklabels([])
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False, fontsize=SMALL)
    return figure
