"""The sentences that comparisons allow. They are worded here alone, and never say more than the interval does."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from labbook.page.texts import listed, p_text, signed
from labbook.studies.comparing import with_reference
from labbook.studies.stats import CONCLUDED, TIE, Comparison, Estimate, differ, direction
from labbook.studies.study import parted

NOTHING = "There is nothing to compare yet."
DIVERGED = "diverged"
# A list of so many verdicts is led by a sentence that sums them up, and folded.
LONG_LIST = 4
# From so many on, levels with the same verdict are counted in a sentence, not named.
MANY = 8
# And from more than so many on, where their names have commas of their own.
FEW = 2
# The words that say on which side a difference lies: a summary gives its size too.
SIDED = ("higher", "lower")
WORDS = {
    "higher": "higher", "lower": "lower", "same": "the same", "unclear": "no difference found",
    "suggestive": "not after correction", "one seed": "one seed", "none": "–", "diverged": DIVERGED,
}
WORDS_OF_TIME = WORDS | {"higher": "later", "lower": "sooner"}


def on_difference(
    what: str, a: str, b: str, difference: Estimate, unit: str, same_within: float | None = None, digits: int = 2
) -> str:
    """One sentence about ``a - b``, computed from its interval: the only place where such a sentence is worded.

    For example ``on_difference("final validation accuracy", "warm-up cosine", "constant", d, "points", 0.5)``.
    """
    alone = Comparison(a, b, difference, math.nan, math.nan, math.nan, same_within, math.nan)
    return _worded(direction(difference, same_within), what, alone, unit, digits)


def on_comparison(what: str, comparison: Comparison, unit: str = "points", digits: int = 2) -> str:
    """One sentence about a comparison: :func:`on_difference`, held to what the correction leaves of it."""
    sentence = _worded(comparison.word, what, comparison, unit, digits)
    corrected = f" (Holm-corrected p = {p_text(comparison.p_holm)})."
    return sentence + corrected if comparison.word == "suggestive" else sentence


def _worded(word: str, what: str, comparison: Comparison, unit: str, digits: int) -> str:
    """The sentence for one outcome of :func:`labbook.studies.stats.direction` or of :attr:`Comparison.word`."""
    a, b, difference = f"*{comparison.level}*", f"*{comparison.reference}*", comparison.difference
    unit = f" {unit}" if unit else ""
    amount = f"{abs(difference.mean):.{digits}f}{unit}"
    low, high = (_end(value, digits) for value in (difference.low, difference.high))
    # The same difference with every seed is a tie of rounded figures, and no certainty.
    interval = "the same with every seed" if difference.is_tie else f"95 % interval {low} to {high}{unit}"
    interval += f", n = {difference.n}"
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


def _equals(p: float) -> str:
    text = p_text(p)
    return text if text.startswith("<") else f"= {text}"


def against(estimate: Estimate, target: float, whose: str, unit: str = " %") -> str:
    """One sentence on a mean beside a fixed figure, such as another report's: where its interval lies."""
    return against_each(estimate, {whose: target}, unit)


def place(estimate: Estimate, target: float) -> str:
    """Where a mean's interval lies beside a fixed figure; of one seed, whose interval has no ends, nothing is told."""
    if estimate.low > target:
        return "above"
    return "below" if estimate.high < target else "not told apart from"


def against_each(estimate: Estimate, targets: Mapping[str, float], unit: str = " %") -> str:
    """As :func:`against`, of several figures by their names: which its interval is above or below, which are inside."""
    def named(of: Mapping[str, float], where: Callable[[float], str] = lambda target: "") -> str:
        return " and ".join(f"{where(target)}{whose} {target:.2f}{unit}" for whose, target in of.items())

    if estimate.n < 2:
        return f"One seed: {estimate.mean:.2f}{unit}, beside {named(targets)}; one seed has no interval."
    if estimate.is_tie:
        return f"All {estimate.n} values are {estimate.mean:.2f}{unit}, {named(targets)}; a tie has no interval."
    reached = f"{estimate.mean:.2f} ± {estimate.half_width:.2f}{unit} (n = {estimate.n})"
    inside = {whose: target for whose, target in targets.items() if place(estimate, target) not in ("above", "below")}
    outside = {whose: target for whose, target in targets.items() if whose not in inside}
    sentences = []
    if outside:
        places = named(outside, lambda target: f"{place(estimate, target)} ")
        sentences.append(f"The mean, {reached}, and its whole interval are {places}.")
    if inside:
        sentences.append(f"The interval of the mean, {reached}, contains {named(inside)}: neither above nor below is "
                         "shown.")
    return " ".join(sentences)


def on_each(
    comparisons: Sequence[Comparison], what: str = "final validation accuracy", unit: str = "points", digits: int = 2,
    words: Mapping[str, str] = WORDS,
) -> str:
    """The verdict on every level, as a Markdown list; ``words`` as for :func:`in_short`."""
    if not comparisons:
        return NOTHING
    if all(comparison.word == "one seed" for comparison in comparisons):
        return (
            "So far each comparison rests on one pair of runs: no interval, so a difference may be the level's or the "
            "seed's, and no verdict."
        )
    lines = [on_comparison(what, comparison, unit, digits) for comparison in comparisons]
    return _folded(in_short(comparisons, what, unit, words, digits), lines)


