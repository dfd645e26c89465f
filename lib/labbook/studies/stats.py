"""Means, intervals and comparisons over seeds: Welch's t test, corrected by Holm.

Every interval is a 95 % Student-t interval: few seeds, and their means close to normal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # a run's curves are drawn without it
    import pandas as pd

CONFIDENCE = 0.95
# Differences that are nearer to each other than this are equal but for the last digits of their computation.
TIE = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A mean over ``n`` values and its 95 % interval; the interval is NaN for fewer than two values."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2


def mean_interval(values: Sequence[float] | pd.Series) -> Estimate:
    """Mean and 95 % t interval of ``values``.

    Raises:
        ValueError: there is no value.
    """
    from scipy.special import stdtrit  # a run's curves are drawn without it

    array = np.asarray(values, dtype=float)
    if not len(array):
        raise ValueError("there is no value to take a mean of")
    mean = float(array.mean())
    if len(array) < 2:
        return Estimate(mean, math.nan, math.nan, len(array))
    error = float(array.std(ddof=1)) / math.sqrt(len(array))
    reach = error * float(stdtrit(len(array) - 1, (1 + CONFIDENCE) / 2))
    return Estimate(mean, mean - reach, mean + reach, len(array))


# --- one method for every study: Welch's ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """The mean of level ``a`` less that of ``b``, by Welch's t test: what every claim and evidence page rests on.

    The seeds of two levels are two samples: sharing a seed ties two runs too loosely for pairing to pay. ``effect`` is
    Hedges' g: the difference in standard deviations of one run. ``p`` is two-sided and not corrected. With fewer than
    two values on a side everything but ``mean`` is NaN; where neither side scatters at all, that is a tie of rounded
    figures and no certainty: ``p`` is 1.
    """

    a: str
    b: str
    mean: float
    low: float
    high: float
    n_a: int
    n_b: int
    error: float
    freedom: float
    p: float
    effect: float

    @property
    def turned(self) -> Difference:
        """The same comparison, of b less a."""
        return replace(self, a=self.b, b=self.a, mean=-self.mean, low=-self.high, high=-self.low, n_a=self.n_b,
                       n_b=self.n_a, effect=-self.effect)

    def p_at_least(self, by: float) -> float:
        """p of the claim that a is higher than b by more than ``by``; below 0.05 where the 95 % interval lies above."""
        return _one_sided(self.mean - by, self.error, self.freedom)

    def p_within(self, margin: float) -> float:
        """p of the claim that the difference lies within ±``margin``; below 0.05 where the 95 % interval does.

        Two one-sided tests (Schuirmann 1987), each at 2.5 %.
        """
        return max(self.p_at_least(-margin), self.turned.p_at_least(-margin))


def _one_sided(beyond: float, error: float, freedom: float) -> float:
    """Twice the one-sided p of a mean that lies ``beyond`` a bound: to be held against 0.05, as two-sided ones are."""
    from scipy.special import stdtr

    if math.isnan(error):
        return math.nan
    return 1.0 if error < TIE else min(1.0, 2 * float(stdtr(freedom, -beyond / error)))


def differences(values: Mapping[str, pd.Series], pairs: Sequence[tuple[str, str]]) -> list[Difference]:
    """Compare each pair of levels by Welch's t test; all pairs at once. ``values`` are by level, NaN is left out.

    A level without values has none: its comparisons are NaN.
    """
    from scipy.special import gammaln, stdtr, stdtrit

    if not pairs:
        return []
    samples = {level: np.asarray(found, dtype=float) for level, found in values.items()}
    samples = {level: found[~np.isnan(found)] for level, found in samples.items()}
    none = np.empty(0)
    sides = [[samples.get(pair[side], none) for pair in pairs] for side in (0, 1)]
    n = np.array([[len(found) for found in side] for side in sides], dtype=float)
    mean = np.array([[found.mean() if len(found) else math.nan for found in side] for side in sides])
    variance = np.array([[found.var(ddof=1) if len(found) > 1 else math.nan for found in side] for side in sides])
    with np.errstate(all="ignore"):
        parts = variance / n
        error = np.sqrt(parts.sum(axis=0))
        freedom = parts.sum(axis=0) ** 2 / (parts ** 2 / (n - 1)).sum(axis=0)
        difference = mean[0] - mean[1]
        tie = error < TIE
        reach = np.where(tie, 0.0, stdtrit(freedom, (1 + CONFIDENCE) / 2) * error)
        p = np.where(tie, 1.0, 2 * stdtr(freedom, -np.abs(difference) / error))
        unbiased = np.exp(gammaln(freedom / 2) - gammaln((freedom - 1) / 2)) * np.sqrt(2 / freedom)
        effect = np.where(tie, math.nan, difference / np.sqrt(variance.mean(axis=0)) * unbiased)
    return [
        Difference(a, b, *map(float, (d, d - r, d + r)), int(n[0, i]), int(n[1, i]), float(error[i]),
                   float(freedom[i]), float(p[i]), float(effect[i]))
        for i, ((a, b), d, r) in enumerate(zip(pairs, difference, reach, strict=True))
    ]


def p_reaches(values: Sequence[float] | pd.Series, target: float) -> float:
    """p of the claim that the mean of ``values`` is above ``target``; below 0.05 where its 95 % interval lies above."""
    array = np.asarray(values, dtype=float)
    if len(array) < 2:
        return math.nan
    return _one_sided(array.mean() - target, float(array.std(ddof=1)) / math.sqrt(len(array)), len(array) - 1)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's correction (1979) of a whole family. NaN, of what cannot be tested yet, counts as 1 and stays NaN."""
    array = np.asarray(p, dtype=float)
    order = np.argsort(np.where(np.isnan(array), 1.0, array), kind="stable")
    smallest = np.where(np.isnan(array), 1.0, array)[order] * np.arange(len(array), 0, -1)
    corrected = np.empty(len(array))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(smallest))
    return [math.nan if math.isnan(one) else float(found) for one, found in zip(array, corrected, strict=True)]


@dataclass(frozen=True)
class AccuracyInterval:
    """A test accuracy (a fraction) with half widths of its 95 % interval over new seeds, over new images, over both."""

    mean: float
    seeds: float
    images: float
    both: float
    n_seeds: int
    n_images: int


def accuracy_interval(correct: np.ndarray) -> AccuracyInterval:
    """How sure a test accuracy is: other seeds would give another one, and so would other images.

    ``correct``, shape (seeds, images), says which images each seed's network classifies correctly. Both parts of the
    variance are added: that of the seeds' accuracies over the seeds, and that of how often an image is classified
    correctly over the images, which for one seed is the binomial one. Degrees of freedom by Satterthwaite.

    Raises:
        ValueError: fewer than two seeds or images.
    """
    from scipy.special import stdtrit

    table = np.asarray(correct, dtype=float)
    if table.ndim != 2 or min(table.shape) < 2:
        raise ValueError(f"an interval takes two seeds and two images or more; this is of shape {table.shape}")
    n = np.array(table.shape)
    parts = np.array([table.mean(axis=1).var(ddof=1), table.mean(axis=0).var(ddof=1)]) / n
    total = parts.sum()
    freedom = total ** 2 / (parts ** 2 / (n - 1)).sum() if total else 1.0
    seeds, images, both = stdtrit([*(n - 1), freedom], (1 + CONFIDENCE) / 2) * np.sqrt([*parts, total])
    return AccuracyInterval(float(table.mean()), float(seeds), float(images), float(both), *map(int, n))
