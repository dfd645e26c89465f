"""Every figure that chapters share, in one visual style. Functions return a figure and touch no global state."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from labbook.studies import stats

if TYPE_CHECKING:  # a run's curves are drawn without it
    import pandas as pd

# Okabe & Ito's palette: told apart with any colour vision. Line styles repeat the difference for print.
# The last two, Tol's wine and black, so that nine levels have a colour each.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666", "#882255", "#000000")
LINES = ("-", "--", "-.", ":", "-", "--", "-.", ":", "--")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "*")
INK, FAINT = "#222222", "#666666"
# Sizes that a phone shows legibly: inches of a figure with one panel, points of the letters beside and inside drawings.
WIDE, SMALL = 5.6, 10.5
STYLE = {
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
    "axes.grid": True, "grid.alpha": 0.25,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": "medium", "axes.titlelocation": "left",
    "legend.frameon": False, "legend.fontsize": SMALL, "font.size": 11.5, "svg.fonttype": "path",
    # A fixed salt: the same figure has the same bytes, so a rebuilt site differs only where its content does.
    "svg.hashsalt": "cifarlab",
}
BAND_FROM = 3   # seeds
PALE = {"conv": "#CFE3F1", "pool": "#F8DCC4", "linear": "#CDEBDD", "block": "#E3EDF5"}
# On grounds that stay as they are in both themes, such as those of a heat map.
ON_PALE = "#232323"
# How a drawing looks on a dark page: its colours there, by those that it is drawn in. It has no ground of its own.
ON_DARK = {
    "#000000": "#e8e8e8", INK: "#dddddd", FAINT: "#a6a6a6", "#ffffff": "#121212", "#b0b0b0": "#8a8a8a",
    COLOURS[0]: "#4aa3df", COLOURS[7]: "#d9689b",
    PALE["conv"]: "#1f3f57", PALE["pool"]: "#5c3b22", PALE["linear"]: "#1f4c3a", PALE["block"]: "#243a4d",
}


def dark_rules() -> str:
    """The style by which a drawing follows the colour scheme of the page that shows it: CSS for an SVG."""
    rules = "".join(
        f"[style*='{kind}: {old.lower()}']{{{kind}:{new}!important}}"
        for old, new in ON_DARK.items() for kind in ("fill", "stroke"))
    return f"@media (prefers-color-scheme:dark){{:root{{fill:{ON_DARK['#000000']}}}{rules}}}"


def look(number: int) -> tuple[str, str, str]:
    """Colour, line style and marker of a figure's level by its number; the palette's second round has other lines."""
    shifted = number + number // len(COLOURS)
    return COLOURS[number % len(COLOURS)], LINES[shifted % len(LINES)], MARKERS[shifted % len(MARKERS)]


LABELS = {
    "train_loss": "training loss (nats)", "val_loss": "validation loss (nats)",
    "fit_accuracy": "accuracy on training images (%)",
    "train_accuracy": "training accuracy (%)", "val_accuracy": "validation accuracy (%)",
    "distance": "distance (natural-log units)",
}


class BookFigure(Figure):
    """A matplotlib figure that shows itself as SVG: sharp at any size, on a screen and in print.

    It is drawn when it is first shown, and is not to be changed after that.
    """

    @functools.cached_property
    def _svg(self) -> str:
        buffer = io.StringIO()
        with matplotlib.rc_context(STYLE):
            self.savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue().replace("<defs>", f"<style>{dark_rules()}</style>\n <defs>", 1)

    def _repr_svg_(self) -> str:
        return self._svg


def new_figure(
    columns: int = 1, rows: int = 1, width: float = 4.2, height: float = 3.3
) -> tuple[BookFigure, list[Axes]]:
    """A figure in the book's style and its axes, row by row; ``width`` and ``height`` in inches a panel."""
    with matplotlib.rc_context(STYLE):
        figure = BookFigure(figsize=(width * columns, height * rows), layout="constrained")
        axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    return figure, axes


