"""What curves come to, on constructed ones."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from labbook.studies import curves

HISTORY = pd.DataFrame({
    "seed": [0, 0, 0, 1, 1, 1], "epoch": [1, 2, 3] * 2,
    "val_accuracy": [0.5, 0.8, 0.7, 0.1, 0.2, 0.3], "val_loss": [1.0, 0.5, 0.8, 2.0, 1.5, 1.0],
})


def curve(*values: float) -> pd.DataFrame:
    return pd.DataFrame({"seed": 0, "epoch": range(len(values)), "val_loss": values})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 1.2] * 3, 0.2),  # a zigzag scores its height
        ([0.5, 0.6, 0.7, 0.8], 0.0),  # steady overfitting is no oscillation
        ([2.0, 1.0, 0.7, 0.6, 0.59], 0.0),  # nor is a curve that is merely bent
        ([1.0, 0.8, 0.9, 0.95], 0.05),  # one valley: the smaller of its two steps, over two inner epochs
        ([1.0, 0.9, 0.9, 1.0], 0.0),
    ],
)
def test_oscillation_counts_only_turns(values, expected):
    assert curves.oscillation(curve(*values))[0] == pytest.approx(expected)


def test_oscillation_is_by_seed_and_needs_three_epochs():
    assert curves.oscillation(HISTORY).tolist() == pytest.approx([0.3, 0.0])
    assert math.isnan(curves.oscillation(curve(1.0, 0.5))[0])
    assert math.isnan(curves.oscillation(curve(1.0, math.nan, 0.5, 0.7))[0])
