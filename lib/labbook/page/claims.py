"""Judge what a page claims of a study's runs: estimate, interval, corrected p, and whether the runs show it.

A study's comparisons and claims are planned in its file, and are one family: Holm's correction counts all of them,
whether or not their runs exist and whichever page claims them. So a claim can be judged where it is made, and has the
same p on every page. One that is not planned is refused with the line that plans it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pandas as pd

from labbook.errors import LabError, did_you_mean, shown
from labbook.studies import stats
from labbook.studies.results import StudyResults
from labbook.studies.stats import CONFIDENCE, Difference, Estimate
from labbook.studies.study import ACCURACY, CROSS, PlannedClaim, Study, joined, parted

# What a claim says of two levels, of one among several, or of one and a figure.
RELATIONS = (">", "<", "=", "?", "highest", "lowest", "reaches")
Status = Literal["shown", "not shown", "too few seeds"]
# Final figures that runs have beside the accuracy that every study plans to compare.
FINALS = ("train_loss", "train_accuracy", "val_loss", "fit_loss", "fit_accuracy")
WORDS = {ACCURACY: "validation accuracy", "train_loss": "training loss", "train_accuracy": "training accuracy",
         "val_loss": "validation loss", "fit_loss": "final loss on training images (dropout and augmentation off)",
         "fit_accuracy": "final accuracy on training images (dropout and augmentation off)"}
MINUS = "\N{MINUS SIGN}"
TEST = "Welch's t test, corrected by Holm"
SAME = "Two one-sided Welch's t tests, corrected by Holm"


class ClaimError(LabError):
    """A claim is written wrongly or is not planned; the message says what to write."""


@dataclass(frozen=True)
class Claim:
    """A judged claim, as it travels from a chapter to the prose: plain values only.

    ``words`` is what the prose shows. ``difference`` is of the two levels, or of the best and the next; ``family`` how
    many comparisons and claims its p was corrected for. ``runs`` are the ids of the runs behind it; ``more`` counts, by
    level, those that studies in ``pooled`` add.
    """

    name: str
    study: str
    says: str
    words: str
    status: Status
    unit: str
    column: str
    difference: dict[str, float] | None
    levels: list[dict[str, Any]]
    p: float
    family: int
    effect: float
    rule: str
    runs: list[str]
    fields: dict[str, str]
    test: str = TEST
    pooled: list[str] = field(default_factory=list)
    more: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    changed: dict[str, str] = field(default_factory=dict)

    @property
    def fatal(self) -> bool:
        """Whether it must stop the build: the study's own runs do not show it."""
        return self.status != "shown" and not self.changed

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON has them: a number that is none is null."""
        return _null(asdict(self))

    @property
    def line(self) -> str:
        """The claim in a line of plain text: what it says, what the runs show, how sure that is."""
        mark = {"shown": "✓", "not shown": "✗ not shown by these runs", "too few seeds": "✗ too few seeds"}[self.status]
        return f"{mark} · {self.name}: {self.says} · {self.evidence}"

    @property
    def evidence(self) -> str:
        """Difference, interval, n and corrected p in a line."""
        counts = ", ".join(f"{one['name']} n = {one['n']}" for one in self.levels)
        parts = [self.fields["signed"], f"95 % interval {self.fields['interval']}" if self.fields["interval"] else "",
                 counts, f"p {p_text(self.p)} (corrected for {self.family})" if not math.isnan(self.p) else ""]
        return " · ".join(part for part in parts if part)


def _null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _null(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_null(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --- figures and words ----------------------------------------------------------------------------------------------


def percent(column: str) -> bool:
    """Whether a final figure is an accuracy, shown in percent and its differences in points."""
    return column.endswith("accuracy")


def unit_of(column: str, difference: bool) -> str:
    """The unit of a final figure, or of a difference of two."""
    if percent(column):
        return "points" if difference else "%"
    return "nats" if column.endswith("loss") else "s" if column.endswith("seconds") else ""


def number(value: float, digits: int | None = None) -> str:
    """A figure with so many decimals, by default with two significant digits and at most three decimals."""
    if digits is None:
        size = abs(value)
        digits = 1 if size == 0 else min(3, max(0, 1 - math.floor(math.log10(size))))
        # 9.96 has two digits as 10, not as 10.0.
        digits = max(0, digits - 1) if digits and float(f"{size:.{digits}f}") >= 10 ** (2 - digits) else digits
    return f"{value:,.{digits}f}".replace("-", MINUS)


def p_text(p: float) -> str:
    """A p value as a sentence has it: ``= 0.012``, ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _with(figure: str, unit: str) -> str:
    """A figure and its unit: 2 points, 1 point."""
    if figure == "1" and len(unit) > 2:
        unit = unit.removesuffix("s")
    return f"{figure} {unit}" if unit else figure


