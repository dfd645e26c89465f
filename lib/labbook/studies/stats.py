"""Means, intervals and paired comparisons over seeds, by SciPy.

Every interval is a 95 % Student-t interval: few seeds, and their means close to normal. What may be said of one is
worded in :mod:`labbook.page.verdicts`.
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
# Two differences have one deviation between them: too little to divide by.
FEWEST_FOR_EFFECT_SIZE = 3
# That two are the same is not concluded from two differences, which may lie near each other by chance: no correction
# counts how often sameness was asked for.
FEWEST_FOR_SAME = 3
# The words of a comparison that say what is so, not that it is open.
CONCLUDED = ("higher", "lower", "same")


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

    @property
    def is_tie(self) -> bool:
        """Whether all values are the same: a tie of rounded figures, and no certainty."""
        return self.n > 1 and self.high - self.low < TIE

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


def paired_difference(a: pd.Series, b: pd.Series) -> Estimate:
    """Mean of a - b over the seeds that both have (the index), with its 95 % t interval; n = 0 if they share none."""
    a, b = _paired(a, b)
    if not len(a):
        return Estimate(math.nan, math.nan, math.nan, 0)
    return mean_interval(a - b)


def _paired(a: pd.Series, b: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Both series at the seeds (the index) at which both have a value."""
    shared = a.dropna().index.intersection(b.dropna().index)
    return a.loc[shared], b.loc[shared]


def direction(difference: Estimate, same_within: float | None = None) -> str:
    """Classify a difference: ``higher``, ``lower``, ``same``, ``unclear``, ``one seed`` or ``none``.

    ``same`` is an equivalence, of three differences or more: the whole interval lies within ±``same_within``.
    ``unclear`` says that the interval includes 0 and that this is not shown. Nothing to compare is ``none``. A
    difference can be both real and negligible; then it is named by its sign. The same difference with every seed is a
    tie of rounded figures and no certainty: its sign is not concluded from.
    """
    if difference.n < 2:
        return "one seed" if difference.n else "none"
    if difference.is_tie:
        return "same" if _within(difference, same_within) else "unclear"
    if difference.low > 0:
        return "higher"
    if difference.high < 0:
        return "lower"
    return "same" if _within(difference, same_within) else "unclear"


def _within(difference: Estimate, margin: float | None) -> bool:
    inside = margin is not None and -margin <= difference.low and difference.high <= margin
    return inside and difference.n >= FEWEST_FOR_SAME


def on_claim(difference: Estimate, supporting: str, same_within: float | None = None) -> str:
    """What a difference says of a claim: ``Supported``, ``Contradicted``, ``Negligible`` or ``Undecided``.

    ``supporting`` is the outcome of :func:`direction` that the claim foretells: ``higher``, ``lower`` or ``same``. A
    claim of ``same`` is contradicted only by an interval that lies outside ±``same_within`` altogether, one of a
    difference only by the opposite one; where any difference is too small to matter, that is said.
    """
    found = direction(difference, same_within)
    if supporting == "same":
        if _within(difference, same_within):  # whether or not the difference is real
            return "Supported"
        outside = same_within is not None and (difference.low > same_within or difference.high < -same_within)
        return "Contradicted" if outside and not difference.is_tie else "Undecided"
    if found == supporting:
        return "Supported"
    return {"higher": "Contradicted", "lower": "Contradicted", "same": "Negligible"}.get(found, "Undecided")


@dataclass(frozen=True)
class Comparison:
    """One level against the reference, over the seeds they share.

    ``p``: two-sided paired t test. ``p_holm``: the same, corrected for all comparisons that were planned (Holm 1979).
    ``p_same``: paired equivalence test, two one-sided t tests (Schuirmann 1987), against ±``same_within``.
    ``effect_size``: mean difference over the differences' standard deviation (Cohen's d_z), less its bias with few
    pairs (Hedges 1981); NaN below :data:`FEWEST_FOR_EFFECT_SIZE` pairs. NaN without an interval. ``lost``: further
    pairs that have no part in all this because a run of them diverged.
    """

    level: str
    reference: str
    difference: Estimate
    p: float
    p_holm: float
    p_same: float
    same_within: float | None
    effect_size: float
    lost: int = 0

    @property
    def word(self) -> str:
        """As :func:`direction`, but a difference that does not survive the correction is ``suggestive``.

        One that lies within ±``same_within`` is then ``same``: that is shown whatever its sign. Where every pair was
        lost to a run that diverged, the word is ``diverged``.
        """
        word = direction(self.difference, self.same_within)
        if word == "none" and self.lost:
            return "diverged"
        if word not in ("higher", "lower") or self.p_holm < 1 - CONFIDENCE:
            return word
        return "same" if _within(self.difference, self.same_within) else "suggestive"

    @property
    def turned(self) -> Comparison:
        """The same comparison, of the reference against the level."""
        d = self.difference
        return replace(self, level=self.reference, reference=self.level, effect_size=-self.effect_size,
                       difference=Estimate(-d.mean, -d.high, -d.low, d.n))


