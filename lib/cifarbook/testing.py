"""Figures of the test: accuracies with what makes them uncertain, and which classes are mistaken for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from labbook.page.figures import COLOURS, FAINT, INK, ON_PALE, SMALL, WIDE, BookFigure, new_figure
from labbook.studies.stats import AccuracyInterval

# Confusions below so many images of a class stand as an empty square.
FEWEST = 1.0


def intervals(
    found: Mapping[str, AccuracyInterval], seeds: Mapping[str, Sequence[float]], marks: Mapping[str, float]
) -> BookFigure:
    """Test accuracy of each recipe: every seed a dot, two intervals of the mean; in percent.

    The thick bar is the 95 % interval over seeds, the thin one over seeds and images. ``seeds``: a recipe's accuracies
    in percent. ``marks``: vertical lines by name.
    """
    figure, (axis,) = new_figure(width=WIDE, height=1.3 + 0.42 * max(1, len(found)))
    for place, (name, one) in enumerate(reversed(found.items())):
        mean = 100 * one.mean
        for half, width, alpha in ((one.both, 2, 0.9), (one.seeds, 9, 0.35)):
            axis.plot([mean - 100 * half, mean + 100 * half], [place, place], color=COLOURS[0], linewidth=width,
                      alpha=alpha, solid_capstyle="butt")
        axis.plot(seeds[name], np.full(len(seeds[name]), place), linestyle="", marker="o", markersize=4, color=INK)
    for (name, value), line in zip(marks.items(), ("-", "--", ":"), strict=False):
        axis.axvline(value, color=COLOURS[1], linestyle=line, linewidth=1.2, label=name)
    axis.plot([], [], color=COLOURS[0], linewidth=9, alpha=0.35, label="other seeds")
    axis.plot([], [], color=COLOURS[0], linewidth=2, label="other seeds and images")
    axis.set_yticks(range(len(found)), list(reversed(found)))
    axis.set(xlabel="test accuracy (%)", ylim=(-0.6, len(found) - 0.4))
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=SMALL)
    return figure


def confusions(matrix: np.ndarray, classes: Sequence[str]) -> BookFigure:
    """Wrong predictions, in images of a class; rows: the true class, columns: the predicted one."""
    figure, (axis,) = new_figure(width=WIDE, height=5.6)
    axis.grid(False)
    errors = np.array(matrix, dtype=float)
    np.fill_diagonal(errors, 0)
    axis.imshow(errors, cmap="Blues", vmax=1.1 * errors.max())
    for row, column in np.ndindex(*errors.shape):
        if row == column:
            axis.text(column, row, "·", ha="center", va="center", color=FAINT)
        elif errors[row, column] >= FEWEST:
            dark = errors[row, column] > 0.55 * errors.max()
            axis.text(column, row, f"{errors[row, column]:.0f}", ha="center", va="center", fontsize=SMALL,
                      color="#fefefe" if dark else ON_PALE)
    axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axis.set_yticks(range(len(classes)), classes)
    axis.set(xlabel="predicted class", ylabel="true class")
    return figure
