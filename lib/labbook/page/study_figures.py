"""The figures of the studies: cost against accuracy, a second factor, gradients by layer, receptive fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from labbook.page.figures import (
    BAND_FROM,
    COLOURS,
    FAINT,
    INK,
    LABELS,
    BookFigure,
    in_percent,
    legend_below,
    look,
    new_figure,
    plain_log_ticks,
)
from labbook.studies.stats import Comparison, mean_interval

EMPTY = "no run is in the store yet"
NO_PAIR = "no pair of runs is in the store yet"
LEAST_SPAN = 1.3   # a logarithmic axis of costs is as wide as this factor at least


def _empty(figure: BookFigure, said: str = EMPTY) -> BookFigure:
    """The picture of a study that has not been trained: it says so."""
    for axis in figure.axes:
        axis.set(xticks=[], yticks=[])
        axis.text(0.5, 0.5, said, ha="center", va="center", transform=axis.transAxes, color=FAINT)
    return figure


def pareto_front(values: Mapping[str, float], costs: pd.Series) -> list[tuple[float, float, str]]:
    """The (cost, value, level) that no other level beats in both, cheapest first; one without a cost is left out."""
    # Of two that cost the same, the better comes first.
    points = sorted((float(costs[level]), -value, level) for level, value in values.items() if pd.notna(costs[level]))
    front: list[tuple[float, float, str]] = []
    for cost, negative, level in points:
        if not front or -negative > front[-1][1]:
            front.append((cost, -negative, level))
    return front


def pareto(
    runs: pd.DataFrame, costs: pd.DataFrame, levels: Sequence[str], axes_of: Mapping[str, str],
    column: str = "val_accuracy",
) -> BookFigure:
    """Accuracy against cost, one panel for each of ``axes_of`` (a column of ``costs`` to its label).

    Every seed a dot, the level's mean a mark with its name; a grey line joins the levels that no other beats in both.
    """
    axes_of = {cost: label for cost, label in axes_of.items() if costs[cost].notna().any()}
    figure, axes = new_figure(max(1, len(axes_of)), width=3.5, height=3.4)
    if not levels or not axes_of:
        return _empty(figure)
    means = {
        level: in_percent(column, runs[(runs["level"] == level) & ~runs["diverged"]][column].astype(float))
        for level in levels
    }
    for axis, (cost, label) in zip(axes, axes_of.items(), strict=True):
        front = pareto_front({level: values.mean() for level, values in means.items()}, costs[cost])
        steps = [(x, y) for x, y, _ in front]
        axis.plot(*zip(*steps, strict=True), color=FAINT, linewidth=1, drawstyle="steps-post", zorder=1)
        for number, level in enumerate(levels):
            x = float(costs[cost][level])
            colour, _, marker = look(number)
            axis.plot(x, means[level].mean(), linestyle="", marker=marker, markersize=8, color=colour, label=level)
            # On the mean's mark, which covers them where seeds lie near each other on this axis.
            axis.plot(np.full(len(means[level]), x), means[level], linestyle="", marker="o", markersize=3, color=colour,
                      markeredgecolor="white", markeredgewidth=0.5, zorder=3)
        axis.set_xscale("log")
        # Costs that are nearly the same should look so.
        (low, high), known = axis.get_xlim(), costs[cost].reindex(levels).dropna()
        widened = max(1.0, LEAST_SPAN / (known.max() / known.min())) ** 0.5 if len(known) else 1.0
        axis.set_xlim(low / widened, high * widened)
        plain_log_ticks(axis.xaxis)
        axis.set(xlabel=label, ylabel=LABELS[column])
    legend_below(figure, axes[0])
    return figure


def sweep(
    runs: pd.DataFrame, settings: Sequence[str], xlabel: str, column: str = "val_accuracy"
) -> BookFigure:
    """One line a level over the settings of a crossed factor, in their order: means, every seed a dot.

    The levels' marks at one setting are set a little apart. A vertical line is the mean's 95 % interval, from three
    seeds on. A run that diverged is a cross on the axis.
    """
    figure, (axis,) = new_figure(width=6.4, height=3.6)
    if runs.empty:
        return _empty(figure)
    places = {setting: number for number, setting in enumerate(settings)}
    names = list(dict.fromkeys(runs["main"]))
    for number, name in enumerate(names):
        rows = runs[(runs["main"] == name) & runs["setting"].isin(places)]
        (colour, line, marker), shift = look(number), min(0.05, 0.2 / len(names)) * (number - (len(names) - 1) / 2)
        finished = rows[~rows["diverged"]]
        values = in_percent(column, finished[column].astype(float))
        x = finished["setting"].map(places).astype(float) + shift
        axis.plot(x, values, linestyle="", marker="o", markersize=3, color=colour, alpha=0.5)
        mean = values.groupby(x).mean()
        axis.plot(mean.index, mean, color=colour, linestyle=line, marker=marker, markersize=6, label=name)
        for place, of_place in values.groupby(x):
            if len(of_place) >= BAND_FROM:
                estimate = mean_interval(of_place)
                axis.vlines(place, estimate.low, estimate.high, color=colour, linewidth=2, alpha=0.4)
        lost = rows[rows["diverged"]]["setting"].map(places).astype(float) + shift
        if len(lost):  # an empty line outside the axis would disturb the layout
            axis.plot(lost, np.zeros(len(lost)), transform=axis.get_xaxis_transform(), linestyle="", marker="x",
                      color=colour, clip_on=False)
    axis.set_xticks(range(len(settings)), settings)
    axis.set(xlabel=xlabel, ylabel=LABELS[column])
    legend_below(figure, axis)
    return figure


def gradients_by_layer(
    gradients: pd.DataFrame, levels: Sequence[str], steps: Sequence[int], among: Sequence[str] = ()
) -> BookFigure:
    """The gradient norm of each layer's weights, first layer to last, one panel a step; means over seeds.

    Layers are placed by their order in the network, from 0 (first) to 1 (last), so that depths can be compared. Where
    ``levels`` are some of a study's, ``among`` are all of them: each then looks as it does in figures of all.
    """
    places = {level: number for number, level in enumerate(among or levels)}
    figure, axes = new_figure(len(steps), width=3.3, height=3.2)
    for axis, step in zip(axes, steps, strict=True):
        for level in levels:
            rows = gradients[(gradients["level"] == level) & (gradients["step"] == step)]
            order = list(dict.fromkeys(rows["layer"]))
            mean = rows.groupby("layer")["norm"].mean().reindex(order).astype(float)
            colour, line, marker = look(places[level])
            axis.plot(np.linspace(0, 1, len(mean)), mean, color=colour, linestyle=line, marker=marker, markersize=3.5,
                      label=level)
        axis.set_yscale("log")
        plain_log_ticks(axis.yaxis)
        axis.set(xlabel="place (0 first, 1 last layer)", title=f"step {step}")
    axes[0].set_ylabel("L2 norm of a layer's gradient")
    legend_below(figure, axes[0])
    return figure


def gap(results_runs: pd.DataFrame, levels: Sequence[str]) -> BookFigure:
    """Training loss (evaluation mode) and validation loss of each level, joined by the gap between them; means."""
    figure, (axis,) = new_figure(width=6.4, height=0.9 + 0.36 * len(levels))
    for number, level in enumerate(reversed(list(levels))):
        rows = results_runs[(results_runs["level"] == level) & ~results_runs["diverged"]]
        fit, val = rows["fit_loss"].astype(float), rows["val_loss"].astype(float)
        axis.plot([fit.mean(), val.mean()], [number, number], color=FAINT, linewidth=2, zorder=1)
        for values, colour, marker, name in ((fit, COLOURS[0], "o", "training images"),
                                             (val, COLOURS[1], "s", "validation images")):
            axis.plot(values, np.full(len(values), number), linestyle="", marker=marker, markersize=3, alpha=0.4,
                      color=colour)
            axis.plot(values.mean(), number, linestyle="", marker=marker, markersize=7, color=colour,
                      label=name if not number else None)
    axis.set_yticks(range(len(levels)), list(reversed(list(levels))))
    axis.set(xlabel="loss in evaluation mode (nats)", ylim=(-0.6, len(levels) - 0.4))
    axis.set_xlim(left=0)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize="small")
    return figure


def receptive_field_sizes(layer_rows: Sequence[Mapping]) -> list[int]:
    """The side of the input square that one output of each convolution or pooling sees, by layer order.

    For a layer of kernel k after layers of total stride s: r grows by (k - 1) s (Dumoulin & Visin 2016, chapter 2).
    ``layer_rows`` have ``kind`` and ``detail`` ("3 × 3"); a residual block's longest path counts.
    """
    size, stride, sizes = 1, 1, []
    for row in layer_rows:
        if row["kind"] not in ("Conv2d", "MaxPool2d"):
            continue
        kernel = int(row["detail"].split(" × ")[0])
        size += (kernel - 1) * stride
        stride *= kernel if row["kind"] == "MaxPool2d" else 1
        sizes.append(size)
    return sizes


def receptive_fields(sizes: Mapping[str, Sequence[int]], image_side: int = 32) -> BookFigure:
    """How the receptive field grows through the network, one line a level; the image's side is a dotted line."""
    figure, (axis,) = new_figure(width=6.4, height=3.2)
    for number, (level, values) in enumerate(sizes.items()):
        colour, line, marker = look(number)
        axis.plot(range(1, len(values) + 1), values, color=colour, linestyle=line, marker=marker, markersize=5,
                  label=level)
    axis.axhline(image_side, color=INK, linestyle=":", linewidth=1)
    axis.annotate("the image's side", (1, image_side), xytext=(0, 3), textcoords="offset points", fontsize="small")
    axis.set(xlabel="convolution or pooling, in order", ylabel="receptive field (pixels)", yscale="log")
    plain_log_ticks(axis.yaxis)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend()
    return figure


