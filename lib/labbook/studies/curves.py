"""What a run's curves come to, one value a seed: when they reach a target, how high they are, how often they turn."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

# Epochs that a curve needs to turn once.
FEWEST_TO_TURN = 3


def height(history: pd.DataFrame, column: str = "val_accuracy", first: int | None = None) -> pd.Series:
    """The mean of a curve over its ``first`` epochs (None: all), by seed: high where it rises early."""
    if first is not None:
        history = history[history["epoch"] <= first]
    return history.astype({column: float}).groupby("seed")[column].mean()


def oscillation(history: pd.DataFrame, column: str = "val_loss") -> pd.Series:
    """How much a curve goes back and forth, by seed, in the column's unit; NaN for fewer than three epochs, or where
    one of them has no value.

    Wherever two steps in a row have opposite signs, the smaller of the two counts; their sum over the number of inner
    epochs. A curve that only falls or only rises scores 0, however bent it is; a zigzag of height h scores h.
    """
    def back_and_forth(values: pd.Series) -> float:
        steps = np.diff(values.to_numpy())
        before, after = steps[:-1], steps[1:]
        turned = np.where(before * after < 0, np.minimum(abs(before), abs(after)), 0.0)
        known = len(values) >= FEWEST_TO_TURN and not np.isnan(steps).any()
        return float(turned.mean()) if known else math.nan

    ordered = history.sort_values("epoch").astype({column: float})
    return ordered.groupby("seed")[column].apply(back_and_forth)