def in_percent(column: str, values):
    """Accuracies are stored as fractions and drawn in percent."""
    return 100 * values if column.endswith("accuracy") else values


def _epochs_axis(axis: Axes, ylabel: str) -> None:
    axis.set(xlabel="epoch", ylabel=ylabel)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


# Powers of ten from which on a logarithmic axis is labelled at powers of ten alone.
LONG_AXIS = 3


def plain_log_ticks(axis: Axis) -> None:
    """Label a logarithmic axis in plain figures: at 1, 2, 5, 10, …, since within one decade powers of ten alone say
    little; at powers of ten where it is long, and evenly where it is very short.
    """
    low, high = axis.get_data_interval()
    there = 0 < low < high < np.inf
    long = there and high / low > 10**LONG_AXIS
    axis.set_major_locator(LogLocator(subs=(1,) if long else (1, 2, 5)))
    if there and high / low < 2:  # hardly one of those is in sight
        axis.set_major_locator(MaxNLocator(4))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10f}".rstrip("0").rstrip(".")))
    axis.set_minor_formatter(NullFormatter())


def legend_below(figure: BookFigure, axis: Axes) -> None:
    """The names of what ``axis`` shows, below the figure, in as many columns as fit its width."""
    handles, names = axis.get_legend_handles_labels()
    inches = 0.6 + 0.08 * max(map(len, names), default=0)
    columns = min(4, int(figure.get_figwidth() / inches))
    figure.legend(handles, names, loc="outside lower center", ncols=max(1, columns), frameon=False, fontsize=SMALL)


def run_curves(history: Sequence[Mapping[str, float]]) -> BookFigure:
    """Loss and accuracy of one run, training and validation, epoch by epoch."""
    epochs = [row["epoch"] for row in history]
    figure, axes = new_figure(2)
    for axis, quantity in zip(axes, ("loss", "accuracy"), strict=True):
        for colour, part, name in zip(COLOURS, ("train", "val"), ("training", "validation"), strict=False):
            column = f"{part}_{quantity}"
            values = in_percent(column, np.array([row[column] for row in history], dtype=float))
            axis.plot(epochs, values, marker="o", markersize=3, color=colour, label=name)
        _epochs_axis(axis, {"loss": "loss (nats)", "accuracy": "accuracy (%)"}[quantity])
        axis.legend()
    return figure


