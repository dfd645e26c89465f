"""Means, intervals and paired comparisons over seeds, by SciPy; and the sentences that they allow.

Every interval is a 95 % Student-t interval: few seeds, and their means close to normal. Verdicts are worded by
:func:`verdict` alone, and never say more than the interval does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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
    from scipy import stats as scipy_stats  # half a second to import, and a training run needs none of it

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

    ``same`` is an equivalence: the whole interval lies within ±``same_within``. ``unclear`` says that the interval
    includes 0 and reaches further than that. Nothing to compare is ``none``. A difference can be both real and
    negligible; then it is named by its sign. The same difference with every seed is a tie of rounded figures and no
    certainty: its sign is not concluded from.
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
    return margin is not None and -margin <= difference.low and difference.high <= margin


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


def verdict(
    what: str, a: str, b: str, difference: Estimate, unit: str, same_within: float | None = None, digits: int = 2
) -> str:
    """One sentence about ``a - b``, computed from its interval: the only place where such a sentence is worded.

    For example ``verdict("final validation accuracy", "warm-up cosine", "constant", d, "points", 0.5)``.
    """
    alone = Comparison(a, b, difference, math.nan, math.nan, math.nan, same_within, math.nan)
    return _worded(direction(difference, same_within), what, alone, unit, digits)


def _worded(word: str, what: str, comparison: Comparison, unit: str, digits: int) -> str:
    """The sentence for one outcome of :func:`direction` or of :attr:`Comparison.word`."""
    a, b, difference = f"*{comparison.level}*", f"*{comparison.reference}*", comparison.difference
    unit = f" {unit}" if unit else ""
    amount = f"{abs(difference.mean):.{digits}f}{unit}"
    low, high = (_end(value, digits) for value in (difference.low, difference.high))
    interval = f"95 % interval {low} to {high}{unit}, n = {difference.n}"
    interval += f", effect size {comparison.effect_size:+.1f}" if math.isfinite(comparison.effect_size) else ""
    # Runs that diverged have no part in a mean: a sentence that is silent about them would flatter their level.
    lost = (f"; in {comparison.lost} more pair{'s' * (comparison.lost > 1)} a run diverged" if comparison.lost else "")
    interval += lost
    sided = f"{amount} {'above' if difference.mean > 0 else 'below'} that of {b}"
    match word:
        case "higher" | "lower":
            return f"The {what} of {a} is {word} than that of {b} by {amount} ({interval})."
        case "same":
            if math.isfinite(comparison.p_same) and not difference.is_tie:
                interval += f", equivalence test p {_equals(comparison.p_same)}"
            return (
                f"The {what} of {a} and of {b} is the same within ±{comparison.same_within:g}{unit} "
                f"(difference {difference.mean:+.{digits}f}{unit}; {interval})."
            )
        case "suggestive":
            return (
                f"The {what} of {a} came out {sided} ({interval}); among the planned comparisons that is not enough "
                "to call it a difference"
            )
        case "unclear":
            return (
                f"No difference between {a} and {b} in {what} was found, nor are they shown to be the same: "
                f"{difference.mean:+.{digits}f}{unit} ({interval})."
            )
        case "none":
            return f"There is no pair of finished runs of {a} and {b} to compare yet."
        case "diverged":
            pairs = f"the {comparison.lost} pairs" if comparison.lost > 1 else "the one pair"
            return f"No pair of runs of {a} and {b} is left to compare: in {pairs} a run diverged."
    if abs(difference.mean) < TIE:
        sided = f"equal to that of {b}"
    return f"One pair of runs, so no interval: the {what} of {a} is {sided}{lost}."


def _end(value: float, digits: int) -> str:
    """An end of an interval with its sign; rounding does not hide on which side of 0 it lies."""
    text = f"{value:+.{digits}f}"
    if value == 0 or float(text) != 0 or math.isnan(value):
        return text
    return np.format_float_positional(value, precision=1, fractional=False, sign=True)


def against(estimate: Estimate, target: float, whose: str, unit: str = " %") -> str:
    """One sentence on a mean beside a fixed figure, such as another report's: where its interval lies."""
    return against_each(estimate, {whose: target}, unit)


