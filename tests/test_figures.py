"""Figures: drawn also where a column has no values."""

from __future__ import annotations

import pandas as pd
import pytest
from cifarlab import figures


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
