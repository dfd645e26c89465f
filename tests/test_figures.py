"""Figures: drawn also where a column has no values."""

from __future__ import annotations

import pandas as pd
import pytest
from labbook.page import figures


def test_two_levels_of_a_figure_never_look_alike():
    twice = range(2 * len(figures.COLOURS))
    for part in (slice(0, 2), slice(0, None, 2)):   # colour and line, colour and marker
        assert len({figures.look(number)[part] for number in twice}) == len(twice)


def history(val_accuracy: list) -> pd.DataFrame:
    return pd.DataFrame({
        "level": ["a", "a", "b", "b"], "seed": 0, "epoch": [1, 2, 1, 2], "train_loss": [2.0, 1.0, 2.0, 1.0],
        "val_loss": [None] * 4, "val_accuracy": val_accuracy,
    })


@pytest.mark.parametrize(("val_accuracy", "columns", "panels"), [
    ([None] * 4, ("val_loss", "val_accuracy", "train_loss"), ["training loss (nats)"]),
    ([None] * 4, ("val_loss", "val_accuracy"), ["validation loss (nats)"]),
    ([0.1, 0.2, None, None], ("val_accuracy", "train_loss"), ["validation accuracy (%)", "training loss (nats)"]),
])
def test_learning_curves_leave_out_what_was_not_measured(val_accuracy, columns, panels):
    figure = figures.learning_curves(history(val_accuracy), ["a", "b"], columns)
    assert [axis.get_ylabel() for axis in figure.axes] == panels
    assert figure._repr_svg_().startswith("<?xml")


def test_a_band_on_a_logarithmic_axis_stays_above_zero():
    """Losses that differ by orders of magnitude: the interval of their mean would reach far below zero."""
    losses = pd.DataFrame({"level": "a", "seed": [0, 1, 2] * 2, "epoch": [1] * 3 + [2] * 3,
                           "train_loss": [2.0, 2.1, 2.2, 0.04, 0.01, 0.0001]})
    ends = {}
    for logarithmic in (True, False):
        axis, *_ = figures.learning_curves(losses, ["a"], ["train_loss"], log_losses=logarithmic).axes
        (band,) = axis.collections
        ends[logarithmic] = band.get_paths()[0].vertices[:, 1].min()
    assert ends[False] < 0 < ends[True] < 0.0001
    # A long axis is labelled at powers of ten, in plain figures.
    axis, *_ = figures.learning_curves(losses, ["a"], ["train_loss"]).axes
    format_tick = axis.yaxis.get_major_formatter()
    assert [format_tick(value, 0) for value in (1000, 1, 0.00001)] == ["1,000", "1", "0.00001"]