def in_short(
    comparisons: Sequence[Comparison], what: str = "final validation accuracy", unit: str = "points",
    words: Mapping[str, str] = WORDS, digits: int = 2,
) -> str:
    """What several comparisons show, in one sentence: with which levels a figure is higher, lower, the same.

    For example "Final validation accuracy, against *none* (n = 5): no level is shown to be higher; lower with *b*
    (-0.84 points); no difference found with *a*." Levels that are compared with another than most are have a sentence
    of their own. What stands in parentheses at a level's end is left out where the level is known without; many that
    show the same are counted and not named. ``words`` says how each outcome reads: :data:`WORDS`, or
    :data:`WORDS_OF_TIME` of a time.
    """
    if not comparisons:
        return NOTHING
    (usual, count), *_ = Counter(comparison.reference for comparison in comparisons).most_common(1)
    if 2 * count > len(comparisons) > count:
        apart = [c for c in comparisons if c.reference != usual]
        first, *more = (in_short(part, what, unit, words, digits)
                        for part in (with_reference(comparisons, usual), *_by_reference(apart)))
        # The figure is named once.
        named = f"{what[0].upper()}{what[1:]}, against"
        return " ".join([first, *(f"Against{sentence.removeprefix(named)}" for sentence in more)])
    usual = usual if count == len(comparisons) else None
    short = _without_remarks({name for c in comparisons for name in (c.level, c.reference)})
    margin = f" within ±{comparisons[0].same_within:g} {unit}".rstrip()
    said = dict(words) | {"same": f"the same{margin}", "suggestive": "a difference only before correction",
                          "one seed": "no verdict yet (one pair of runs)", "none": "no pair of runs yet"}
    alike = {word: found for word in said if (found := [c for c in comparisons if c.word == word])}
    unit = f" {unit}".rstrip()

    def levels(found: Sequence[Comparison]) -> str:
        """The levels of one word: each with its mean difference, or counted, with the smallest and the largest."""
        means = sorted((c.difference.mean for c in found), key=abs) if found[0].word in SIDED else []
        clear = "," not in "".join(c.level for c in found) or len(found) <= FEW
        if usual and len(comparisons) >= LONG_LIST and not (clear and len(found) < min(len(comparisons) - 1, MANY)):
            others = f"{len(comparisons)} others"
            range_ = " to ".join(dict.fromkeys(f"{mean:+.{digits}f}" for mean in means[:1] + means[-1:]))
            return (f"all {others}" if len(alike) == 1 else f"{len(found)} of the {others}") + (
                f" ({range_}{unit})" if means else "")
        names = []
        for c in found:
            remarks = [] if c.reference == usual else [f"against *{short[c.reference]}*"]
            remarks += [f"{c.difference.mean:+.{digits}f}{unit if c is found[-1] else ''}"] if means else []
            names.append(f"*{short[c.level]}*" + (f" ({'; '.join(remarks)})" if remarks else ""))
        return listed(names)

    parts = [f"{said[word]} with {levels(found)}" for word, found in alike.items()]
    if "higher" not in alike and len(parts) > 1 and any(c.difference.n > 1 for c in comparisons):
        either = said["higher"] if "lower" in alike else f"{said['higher']} or {said['lower']}"
        parts.insert(0, f"no level is shown to be {either}")
    pairs = [c.difference.n for c in comparisons if c.difference.n > 1]
    n = " to ".join(dict.fromkeys((str(min(pairs)), str(max(pairs))))) if pairs else ""
    against = (f", against *{short[usual]}*" if usual else "") + (f" (n = {n})" if n else "")
    return f"{what[0].upper()}{what[1:]}{against}: {'; '.join(parts)}."


def _by_reference(comparisons: Sequence[Comparison]) -> list[list[Comparison]]:
    """Comparisons by what they are made against, in the order in which those come first."""
    return [with_reference(comparisons, one) for one in dict.fromkeys(c.reference for c in comparisons)]


def _without_remarks(names: Collection[str]) -> dict[str, str]:
    """``plain 9 (width 16)`` is ``plain 9``, if no other of ``names`` is."""
    short = {name: re.sub(r" \([^()]*\)$", "", name) for name in names}
    return short if len(set(short.values())) == len(short) else {name: name for name in names}


def bullets(*sentences: str) -> str:
    """Sentences as a Markdown list; those that have nothing to say are left out."""
    return "\n".join(f"- {sentence}" for sentence in sentences if sentence != NOTHING) or NOTHING


def answers(first: Sequence[str], further: Sequence[str]) -> str:
    """What a chapter answers, in :func:`bullets`: its first questions, and below them, folded, what else it asks."""
    folded = bullets(*further)
    return bullets(*first) + (_dropdown("What else was asked", folded) if folded != NOTHING else "")