def compare(
    values: Mapping[str, pd.Series], reference: str, same_within: float = 0.5, planned: int = 0
) -> list[Comparison]:
    """Compare every level's ``values`` (indexed by seed) with the reference's, pairing by seed: :func:`compare_pairs`.

    Raises:
        KeyError: the reference is not among the levels.
    """
    pairs = [(level, reference) for level in values if level != reference]
    return compare_pairs(values, pairs, same_within, planned)


def compare_pairs(
    values: Mapping[str, pd.Series], pairs: Sequence[tuple[str, str]], same_within: float = 0.5, planned: int = 0
) -> list[Comparison]:
    """Compare the values (indexed by seed) of each pair of levels, pairing by seed; NaN is a run that diverged.

    Holm's correction is for ``planned`` comparisons, at least those named: one that has no interval yet counts as if
    it showed nothing, so that a verdict is not withdrawn merely because a study is finished.

    Raises:
        KeyError: a level has no values.
    """
    from scipy.special import stdtr  # SciPy's tests check and wrap their arguments for a hundred times as long

    rows = []
    for level, reference in pairs:
        difference = paired_difference(values[level], values[reference])
        both = values[level].index.intersection(values[reference].index)
        lost = len(both) - difference.n
        p = p_same = effect = math.nan
        if difference.n >= 2:
            spread = scatter(values[level], values[reference])
            if spread > TIE:
                error, freedom = spread / math.sqrt(difference.n), difference.n - 1
                p = 2 * float(stdtr(freedom, -abs(difference.mean) / error))
                p_same = float(stdtr(freedom, (abs(difference.mean) - same_within) / error))
                if difference.n >= FEWEST_FOR_EFFECT_SIZE:
                    effect = difference.mean / spread * _unbiased(difference.n - 1)
            else:
                # The same difference with every seed is a tie of rounded figures, not certainty: the tests divide by
                # its spread, 0, and nothing is shown but that it is small, where it is.
                p, p_same = 1.0, 0.0 if abs(difference.mean) < same_within else 1.0
        rows.append((level, reference, difference, p, p_same, effect, lost))
    family = [1.0 if math.isnan(row[3]) else row[3] for row in rows]
    family += [1.0] * (planned - len(family))
    corrected = holm(family)
    return [
        Comparison(level, reference, difference, p, math.nan if math.isnan(p) else p_holm, p_same, same_within,
                   effect, lost)
        for (level, reference, difference, p, p_same, effect, lost), p_holm in zip(rows, corrected, strict=False)
    ]


def _unbiased(freedom: int) -> float:
    """What a standardised mean of few values is multiplied by to be right on average (Hedges 1981, equation 6e)."""
    from scipy.special import gammaln

    return math.exp(gammaln(freedom / 2) - gammaln((freedom - 1) / 2)) * math.sqrt(2 / freedom)


def differ(a: Estimate, b: Estimate) -> bool:
    """Whether two independent means differ: Welch's t test at 5 %, from the means and their intervals."""
    from scipy.special import stdtr, stdtrit

    def variance(estimate: Estimate) -> float:
        """That of the mean."""
        return (estimate.half_width / float(stdtrit(estimate.n - 1, (1 + CONFIDENCE) / 2))) ** 2

    error, freedom = _welch(variance(a), a.n, variance(b), b.n)
    return bool(2 * stdtr(freedom, -abs(a.mean - b.mean) / error) < 1 - CONFIDENCE)


def _welch(a: float, n_a: int, b: float, n_b: int) -> tuple[float, float]:
    """Standard error and degrees of freedom of a difference of two means whose variances are ``a`` and ``b``."""
    return math.sqrt(a + b), (a + b) ** 2 / (a ** 2 / (n_a - 1) + b ** 2 / (n_b - 1))


def unpaired_difference(a: pd.Series, b: pd.Series) -> Estimate:
    """The mean of a less that of b with its 95 % interval, where they share no seeds: Welch's; ``n`` counts a's."""
    from scipy.special import stdtrit

    a, b = a.dropna(), b.dropna()
    mean = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        return Estimate(mean, math.nan, math.nan, len(a))
    error, freedom = _welch(a.var(ddof=1) / len(a), len(a), b.var(ddof=1) / len(b), len(b))
    reach = error * float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
    return Estimate(mean, mean - reach, mean + reach, len(a))


def scatter(a: pd.Series, b: pd.Series) -> float:
    """The standard deviation of a - b over the seeds that both have; NaN for fewer than two."""
    a, b = _paired(a, b)
    return float((a - b).std(ddof=1))


def detectable(seeds: int, planned: int) -> float:
    """From how many deviations of the paired differences on their mean survives Holm's correction for sure.

    That of the strongest of ``planned`` comparisons, each of ``seeds`` pairs: the paired t test at 5 % over their
    number. Where others are stronger, Holm asks less of the next.
    """
    from scipy.special import stdtrit

    return float(stdtrit(seeds - 1, 1 - (1 - CONFIDENCE) / (2 * planned))) / math.sqrt(seeds)


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