# --- the family ------------------------------------------------------------------------------------------------------


def finals(results: StudyResults, column: str = ACCURACY) -> dict[str, pd.Series]:
    """One final figure of every level by seed, without runs that diverged; accuracies in percent.

    Raises:
        ClaimError: runs have no such figure.
    """
    figures = [name for name in (ACCURACY, *FINALS) if name in results.runs.columns]
    if column not in figures:
        raise ClaimError(f"column: {shown(column)} is no final figure of a run{did_you_mean(column, figures)}. Known: "
                         f"{', '.join(figures)}. A figure that the chapter computes comes with values=.")
    scale = 100 if percent(column) else 1
    finished = results.runs[~results.runs["diverged"]].sort_values("seed")
    found = (scale * finished.set_index(["level", "seed"])[column].astype(float)).dropna()
    by_level = {level: values.droplevel("level") for level, values in found.groupby("level")}
    return {level: by_level[level] for level in results.levels if level in by_level}


def pairs_of(study: Study) -> list[tuple[str, str]]:
    """The pairs of levels whose final validation accuracy a study plans to compare: each pair once.

    Each level with the reference, in a crossed study under the same setting; then the file's ``comparisons``.
    """
    main = parted(study.reference)[0]
    with_reference = ((level, joined(main, parted(level)[1]) if CROSS in level else study.reference)
                      for level in study.levels)
    once: dict[frozenset[str], tuple[str, str]] = {}
    for pair in [*with_reference, *study.comparisons]:
        if pair[0] != pair[1]:
            once.setdefault(frozenset(pair), pair)
    return list(once.values())


def by_name(found: Mapping[str, pd.Series], wanted: Sequence[str]) -> dict[str, pd.Series]:
    """The values of the levels ``wanted``; of one that has none, an empty series."""
    return {level: found.get(level, pd.Series(dtype=float)) for level in wanted}


class Family:
    """All that a study plans to compare and claim, each with its p, corrected together.

    ``values`` gives, for the name of a figure, its values by level and seed; a figure that it does not have is one that
    a chapter computes, and counts in the correction as if it showed nothing.
    """

    def __init__(self, study: Study, values: Mapping[str, Mapping[str, pd.Series]]):
        self.study = study
        self.pairs = stats.differences(values[ACCURACY], pairs_of(study))
        self.claims = {claim.key: p_of(claim, values[claim.of]) if claim.of in values else math.nan
                       for claim in study.claims}
        corrected = stats.holm([*(pair.p for pair in self.pairs), *self.claims.values()])
        self.p_pairs = corrected[: len(self.pairs)]
        self.p_claims = dict(zip(self.claims, corrected[len(self.pairs):], strict=True))

    @property
    def size(self) -> int:
        """How many comparisons and claims there are."""
        return len(self.pairs) + len(self.claims)

    def of_pair(self, a: str, b: str) -> tuple[Difference, float]:
        """The accuracy of ``a`` less that of ``b``, and its corrected p.

        Raises:
            ClaimError: the study does not plan the pair.
        """
        for found, p in zip(self.pairs, self.p_pairs, strict=True):
            if {found.a, found.b} == {a, b}:
                return (found if found.a == a else found.turned), p
        raise ClaimError(f"{a!r} and {b!r} are no comparison that study {self.study.name!r} plans. Add to "
                         f"studies/{self.study.name}.yml:\n  comparisons:\n    - {json.dumps([a, b])}")

    def of_claim(self, claim: PlannedClaim) -> float:
        """The corrected p of a planned claim.

        Raises:
            ClaimError: the study does not plan it.
        """
        if claim.key not in self.p_claims:
            name = self.study.name
            raise ClaimError(f"Study {name!r} does not plan this claim. Add to studies/{name}.yml:\n  claims:\n"
                             f"    {claim.line}")
        return self.p_claims[claim.key]