def repeated(conditions: Sequence[tuple[str, Sequence[Comparison]]]) -> BookFigure:
    """The same comparisons under two or more conditions: one row a pair, its difference and 95 % interval in each.

    ``conditions`` as :func:`labbook.studies.comparing.repeated` gives them. A pair without finished runs has no mark.
    """
    (_, pairs), *_ = conditions
    figure, (axis,) = new_figure(width=6.4, height=1.1 + 0.42 * max(1, len(pairs)))
    if not any(c.difference.n for _, found in conditions for c in found):
        return _empty(figure, NO_PAIR)
    for number, (name, found) in enumerate(conditions):
        colour, _, marker = look(number)
        shift = 0.3 * ((len(conditions) - 1) / 2 - number)
        for row, comparison in enumerate(reversed(found)):
            difference = comparison.difference
            if difference.n > 1:
                axis.plot([difference.low, difference.high], [row + shift] * 2, color=colour, linewidth=1.5)
            axis.plot(difference.mean, row + shift, linestyle="", marker=marker, markersize=6, color=colour,
                      label=None if row else name)
    axis.axvline(0, color=INK, linewidth=1)
    axis.set_yticks(range(len(pairs)), [f"{c.level} − {c.reference}" for c in reversed(pairs)])
    axis.set(xlabel="difference in validation accuracy (points)", ylim=(-0.6, len(pairs) - 0.4))
    legend_below(figure, axis)
    return figure