def in_short_by_setting(
    comparisons: Sequence[Comparison], heading: str, what: str = "final validation accuracy"
) -> list[str]:
    """:func:`in_short` of a crossed study's comparisons, a sentence a setting; settings that show the same share one.

    ``comparisons`` under a setting (:func:`labbook.studies.comparing.by_setting`) or between two of them
    (:func:`labbook.studies.comparing.changes_by_setting`). ``heading`` names the setting at the head of a sentence:
    ``"Batches of {}"``.
    """
    settings: dict[str, list[str]] = {}
    for setting, of_setting in _under_setting(comparisons).items():
        settings.setdefault(in_short(of_setting, what), []).append(setting)
    return [f"{heading.format(listed(names))}: {sentence[0].lower()}{sentence[1:]}"
            for sentence, names in settings.items()]


def on_each_by_setting(
    comparisons: Sequence[Comparison], heading: str, what: str = "final validation accuracy"
) -> str:
    """The verdicts on :func:`labbook.studies.comparing.by_setting`; ``heading`` as for :func:`in_short_by_setting`."""
    lines = [
        f"{heading.format(setting)}: {on_comparison(what, comparison)}"
        for setting, of_setting in _under_setting(comparisons).items() for comparison in of_setting]
    return _folded(bullets(*in_short_by_setting(comparisons, heading, what)), lines)


def on_changes(changes: Sequence[Comparison], heading: str, what: str) -> str:
    """The verdicts on :func:`labbook.studies.comparing.changes_by_setting`; ``heading`` as for :func:`in_short_by_setting`."""
    lines = [on_comparison(what, change) for change in changes]
    return _folded(bullets(*in_short_by_setting(changes, heading, what)), lines)


def _under_setting(comparisons: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    """A crossed study's comparisons by setting, which their levels' names then do without.

    Where a level is compared with itself under another setting, that setting is the reference.
    """
    settings: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        (level, setting), (reference, base) = parted(comparison.level), parted(comparison.reference)
        against = base if reference == level else reference
        settings.setdefault(setting, []).append(replace(comparison, level=level, reference=against))
    return settings


def _folded(summary: str, verdicts: Sequence[str]) -> str:
    """Verdicts as a Markdown list; a long one is folded below what sums it up."""
    if len(verdicts) < LONG_LIST:
        return bullets(*verdicts)
    return summary + _dropdown("Each comparison with its interval", bullets(*verdicts))


def _dropdown(title: str, text: str) -> str:
    """What is folded below what stands before it."""
    return f"\n\n:::{{dropdown}} {title}\n{text}\n:::"


def on_times(times: Mapping[float, tuple[list[Comparison], list[str]]]) -> str:
    """The verdicts on :func:`labbook.studies.comparing.times` by target; what would be said of two targets is said once."""
    paragraphs = []
    for target, (comparisons, slow) in times.items():
        percent = f"{100 * target:.0f} %"
        if slow and not comparisons:
            paragraphs.append(f"No two that are to be compared reach {percent} with every seed.")
        else:
            paragraphs.append(on_each(comparisons, f"time to {percent}", "epochs", words=WORDS_OF_TIME))
        if slow:
            paragraphs.append(f"Not compared in the time to {percent}, which not every seed reaches: "
                              f"{listed([f'*{level}*' for level in slow])}.")
    return "\n\n".join(dict.fromkeys(paragraphs)) or NOTHING


def carried_over(first: Comparison, second: Comparison) -> str:
    """Whether the conclusion of ``first`` holds in ``second``, the same comparison under other conditions.

    ``"it carried over"`` (with ``", but not its size"`` where the two differ from each other), ``"it turned round"``,
    ``"it did not carry over"`` (one finds a difference, the other none beyond ±``same_within``, and the two differ from
    each other); where either draws no conclusion, or they may be one and the same difference, that is said instead.
    """
    if first.word not in CONCLUDED:
        return "the first draws no conclusion that could carry over"
    if first.word == second.word:
        sized = first.word != "same" and differ(first.difference, second.difference)
        return "it carried over" + (", but not its size" if sized else "")
    if {first.word, second.word} == {"higher", "lower"}:
        return "it turned round"
    if second.word in CONCLUDED and differ(first.difference, second.difference):
        return "it did not carry over"
    return "whether it carried over is not decided"


def in_points(comparison: Comparison) -> str:
    """A difference within a sentence, with its word: ``+3.07 ± 1.54 points (n = 3, not after correction)``."""
    return f"{signed(comparison.difference)} points (n = {comparison.difference.n}, {WORDS[comparison.word]})"


def each_carried_over(conditions: Sequence[tuple[str, Sequence[Comparison]]]) -> str:
    """Whether a study's conclusions hold in another: a line a pair of :func:`labbook.studies.comparing.repeated`."""
    def said(comparison: Comparison, under: str) -> str:
        if not comparison.difference.n:
            return "every pair lost a run that diverged" if comparison.lost else "no pair of runs yet"
        return f"{under} {in_points(comparison)}"

    (here, first), (there, second) = conditions
    return "\n".join(
        f"- *{after.level}* against *{after.reference}*: {said(before, here)}, {said(after, there)}; "
        f"{carried_over(before, after)}." for before, after in zip(first, second, strict=True)) or NOTHING