def p_of(claim: PlannedClaim, values: Mapping[str, pd.Series]) -> float:
    """The p of one planned claim, not corrected; NaN with fewer than two runs of a level."""
    first = claim.levels[0]
    if claim.reaches is not None:
        return stats.p_reaches(by_name(values, [first])[first], claim.reaches)
    if claim.highest or claim.lowest:
        others = claim.others or [one for one in values if one != first]   # none while a study has no run
        return extreme(first, others, values, bool(claim.highest))[0] if others else math.nan
    (difference,) = stats.differences(values, [claim.levels])
    if claim.by:
        return difference.p_at_least(claim.by)
    return difference.p_within(claim.within) if claim.within else difference.p


def extreme(
    best: str, others: Sequence[str], values: Mapping[str, pd.Series], highest: bool
) -> tuple[float, Difference]:
    """The p of ``best`` being above, or below, each of the ``others``, and its difference to the next of them.

    It is that of the least sure comparison, an intersection-union test (Berger 1982): all must hold, so that of many
    none is picked. NaN where one has fewer than two runs.
    """
    found = stats.differences(values, [(best, other) for other in others])
    sign = 1 if highest else -1
    nearest = min(found, key=lambda one: math.inf if math.isnan(one.mean) else sign * one.mean)
    p = [math.nan if math.isnan(one.p) else one.p if sign * one.mean > 0 else 1.0 for one in found]
    return (math.nan if any(map(math.isnan, p)) else max(p)), nearest


# --- judging --------------------------------------------------------------------------------------------------------


def judge(
    study: Study, figures: Mapping[str, Mapping[str, pd.Series]], name: str, level: str, relation: str,
    other: str | float | None = None, *, column: str = ACCURACY, by: float | None = None, within: float | None = None,
    among: Sequence[str] | None = None, unit: str | None = None, digits: int | None = None,
) -> Claim:
    """Judge a claim of a study's figures, which are by name, level and seed. The facade fills in what is left out here.

    Raises:
        ClaimError: it is written wrongly, names a level that is not there, or is not planned.
    """
    if relation not in RELATIONS:
        raise ClaimError(f"claim {name!r}: the relation {shown(relation)} is not known. Known: {', '.join(RELATIONS)}.")
    values, family = figures[column], Family(study, figures)
    known = list(study.levels) if column in (ACCURACY, *FINALS) else list(dict.fromkeys([*values, *study.levels]))

    def check(one: Any) -> str:
        if one not in known:
            raise ClaimError(f"claim {name!r}: {shown(one)} is no level of study {study.name!r}"
                             f"{did_you_mean(one, known)}. Known: {', '.join(known)}.")
        return one

    check(level)
    units = {"difference": unit if unit is not None else unit_of(column, True),
             "level": unit if unit is not None else unit_of(column, False)}
    made = _Making(name, study, family, values, column, units, digits)
    if (relation in ("highest", "lowest")) and other is None:
        return made.extreme(level, [check(one) for one in among] if among else None, relation)
    if relation == "reaches" and isinstance(other, int | float):
        return made.reaches(level, float(other))
    if relation not in (">", "<", "=", "?") or not isinstance(other, str):
        raise ClaimError(f"claim {name!r}: {relation!r} is followed by "
                         + ("among=[…]" if relation in ("highest", "lowest") else
                            "a number" if relation == "reaches" else "a level") + f", not by {shown(other)}.")
    check(other)
    if (within is None) == (relation == "=") or (by is not None and relation not in "<>"):
        raise ClaimError(f"claim {name!r}: '=' takes within=, '>' and '<' may take by=.")
    return made.pair(level, relation, other, by, within)


