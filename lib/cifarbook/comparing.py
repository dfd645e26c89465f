"""What the chapter on comparing shows: seeds beside their differences, and how large a difference can be found."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from labbook.page.figures import COLOURS, INK, WIDE, BookFigure, new_figure
from labbook.studies.stats import CONFIDENCE, differences


def detectable(seeds: int, comparisons: int = 1, power: float = 0.8) -> float:
    """How large a true difference must be to be found in a share ``power`` of all experiments.

    In standard deviations of one run; of two variants with ``seeds`` runs each, by a two-sided t test at 5 %, which is
    divided by the number of ``comparisons`` as Holm's correction does for the first of them.
    """
    from scipy.optimize import brentq
    from scipy.special import chdtri, ndtr, stdtrit

    freedom = 2 * seeds - 2
    threshold = stdtrit(freedom, 1 - (1 - CONFIDENCE) / (2 * comparisons))
    # The noncentral t distribution, as a mean over quantiles of the estimated deviation.
    deviations = np.sqrt(chdtri(freedom, (np.arange(4000) + 0.5) / 4000) / freedom)
    error = math.sqrt(2 / seeds)
    return float(brentq(lambda size: ndtr(size / error - threshold * deviations).mean() - power, 0, 1000))


def example(accuracies: Mapping[str, pd.Series], ringed: int) -> BookFigure:
    """Accuracies (percent, by seed) of a few variants and, below, their differences from the first with intervals.

    The runs of seed ``ringed`` have a ring.
    """
    figure, (runs, below) = new_figure(1, 2, width=WIDE, height=2.2)
    names = list(accuracies)
    for number, values in enumerate(accuracies.values()):
        colour = COLOURS[number]
        place = len(names) - 1 - number
        runs.plot(values, np.full(len(values), place), linestyle="", marker="o", markersize=6, color=colour, alpha=0.75)
        if ringed in values.index:
            runs.plot(values[ringed], place, linestyle="", marker="o", markersize=12, markerfacecolor="none",
                      markeredgecolor=INK)
        if len(values):
            runs.plot(values.mean(), place, marker="|", markersize=26, markeredgewidth=2, color=colour)
    runs.set_yticks(range(len(names)), list(reversed(names)))
    runs.set(xlabel="validation accuracy (%)", ylabel="dropped", ylim=(-0.6, len(names) - 0.4))
    found = differences(accuracies, [(name, names[0]) for name in names[1:]])
    for number, difference in enumerate(found):
        colour, place = COLOURS[number + 1], len(found) - 1 - number
        below.plot([difference.low, difference.high], [place, place], color=colour, linewidth=2.5)
        below.plot(difference.mean, place, marker="o", markersize=7, color=colour)
    below.axvline(0, color=INK, linewidth=1)
    below.set_yticks(range(len(found)), [difference.a for difference in reversed(found)])
    below.set(xlabel="difference from nothing dropped (points)", ylabel="dropped", ylim=(-0.6, len(found) - 0.4))
    return figure