def against_each(estimate: Estimate, targets: Mapping[str, float], unit: str = " %") -> str:
    """As :func:`against`, of several figures by their names: which its interval is above or below, which are inside."""
    def named(of: Mapping[str, float], where: Callable[[float], str] = lambda target: "") -> str:
        return " and ".join(f"{where(target)}{whose} {target:.2f}{unit}" for whose, target in of.items())

    if estimate.n < 2:
        return f"One seed: {estimate.mean:.2f}{unit}, beside {named(targets)}; one seed has no interval."
    if estimate.is_tie:
        return f"All {estimate.n} values are {estimate.mean:.2f}{unit}, {named(targets)}; a tie has no interval."
    reached = f"{estimate.mean:.2f} ± {estimate.half_width:.2f}{unit} (n = {estimate.n})"
    inside = {whose: target for whose, target in targets.items() if estimate.low <= target <= estimate.high}
    outside = {whose: target for whose, target in targets.items() if whose not in inside}
    sentences = []
    if outside:
        places = named(outside, lambda target: "above " if estimate.low > target else "below ")
        sentences.append(f"The mean, {reached}, and its whole interval are {places}.")
    if inside:
        sentences.append(f"The interval of the mean, {reached}, contains {named(inside)}: neither above nor below is "
                         "shown.")
    return " ".join(sentences)


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


def curve_height(history: pd.DataFrame, column: str = "val_accuracy", first: int | None = None) -> pd.Series:
    """The mean of a curve over its ``first`` epochs (None: all), by seed: high where it rises early."""
    if first is not None:
        history = history[history["epoch"] <= first]
    return history.astype({column: float}).groupby("seed")[column].mean()


def gradient_span(gradients: pd.DataFrame, step: int) -> pd.Series:
    """How many factors of ten the largest of the layers' gradient norms is above the smallest at ``step``, by seed.

    ``gradients`` holds the columns ``seed``, ``step`` and ``norm``, a row a layer; a seed without the step is left out.
    """
    norms = gradients[gradients["step"] == step].astype({"norm": float}).groupby("seed")["norm"]
    return np.log10(norms.max() / norms.min())


# Epochs that a curve needs to turn once; and how many before its turns are compared, and what is said of shorter ones.
FEWEST_TO_TURN = 3
ENOUGH_TO_TURN = 10
TOO_SHORT_TO_TURN = "Curves this short have too few places to turn: nothing is compared."


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


# Two differences have one deviation between them: too little to divide by.
FEWEST_FOR_EFFECT_SIZE = 3


# --- a study's comparisons ------------------------------------------------------------------------------------------


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
    from scipy import stats as scipy_stats
    from statsmodels.stats.multitest import multipletests
    from statsmodels.stats.weightstats import ttost_paired

    rows = []
    for level, reference in pairs:
        difference = paired_difference(values[level], values[reference])
        both = values[level].index.intersection(values[reference].index)
        lost = len(both) - difference.n
        p = p_same = effect = math.nan
        if difference.n >= 2:
            a, b = (part.to_numpy(float) for part in _paired(values[level], values[reference]))
            spread = scatter(values[level], values[reference])
            if spread > TIE:
                p = float(scipy_stats.ttest_rel(a, b).pvalue)
                p_same = float(ttost_paired(a, b, -same_within, same_within)[0])
                if difference.n >= FEWEST_FOR_EFFECT_SIZE:
                    effect = difference.mean / spread * _unbiased(difference.n - 1)
            else:
                # The same difference with every seed is a tie of rounded figures, not certainty: the tests divide by
                # its spread, 0, and nothing is shown but that it is small, where it is.
                p, p_same = 1.0, 0.0 if abs(difference.mean) < same_within else 1.0
        rows.append((level, reference, difference, p, p_same, effect, lost))
    family = [1.0 if math.isnan(row[3]) else row[3] for row in rows]
    family += [1.0] * (planned - len(family))
    corrected = multipletests(family, method="holm")[1] if family else ()
    return [
        Comparison(level, reference, difference, p, math.nan if math.isnan(p) else float(p_holm), p_same, same_within,
                   effect, lost)
        for (level, reference, difference, p, p_same, effect, lost), p_holm in zip(rows, corrected, strict=False)
    ]