def learning_curves(
    history: pd.DataFrame, levels: Sequence[str], columns: Sequence[str],
    original: Mapping[str, pd.DataFrame] | None = None, log_losses: bool = True,
) -> BookFigure:
    """One panel per column, two a row: each level's mean over seeds, its 95 % interval as a band, the original dotted.

    With fewer than three seeds an interval is wider than the picture; then each run is a thin line instead. On a
    logarithmic axis the interval is that of the logarithm, about the geometric mean: it cannot reach below zero.

    ``history`` has one row per run and epoch, with ``level`` and ``seed``; ``original`` maps a level to the epochs
    of the original's run. A column without any value has no panel, unless no column has one.
    """
    columns = [column for column in columns if history[column].notna().any()] or columns[:1]
    figure, axes = new_figure(min(2, len(columns)), -(-len(columns) // 2), width=3.6, height=3.1)
    for axis in axes[len(columns):]:
        axis.axis("off")
    for axis, column in zip(axes, columns, strict=False):
        logarithmic = log_losses and column.endswith("loss")
        for number, level in enumerate(levels):
            rows = history[history["level"] == level]
            by_epoch = [in_percent(column, values.dropna().astype(float))
                        for _, values in rows.groupby("epoch")[column] if values.notna().any()]
            if not by_epoch:
                continue
            epochs = sorted(rows.dropna(subset=[column])["epoch"].unique())
            colour, line, _ = look(number)
            axis.plot(epochs, [values.mean() for values in by_epoch], color=colour, linestyle=line, label=level)
            if max(map(len, by_epoch)) >= BAND_FROM:
                ends = [_interval(values, logarithmic) for values in by_epoch]
                axis.fill_between(epochs, *zip(*ends, strict=True), color=colour, alpha=0.2, linewidth=0)
            else:
                for _, run in rows.groupby("seed"):
                    axis.plot(run["epoch"], in_percent(column, run[column].astype(float)), color=colour, linewidth=0.7,
                              alpha=0.5)
            if original and level in original and column in original[level]:
                rows = original[level]
                axis.plot(rows["epoch"], in_percent(column, rows[column]), color=colour, linestyle=":", linewidth=0.9,
                          marker=".", markersize=4, label=f"{level}, the original's run")
        _epochs_axis(axis, LABELS[column])
        if logarithmic:
            axis.set_yscale("log")
            plain_log_ticks(axis.yaxis)
    handles, names = axes[0].get_legend_handles_labels()
    if len(axes) > len(columns):
        axes[-1].legend(handles, names, loc="center left", frameon=False)
    else:
        figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False, fontsize=SMALL)
    return figure


def _interval(values: pd.Series, logarithmic: bool) -> tuple[float, float]:
    """Both ends of the 95 % interval of the mean, or of the mean logarithm where all values are positive."""
    if logarithmic and (values > 0).all():
        estimate = stats.mean_interval(np.log(values))
        return float(np.exp(estimate.low)), float(np.exp(estimate.high))
    estimate = stats.mean_interval(values)
    return estimate.low, estimate.high


def seeds_by_level(
    runs: pd.DataFrame, levels: Sequence[str], column: str, marks: Mapping[str, float] | None = None,
    span: tuple[str, float, float] | None = None, originals: Mapping[str, float] | None = None,
) -> BookFigure:
    """Every seed a dot, mean and 95 % interval over them.

    ``marks`` are vertical lines (label to value), ``span`` a shaded range (label, from, to), ``originals`` the
    original's figure of each level, a diamond in its row.
    """
    if "diverged" in runs:
        # A level whose every run diverged keeps its row.
        levels = [*levels, *(name for name in dict.fromkeys(runs["level"]) if name not in levels)]
    upwards = list(reversed(levels))
    figure, (axis,) = new_figure(width=WIDE, height=0.75 + 0.42 * len(levels) + (0.3 if marks or originals else 0))
    for number, level in enumerate(upwards):
        rows = runs[runs["level"] == level]
        if "diverged" in rows and (lost := int(rows["diverged"].sum())):
            axis.text(0.01, number, f"× {lost} diverged", transform=axis.get_yaxis_transform(), va="center",
                      fontsize=SMALL, color=COLOURS[1])
            rows = rows[~rows["diverged"]]
        values = in_percent(column, rows[column].dropna().astype(float))
        if not len(values):
            continue
        estimate = stats.mean_interval(values)
        if estimate.n > 1:
            axis.plot([estimate.low, estimate.high], [number, number], color=COLOURS[0], linewidth=5, alpha=0.3,
                      solid_capstyle="butt")
        axis.plot(estimate.mean, number, marker="|", markersize=15, markeredgewidth=2, color=COLOURS[0])
        axis.plot(values, np.full(len(values), number), linestyle="", marker="o", markersize=4, color=INK, alpha=0.7)
    for (name, value), line in zip((marks or {}).items(), ("--", ":", "-."), strict=False):
        axis.axvline(value, color=COLOURS[1], linestyle=line, linewidth=1.2, label=name)
    if originals:
        axis.plot([originals.get(level, np.nan) for level in upwards], range(len(upwards)), linestyle="", marker="D",
                  markersize=6, markerfacecolor="none", markeredgewidth=1.5, color=COLOURS[1],
                  label="the original's run")
    axis.set_yticks(range(len(upwards)), upwards)
    axis.set(xlabel=LABELS.get(column, column), ylim=(-0.6, len(levels) - 0.4))
    if span:
        axis.axvspan(*span[1:], color=COLOURS[4], alpha=0.18, linewidth=0, label=span[0], zorder=0)
    if marks or span or originals:
        figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=SMALL)
    return figure


