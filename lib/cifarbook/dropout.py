"""The drawings of the chapter on dropout: masks on feature maps, accuracy by rate, validation loss by epoch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from labbook.page.figures import COLOURS, FAINT, INK, SMALL, WIDE, BookFigure, new_figure
from labbook.studies.stats import mean_interval

# Where the two kinds of dropout stand in the study, by the first word of its levels.
PLACES = {"classifier": "single values, before the classifier", "blocks": "whole maps, after each stage"}


def feature_maps(picture: np.ndarray) -> np.ndarray:
    """Four feature maps (4, 32, 32), from 0 to 1, of a picture (32, 32, 3).

    They answer to what is bright, what is dark, and edges from left to right and from top to bottom, after ReLU.
    """
    grey = np.pad(picture.mean(-1) / 255, 2, mode="edge")
    smooth = np.lib.stride_tricks.sliding_window_view(grey, (3, 3)).mean((2, 3))   # (34, 34)
    middle = smooth[1:-1, 1:-1]
    maps = np.maximum([
        middle - middle.mean(), middle.mean() - middle,
        smooth[1:-1, 2:] - smooth[1:-1, :-2], smooth[2:, 1:-1] - smooth[:-2, 1:-1],
    ], 0)
    return np.sqrt(maps / maps.max((1, 2), keepdims=True))


def dropped(maps: np.ndarray, p: float, whole_maps: bool, generator: np.random.Generator) -> np.ndarray:
    """What dropout makes of feature maps (maps, height, width) in one training step; what is dropped is NaN."""
    shape = (len(maps), 1, 1) if whole_maps else maps.shape
    kept = generator.random(shape) >= p
    return np.where(kept, maps / (1 - p), np.nan)


def masks(picture: np.ndarray, p: float = 0.5) -> BookFigure:
    """Four feature maps of a picture under both kinds of mask, in two training steps and at test time."""
    maps = feature_maps(picture)
    figure, axes = new_figure(3, 2, width=2.13, height=2.25)
    kinds = {"single values": False, "whole maps": True}
    # Seeds by which half of the maps are dropped in either step, and others in the second.
    steps = {False: (0, 1), True: (3, 8)}
    for row, (kind, whole) in enumerate(kinds.items()):
        cells = [dropped(maps, p, whole, np.random.default_rng(seed)) for seed in steps[whole]] + [maps]
        titles = ("training, one step", "training, the next", "test") if not row else ("", "", "")
        for axis, found, title in zip(axes[3 * row: 3 * row + 3], cells, titles, strict=True):
            _mosaic(axis, found, 1 / (1 - p))
            axis.set_title(title, loc="center")
        axes[3 * row].set_ylabel(kind, fontsize=SMALL)
    return figure


def _mosaic(axis, maps: np.ndarray, brightest: float) -> None:
    """Four maps (4, side, side) in a square, lines between them; NaN in orange."""
    from matplotlib import colormaps

    side = maps.shape[1]
    whole = np.vstack([np.hstack(maps[:2]), np.hstack(maps[2:])])
    colours = colormaps["Greys"].with_extremes(bad="#F0B64A")
    axis.grid(False)
    axis.imshow(np.ma.masked_invalid(whole), cmap=colours, vmin=0, vmax=brightest, interpolation="nearest")
    axis.axhline(side - 0.5, color=FAINT, linewidth=1.5)
    axis.axvline(side - 0.5, color=FAINT, linewidth=1.5)
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(visible=True, color=FAINT)


def by_rate(accuracies: Mapping[str, pd.Series]) -> BookFigure:
    """Accuracy (percent) against the share that is dropped, a line each place; every seed a dot, intervals as bars.

    ``accuracies`` are by level: ``none``, or a place of :data:`PLACES` and a rate such as ``blocks 0.3``.
    """
    figure, (axis,) = new_figure(width=WIDE, height=3.9)
    without = accuracies.get("none", pd.Series(dtype=float))
    for number, (place, name) in enumerate(PLACES.items()):
        rates = {float(level.split()[1]): values for level, values in accuracies.items() if level.startswith(place)}
        points = ({0.0: without} if len(without) else {}) | rates
        colour, marker = COLOURS[number], "os"[number]
        shift = 0.6 * (2 * number - 1)
        at = [100 * rate + (shift if rate else 0) for rate in points]
        axis.plot(at, [values.mean() for values in points.values()], color=colour, marker=marker, label=name)
        for place_, values in zip(at, points.values(), strict=True):
            axis.plot(np.full(len(values), place_), values, linestyle="", marker="o", markersize=3, color=INK,
                      alpha=0.6, zorder=3)
            if len(values) > 2:
                estimate = mean_interval(values)
                axis.vlines(place_, estimate.low, estimate.high, color=colour, linewidth=5, alpha=0.3)
    if len(without):
        axis.axhline(without.mean(), color=FAINT, linestyle=":", linewidth=1)
        axis.annotate("without dropout", (50, without.mean()), xytext=(0, 4), textcoords="offset points", ha="right",
                      fontsize=SMALL, color=FAINT)
    axis.set(xlabel="share that is dropped (%)", ylabel="validation accuracy (%)", xticks=[0, 10, 20, 30, 50])
    axis.legend(loc="lower left", frameon=False)
    return figure


def losses(histories: Mapping[str, tuple[pd.DataFrame, str, str]]) -> BookFigure:
    """Validation loss by epoch, a panel each network: every seed a thin line, their mean a thick one.

    ``histories``: by title the table of epochs and the names of the two levels, without dropout and with it.
    """
    figure, axes = new_figure(len(histories), width=2.85, height=3.5)
    for axis, (title, (history, *levels)) in zip(axes, histories.items(), strict=True):
        for level, colour, line, name in zip(levels, COLOURS, ("-", "--"), ("without dropout", "half dropped"),
                                             strict=False):
            rows = history[history["level"] == level]
            for _, run in rows.groupby("seed"):
                axis.plot(run["epoch"], run["val_loss"].astype(float), color=colour, linewidth=0.7, alpha=0.45)
            mean = rows.groupby("epoch")["val_loss"].mean().astype(float)
            axis.plot(mean.index, mean, color=colour, linestyle=line, linewidth=2.2, label=name)
        axis.set(title=title, xlabel="epoch", ylabel="validation loss (nats)")
        axis.xaxis.get_major_locator().set_params(integer=True)
        shown = history[history["level"].isin(levels)].astype({"val_loss": float})
        if len(shown) and (last := shown["epoch"].max()) > 3:   # the first epochs lie far above
            from_here = shown[shown["epoch"] >= max(2, last // 3)]
            axis.set_ylim(0.97 * from_here["val_loss"].min(), 1.03 * from_here["val_loss"].max())
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False, fontsize=SMALL)
    return figure