def _unbiased(freedom: int) -> float:
    """What a standardised mean of few values is multiplied by to be right on average (Hedges 1981, equation 6e)."""
    from scipy.special import gammaln

    return math.exp(gammaln(freedom / 2) - gammaln((freedom - 1) / 2)) * math.sqrt(2 / freedom)


def comparison_verdict(what: str, comparison: Comparison, unit: str = "points", digits: int = 2) -> str:
    """One sentence about a comparison: :func:`verdict`, held to what the correction leaves of it."""
    sentence = _worded(comparison.word, what, comparison, unit, digits)
    corrected = f" (Holm-corrected p = {p_text(comparison.p_holm)})."
    return sentence + corrected if comparison.word == "suggestive" else sentence


# The words of a comparison that say what is so, not that it is open.
CONCLUDED = ("higher", "lower", "same")


def carried_over(first: Comparison, second: Comparison) -> str:
    """Whether the conclusion of ``first`` holds in ``second``, the same comparison under other conditions.

    ``"it carried over"`` (with ``", but not its size"`` where the two differ from each other), ``"it turned round"``,
    ``"it did not carry over"`` (one finds a difference, the other none beyond ±``same_within``, and the two differ from
    each other); where either draws no conclusion, or they may be one and the same difference, that is said instead.
    """
    if first.word not in CONCLUDED:
        return "the first draws no conclusion that could carry over"
    if first.word == second.word:
        sized = first.word != "same" and _differ(first.difference, second.difference)
        return "it carried over" + (", but not its size" if sized else "")
    if {first.word, second.word} == {"higher", "lower"}:
        return "it turned round"
    if second.word in CONCLUDED and _differ(first.difference, second.difference):
        return "it did not carry over"
    return "whether it carried over is not decided"


def _differ(a: Estimate, b: Estimate) -> bool:
    """Whether two independent means differ: Welch's t test at 5 %, from the means and their intervals."""
    from scipy import stats as scipy_stats

    def deviation(estimate: Estimate) -> float:
        return estimate.half_width / scipy_stats.t.ppf((1 + CONFIDENCE) / 2, estimate.n - 1) * math.sqrt(estimate.n)

    found = scipy_stats.ttest_ind_from_stats(
        a.mean, deviation(a), a.n, b.mean, deviation(b), b.n, equal_var=False)
    return bool(found.pvalue < 1 - CONFIDENCE)


def scatter(a: pd.Series, b: pd.Series) -> float:
    """The standard deviation of a - b over the seeds that both have; NaN for fewer than two."""
    a, b = _paired(a, b)
    return float((a - b).std(ddof=1))


def detectable(seeds: int, planned: int) -> float:
    """How many deviations of the paired differences their mean must exceed to survive Holm's correction.

    For the strongest of ``planned`` comparisons, each of ``seeds`` pairs: the paired t test at 5 % over their number.
    """
    from scipy import stats as scipy_stats

    return float(scipy_stats.t.ppf(1 - (1 - CONFIDENCE) / (2 * planned), seeds - 1)) / math.sqrt(seeds)


def _equals(p: float) -> str:
    text = p_text(p)
    return text if text.startswith("<") else f"= {text}"


def p_text(p: float) -> str:
    """A p value as a reader expects it: three decimals, ``< 0.001`` below."""
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"
