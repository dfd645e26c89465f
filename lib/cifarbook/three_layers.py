"""The chapter from CNN to ResNet: one drawing of what three layers and nine reach; no torch."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from labbook.page.figures import COLOURS, FAINT, WIDE, BookFigure, new_figure
from matplotlib.ticker import MultipleLocator


def reached(
    groups: Mapping[str, Mapping[str, pd.Series]], low: float, high: float, never: float
) -> BookFigure:
    """Validation accuracies (%) of named networks, every seed a dot, in named groups, from top to bottom.

    The first group is grey. Behind it: the range from ``low`` to ``high``, and a line at ``never``.
    """
    rows = [(name, values, colour) for colour, group in zip((FAINT, *COLOURS), groups.values(), strict=False)
            for name, values in group.items()]
    figure, (axis,) = new_figure(width=WIDE, height=1.0 + 0.36 * len(rows))
    for place, (_, values, colour) in enumerate(rows):
        axis.plot(values, [place] * len(values), linestyle="", marker="o", markersize=5.5, alpha=0.6, color=colour)
        if len(values):
            axis.plot(values.mean(), place, marker="|", markersize=17, markeredgewidth=2, color=colour)
    axis.axvspan(low, high, color=COLOURS[4], alpha=0.18, linewidth=0, zorder=0)
    axis.axvline(never, color=COLOURS[1], linestyle="--", linewidth=1.2, zorder=0)
    for place, text, align in (((low + high) / 2, "the original's range", "center"), (never, " “never”", "left")):
        axis.text(place, -0.75, text, ha=align, va="bottom", color=FAINT)
    axis.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    for label, (_, _, colour) in zip(axis.get_yticklabels(), rows, strict=True):
        label.set_color(colour)
    axis.xaxis.set_major_locator(MultipleLocator(5))
    axis.set(xlabel="validation accuracy (%)", ylim=(len(rows) - 0.4, -1.4))
    return figure
