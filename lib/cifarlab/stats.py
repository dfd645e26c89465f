"""Means, intervals and paired comparisons over seeds, by SciPy; and the sentences that they allow.

Every interval is a 95 % Student-t interval: few seeds, and their means close to normal. Verdicts are worded by
:func:`verdict` alone, and never say more than the interval does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over ``n`` values and its 95 % interval; the interval is NaN for fewer than two values."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    def __format__(self, spec: str) -> str:
        """``f"{estimate:.1f}"`` gives ``88.2 ± 0.3 (n = 3)``; with one value ``88.2 (n = 1, no interval)``."""
        spec = spec or ".2f"
        if self.n < 2:
            return f"{self.mean:{spec}} (n = {self.n}, no interval)"
        return f"{self.mean:{spec}} ± {self.half_width:{spec}} (n = {self.n})"


def mean_interval(values: Sequence[float] | pd.Series) -> Estimate:
    """Mean and 95 % t interval of ``values``.

    Raises:
        ValueError: there is no value.
    """
    array = np.asarray(values, dtype=float)
    if not len(array):
        raise ValueError("there is no value to take a mean of")
    mean = float(array.mean())
    if len(array) < 2:
        return Estimate(mean, math.nan, math.nan, len(array))
    error = float(scipy_stats.sem(array))
    if error == 0:
        return Estimate(mean, mean, mean, len(array))
    low, high = scipy_stats.t.interval(CONFIDENCE, len(array) - 1, loc=mean, scale=error)
    return Estimate(mean, float(low), float(high), len(array))


def paired_difference(a: pd.Series, b: pd.Series) -> Estimate:
    """Mean of a - b over the seeds that both have (the index), with its 95 % t interval; n = 0 if they share none."""
    shared = a.dropna().index.intersection(b.dropna().index)
    if not len(shared):
        return Estimate(math.nan, math.nan, math.nan, 0)
    return mean_interval(a.loc[shared] - b.loc[shared])


def direction(difference: Estimate, same_within: float | None = None) -> str:
    """Classify a difference: ``higher``, ``lower``, ``same``, ``unclear``, ``one seed`` or ``none``.

    ``same`` is an equivalence: the whole interval lies within ±``same_within``. ``unclear`` says that the interval
    includes 0 and reaches further than that. Nothing to compare is ``none``. A difference can be both real and
    negligible; then it is named by its sign.
    """
    if difference.n < 2:
        return "one seed" if difference.n else "none"
    if difference.low > 0:
        return "higher"
    if difference.high < 0:
        return "lower"
    if same_within is not None and -same_within <= difference.low and difference.high <= same_within:
        return "same"
    return "unclear"


def verdict(
    what: str, a: str, b: str, difference: Estimate, unit: str, same_within: float | None = None, digits: int = 2
) -> str:
    """One sentence about ``a - b``, computed from its interval: the only place where such a sentence is worded.

    For example ``verdict("final validation accuracy", "warm-up cosine", "constant", d, "points", 0.5)``.
    """
    unit = f" {unit}" if unit else ""
    amount = f"{abs(difference.mean):.{digits}f}{unit}"
    interval = f"95 % interval {difference.low:+.{digits}f} to {difference.high:+.{digits}f}{unit}, n = {difference.n}"
    match direction(difference, same_within):
        case "higher" | "lower" as word:
            return f"The {what} of {a} is {word} than that of {b} by {amount} ({interval})."
        case "same":
            return (
                f"The {what} of {a} and of {b} is the same within ±{same_within:g}{unit} "
                f"(difference {difference.mean:+.{digits}f}{unit}; {interval})."
            )
        case "unclear":
            return (
                f"No difference between {a} and {b} in {what} was found, nor are they shown to be the same: "
                f"{difference.mean:+.{digits}f}{unit} ({interval})."
            )
        case "none":
            return f"There is no pair of finished runs of {a} and {b} to compare yet."
    return (
        f"With one seed there is no interval: the {what} of {a} differs from that of {b} by "
        f"{difference.mean:+.{digits}f}{unit} in this one pair of runs."
    )


def epochs_to_reach(history: pd.DataFrame, column: str, target: float) -> pd.Series:
    """The first epoch at which each run's ``column`` is at least ``target``, by seed; NaN where it never is.

    ``history`` holds the columns ``seed``, ``epoch`` and ``column``.
    """
    reached = history[history[column] >= target].groupby("seed")["epoch"].min()
    return reached.reindex(sorted(history["seed"].unique())).astype(float)


def oscillation(history: pd.DataFrame, column: str = "val_loss") -> pd.Series:
    """How much a curve goes back and forth, by seed, in the column's unit.

    The mean distance of an epoch's value from the mean of its two neighbours. A straight line scores 0 whether it
    falls or rises, so steady overfitting does not count as oscillation; a zigzag of height h scores h.
    """
    def roughness(values: pd.Series) -> float:
        neighbours = (values.shift(1) + values.shift(-1)) / 2
        return float((values - neighbours).abs().mean())

    ordered = history.sort_values("epoch").astype({column: float})
    return ordered.groupby("seed")[column].apply(roughness)