# --- networks -------------------------------------------------------------------------------------------------------


def _box(
    axis: Axes, x: float, y: float, width: float, height: float, text: str, colour: str, size: float = 8.5
) -> None:
    axis.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.08", linewidth=1,
                                  edgecolor=INK, facecolor=colour))
    axis.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=size, color=INK)


def _arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float], curve: float = 0.0) -> None:
    axis.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, color=INK, linewidth=1,
                                   connectionstyle=f"arc3,rad={curve}"))


def architecture(rows: Sequence[Mapping]) -> BookFigure:
    """A network from top to bottom, residual blocks with their shortcuts.

    ``rows``: one a layer, with ``layer`` (dotted name), ``kind``, ``detail`` (kernel) and ``output`` (shape).
    """
    shown = [row for row in rows if row["kind"] in ("Conv2d", "MaxPool2d", "Linear")]
    figure, (axis,) = new_figure(width=5.2, height=0.42 * len(shown) + 0.6)
    axis.axis("off")
    step, height, left, width = 1.0, 0.68, 1.6, 4.6
    axis.set(xlim=(0.4, 8.7), ylim=(-step * len(shown) + 0.3, 1.1))
    axis.text(left + width / 2, 0.65, "image 3 × 32 × 32", ha="center", fontsize=SMALL, color=INK)
    blocks: dict[str, list[float]] = {}
    for number, row in enumerate(shown):
        y = -step * (number + 1) + 0.5
        shape = " × ".join(str(size) for size in row["output"])
        kind = {"Conv2d": "conv", "MaxPool2d": "pool", "Linear": "linear"}[row["kind"]]
        text = {"conv": f"convolution {row.get('detail', '')}", "pool": f"max-pooling {row.get('detail', '')}",
                "linear": "fully connected"}[kind]
        _box(axis, left, y, width, height, f"{text} → {shape}", PALE[kind], size=9.5)
        axis.text(left + width + 0.15, y + height / 2, row["layer"], va="center", fontsize=SMALL, color=FAINT)
        _arrow(axis, (left + width / 2, y + step), (left + width / 2, y + height))
        if ".conv1." in row["layer"] or ".conv2." in row["layer"]:
            blocks.setdefault(row["layer"].rsplit(".", 2)[0], []).append(y)
    for places in blocks.values():
        top, bottom = max(places) + height + 0.16, min(places) - 0.18
        middle, side = left + width / 2, left - 0.5
        axis.plot([middle, side, side, middle], [top, top, bottom, bottom], color=COLOURS[1])
        axis.text(left - 0.62, (top + bottom) / 2, "identity", rotation=90, va="center", ha="right", fontsize=SMALL,
                  color=COLOURS[1])
        axis.text(left + width / 2, bottom, "+", ha="center", va="center", fontsize=SMALL, color=COLOURS[1],
                  bbox={"boxstyle": "circle,pad=0.12", "facecolor": "white", "edgecolor": COLOURS[1]})
    return figure


# --- classes and images ---------------------------------------------------------------------------------------------


def picture_grid(
    pictures: np.ndarray, titles: Sequence[str], columns: int = 6, width: float = 1.0
) -> BookFigure:
    """Images (N, 32, 32, 3) uint8 in a grid, each under its title."""
    rows = -(-len(pictures) // columns)
    lines = max((title.count("\n") + 1 for title in titles if title), default=0)
    figure, axes = new_figure(columns, rows, width=width, height=width + 0.17 * lines)
    for axis in axes:
        axis.axis("off")
    for axis, picture, title in zip(axes, pictures, titles, strict=False):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=SMALL, loc="center")
    return figure