def tornado(rows: Sequence[Mapping], reference_seconds: float) -> BookFigure:
    """What each choice is worth: one bar a study from its worst level to its best, against the shared reference.

    ``rows`` have ``study``, ``span`` (an ``Estimate``, by which they are ordered), ``low`` and ``high``, each a (level,
    difference in points as an ``Estimate``, seconds an epoch). Left: points of accuracy, whiskers the ends' 95 %
    intervals; right: the two levels' time, and the reference's, ``reference_seconds``, as a line.
    """
    ordered = sorted(rows, key=lambda row: row["span"].mean)
    figure, (points, time) = new_figure(2, width=4.0, height=1.0 + 0.66 * len(rows))
    reach: list[float] = []
    for number, row in enumerate(ordered):
        for colour, marker, (_, estimate, cost) in ((COLOURS[1], "v", row["low"]), (COLOURS[0], "^", row["high"])):
            points.add_patch(
                Rectangle((0, number - 0.2), estimate.mean, 0.4, facecolor=colour, alpha=0.75, linewidth=0))
            if estimate.n > 1:
                points.plot([estimate.low, estimate.high], [number, number], color=INK, linewidth=1)
            time.plot(cost, number, linestyle="", marker=marker, markersize=8, color=colour)
        # Each level's name beyond its whisker, so that no line crosses it and the two never meet.
        for (level, estimate, _), outermost, offset, side in (
                (row["low"], min, -4, "right"), (row["high"], max, 4, "left")):
            beyond = outermost(0.0, *(end for end in (estimate.mean, estimate.low, estimate.high) if end == end))
            points.annotate(level, (beyond, number), xytext=(offset, 0), textcoords="offset points", ha=side,
                            va="center", fontsize=7.5, color=INK)
            reach.append(beyond)
        time.plot([row["low"][2], row["high"][2]], [number] * 2, color=FAINT, linewidth=1, zorder=1)
    span = max(max(reach) - min(reach), 1e-9)
    room = 0.65 * span  # for the names on either side
    points.set(xlim=(min(reach) - room, max(reach) + room), xlabel="difference in validation accuracy (points)")
    points.set_yticks(range(len(rows)), [row["study"] for row in ordered])
    time.set_yticks(range(len(rows)), [""] * len(rows))
    time.set(xlabel="seconds an epoch (line: the reference)")
    if np.isfinite(reference_seconds):
        time.set_xscale("log")
        plain_log_ticks(time.xaxis)
    else:  # the benchmark did not time such networks
        time.set_xticks([])
    time.tick_params(axis="x", which="both", labelsize=8)
    for axis, place in ((points, 0), (time, reference_seconds)):
        if np.isfinite(place):
            axis.axvline(place, color=INK, linewidth=1)
        axis.set_ylim(-0.6, len(rows) - 0.4)
    time.plot([], [], linestyle="", marker="v", color=COLOURS[1], label="the study's worst level")
    time.plot([], [], linestyle="", marker="^", color=COLOURS[0], label="its best level")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    return figure