@dataclass
class _Making:
    """What the kinds of claims share: the study, its family, the figure's values, units."""

    name: str
    study: Study
    family: Family
    values: Mapping[str, pd.Series]
    column: str
    units: dict[str, str]
    digits: int | None

    @property
    def figure(self) -> str:
        """What is compared, in words."""
        return WORDS.get(self.column, self.column)

    def difference(self, a: str, b: str) -> tuple[Difference, float]:
        """The figure of a less that of b and its corrected p."""
        if self.column == ACCURACY:
            return self.family.of_pair(a, b)
        p = self.family.of_claim(PlannedClaim(levels=(a, b), of=self.column))
        return stats.differences(self.values, [(a, b)])[0], p

    def pair(self, a: str, relation: str, b: str, by: float | None, within: float | None) -> Claim:
        if by or within:
            upper, lower = (a, b) if relation != "<" else (b, a)
            p = self.family.of_claim(PlannedClaim(levels=(upper, lower), of=self.column, by=by, within=within))
            difference = stats.differences(self.values, [(a, b)])[0]
        else:
            difference, p = self.difference(a, b)
        towards = difference.mean if relation == ">" else -difference.mean
        unit, few = self.units["difference"], math.isnan(difference.p)
        sure = p < 1 - CONFIDENCE
        holds = {"=": sure, "?": not sure}.get(relation, sure and towards > 0)
        size = number(abs(difference.mean), self.digits) if not math.isnan(difference.mean) else "–"
        margin, figure = _with(f"{by or within or 0:g}", unit), self.figure
        words = {"=": f"less than {margin}", "?": "no clear difference"}.get(
            relation, _with(size, unit))
        says = {
            ">": f"“{a}” is higher than “{b}” in {figure}", "<": f"“{a}” is lower than “{b}” in {figure}",
            "?": f"no clear difference between “{a}” and “{b}” in {figure}",
            "=": f"“{a}” and “{b}” are the same within {margin} in {figure}",
        }[relation] + (f" by {margin} or more" if by else "")
        rule = {
            "=": "Shown where the corrected p of lying within the margin (two one-sided tests) is below 0.05; then the "
                 "whole interval does.",
            "?": "Shown where the corrected p is 0.05 or more: a difference is neither shown nor excluded.",
        }.get(relation, "Shown where the corrected p is below 0.05"
              + (f"; p is that of a difference of more than {margin}." if by else "."))
        status: Status = "too few seeds" if few else "shown" if holds else "not shown"
        return self.made(says, words, status, difference, [a, b], p, rule, test=SAME if relation == "=" else TEST)

    def extreme(self, best: str, among: Sequence[str] | None, relation: str) -> Claim:
        others = [one for one in among or self.values if one != best]
        if not others:
            raise ClaimError(f"claim {self.name!r}: there is no other level; name them with among=[…].")
        p = self.family.of_claim(PlannedClaim(
            levels=(best,), of=self.column, **{relation: tuple(others) if among else "all"}))
        p_alone, nearest = extreme(best, others, self.values, relation == "highest")
        side = "above" if relation == "highest" else "below"
        rule = (f"Shown where it is {side} each of the {len(others)} others with a corrected p below 0.05. The "
                f"difference is to the next, “{nearest.b}”; p is that of the least sure comparison.")
        return self.made(
            f"“{best}” is the {relation} of {len(others) + 1} in {self.figure}", self.level(best)["text"],
            _status(p_alone, p), nearest, [best, nearest.b], p, rule, everyone=[best, *others])

    def reaches(self, level: str, target: float) -> Claim:
        p = self.family.of_claim(PlannedClaim(levels=(level,), of=self.column, reaches=target))
        said, one = _with(f"{target:g}", self.units["level"]), self.level(level)
        return self.made(
            f"“{level}” reaches {said} of {self.figure}", one["text"], _status(p, p), None, [level], p,
            "Shown where a mean above the figure has a corrected p below 0.05.",
            test="One-sample t test, corrected by Holm")

    def level(self, name: str) -> dict[str, Any]:
        """A level's mean, interval and n."""
        found = self.values.get(name, pd.Series(dtype=float)).dropna()
        one = stats.mean_interval(found) if len(found) else Estimate(math.nan, math.nan, math.nan, 0)
        text = _with(number(one.mean, self.digits if self.digits is not None else 1 if percent(self.column) else None),
                     self.units["level"]) if one.n else "–"
        return {"name": name, "mean": one.mean, "low": one.low, "high": one.high, "n": one.n, "text": text}

    def made(self, says: str, words: str, status: Status, difference: Difference | None, levels: Sequence[str],
             p: float, rule: str, everyone: Sequence[str] = (), test: str = TEST) -> Claim:
        shown_levels = [self.level(level) for level in levels]
        first, unit = shown_levels[0], self.units["difference"]
        middle = difference or Estimate(first["mean"], first["low"], first["high"], first["n"])
        if difference is None:
            unit = self.units["level"]
        known = not math.isnan(middle.mean)
        digits = self.digits if self.digits is not None else _decimals(middle)
        sign = "+" if difference and known and middle.mean > 0 else ""
        signed = sign + number(middle.mean, digits) if known else "–"
        interval = "" if math.isnan(middle.low) else (
            f"{_end(middle.low, digits)} to {_end(middle.high, digits)}")
        half = (middle.high - middle.low) / 2
        if status != "shown" and difference is not None:   # not as if it were in the direction that is claimed
            words = _with(sign + number(middle.mean, self.digits) if known else "–", unit)
        fields = {
            "words": words, "signed": _with(signed, unit), "interval": _with(interval, unit) if interval else "",
            "plus_minus": _with(signed + (f" ± {number(half, digits)}" if interval else ""), unit),
            "a": first["text"], "b": shown_levels[-1]["text"], "n": str(first["n"]),
            "p": "" if math.isnan(p) else f"p {p_text(p)}",
        }
        between = {"mean": middle.mean, "low": middle.low, "high": middle.high} if difference else None
        effect = difference.effect if difference else math.nan
        return Claim(self.name, self.study.name, says, words, status, unit, self.column, between, shown_levels, p,
                     self.family.size, effect, rule, list(everyone or levels), fields, test)


def _status(p: float, corrected: float) -> Status:
    """What a claim is by its p: without one, its levels have too few runs."""
    return "too few seeds" if math.isnan(p) else "shown" if corrected < 1 - CONFIDENCE else "not shown"


def _end(value: float, digits: int) -> str:
    """An interval's end; one that would round to zero keeps a digit, so that its side of zero shows."""
    while value and digits < 3 and not round(value, digits):
        digits += 1
    return number(value, digits)


def _decimals(middle: Difference | Estimate) -> int:
    """Decimals that suit an interval: two significant digits of its half width, at most three decimals."""
    half = (middle.high - middle.low) / 2
    scale = half if half and not math.isnan(half) else abs(middle.mean)
    return 1 if not scale or math.isnan(scale) else min(3, max(0, 1 - math.floor(math.log10(scale))))
