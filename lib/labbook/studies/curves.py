"""What a run's curves come to, one value a seed: when they reach a target, how high they are, how often they turn."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

# Epochs that a curve needs to turn once; and how many before its turns are compared, and what is said of shorter ones.
FEWEST_TO_TURN = 3
ENOUGH_TO_TURN = 10
TOO_SHORT_TO_TURN = "Curves this short have too few places to turn: nothing is compared."


def epochs_to_reach(history: pd.DataFrame, column: str, target: float) -> pd.Series:
    """The first epoch at which each run's ``column`` is at least ``target``, by seed; NaN where it never is.

    ``history`` holds the columns ``seed``, ``epoch`` and ``column``.
    """
    reached = history[history[column] >= target].groupby("seed")["epoch"].min()
    return reached.reindex(sorted(history["seed"].unique())).astype(float)


def time_to_reach(history: pd.DataFrame, column: str, target: float, start: float = 0.0) -> pd.Series:
    """When each run's ``column`` first passes ``target``, by seed, in epochs: on the straight line between two epochs.

    Before the first epoch the curve is at ``start``. NaN where the target is never reached. ``history`` as for
    :func:`epochs_to_reach`.
    """
    def crossing(values: pd.Series) -> float:
        curve = np.concatenate([[start], values.to_numpy(float)])
        after = int(np.argmax(curve >= target))
        if curve[after] < target:
            return math.nan
        before = curve[after - 1] if after else start
        return after - (curve[after] - target) / (curve[after] - before) if after else 0.0

    return history.sort_values("epoch").groupby("seed")[column].apply(crossing)


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


def of_convolutions(gradients: pd.DataFrame) -> pd.DataFrame:
    """Gradients without the classifier's, which passed through no other layer on its way back.

    Its norm follows the size of the last features, and in a residual network it is the largest by far: a spread that
    included it would be the classifier's.
    """
    return gradients[gradients["layer"] != "classifier"]


def gradient_span(gradients: pd.DataFrame, step: int) -> pd.Series:
    """How many factors of ten the largest of the convolutions' gradient norms is above the smallest, by seed.

    ``gradients`` holds the columns ``seed``, ``step``, ``layer`` and ``norm``, a row a layer; a seed without ``step``
    is left out.
    """
    of_step = of_convolutions(gradients[gradients["step"] == step])
    norms = of_step.astype({"norm": float}).groupby("seed")["norm"]
    return np.log10(norms.max() / norms.min())
