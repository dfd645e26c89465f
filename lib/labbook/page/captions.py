"""The point of a figure in a sentence of its own, computed: with it a caption begins.

A point says what is seen, such as whose mean is highest. What may be concluded from it is a verdict's work
(:mod:`labbook.page.verdicts`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import pandas as pd

from labbook.page import texts
from labbook.page.study_figures import pareto_front
from labbook.studies import comparing, curves, stats
from labbook.studies.results import StudyResults
from labbook.studies.study import joined

# Also where every run diverged, or none has the figure that is asked for.
NOTHING = "No figure yet."
# A final figure of a run in words, its unit and the digits it is said with.
FINALS = {"val_accuracy": ("validation accuracy", "%", 1), "train_loss": ("final training loss", "nats", 2)}


def of_levels(
    results: StudyResults, column: Literal["val_accuracy", "train_loss"] = "val_accuracy", digits: int | None = None
) -> str:
    """:func:`extremes` of one final figure over a study's levels."""
    what, unit, usual = FINALS[column]
    # Of the accuracy the page has verdicts of its own: a caption says the same.
    known = comparing.levels(results) if column == "val_accuracy" else ()
    return extremes(comparing.figures_of(results, column), what, unit, usual if digits is None else digits, known=known)


def extremes(
    values: Mapping[str, pd.Series], what: str, unit: str, digits: int = 1, highest_first: bool = True,
    known: Sequence[stats.Comparison] = (),
) -> str:
    """Whose mean is highest and whose is lowest; ``values`` by level and seed, ``what`` they are in words.

    For example "The mean validation accuracy is highest with *one cycle* (84.5 %) and lowest with *constant* (75.9 %)."
    Where the seeds that both have do not tell an end from the level next to it, that is said. An end is picked after
    looking, so it is told from that level only where the difference survives a correction for all levels; or as
    the comparison says that was planned, where it is among ``known``.
    """
    means = {level: mean for level, series in values.items() if pd.notna(mean := series.mean())}
    if not means:
        return NOTHING
    lowest, highest = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    low, high = (f"{means[level]:.{digits}f} {unit}".rstrip() for level in (lowest, highest))
    # Alike as they are said.
    if low == high:
        return f"The mean {what} of {_named(means)} is {high}."
    ascending = sorted(means, key=means.__getitem__)
    above = below = after = ""
    if len(means) == 2:
        # Each is next to the other: said once.
        after = _unsure(values, highest, lowest, 1, "; the two are not told apart", known)
    else:
        above, below = (_unsure(values, *pair, len(means) - 1, f"; not told apart from *{pair[1]}*", known)
                        for pair in ((highest, ascending[-2]), (lowest, ascending[1])))
    ends = [f"highest with *{highest}* ({high}{above})", f"lowest with *{lowest}* ({low}{below})"]
    return f"The mean {what} is {' and '.join(ends if highest_first else reversed(ends))}{after}."


def _unsure(
    values: Mapping[str, pd.Series], end: str, other: str, planned: int, said: str, known: Sequence[stats.Comparison]
) -> str:
    """``said``, and by how little, where ``end`` is not told from ``other`` after correction; else nothing."""
    asked = [(end, other)]
    comparison, = comparing.picked(known, asked) or stats.compare_pairs(values, asked, planned=planned)
    # The means are over all seeds of each level, the comparison over those that both have.
    if comparison.word == ("higher" if values[end].mean() > values[other].mean() else "lower"):
        return ""
    return said + (", by one pair of runs" if comparison.word == "one seed" else "")


def best_of_each(
    runs: pd.DataFrame, each: Literal["main", "setting"], column: str = "val_accuracy", what: str = "accuracy",
    named: str = "{}",
) -> str:
    """Where a crossed study's mean accuracy is highest: of each main level the setting, or of each setting the level.

    ``runs`` as :class:`StudyResults` has them. For example "Highest mean accuracy of each: *batch /
    0.01* (84.4 %); *none / 0.001* (68.6 %)." Where it is the same one for all: "The mean accuracy is highest with
    *none* throughout: 84.5 % (*narrow*), 86.1 % (*wide*)." ``named`` says how to call it: ``"{} layers"``.
    """
    other = "setting" if each == "main" else "main"
    finished = runs[~runs["diverged"] & runs[column].notna()]
    if finished.empty:
        return NOTHING
    means = finished.astype({column: float}).groupby([each, other], sort=False)[column].mean()
    best = {one: means[one].idxmax() for one in dict.fromkeys(finished[each])}
    percent = {one: f"{100 * means[one, of_one]:.1f} %" for one, of_one in best.items()}
    same = set(best.values())
    if len(best) > 1 and len(same) == 1 and all(len(means[one]) > 1 for one in best):
        each_one = ", ".join(f"{percent[one]} (*{one}*)" for one in best)
        return f"The mean {what} is highest with *{named.format(same.pop())}* throughout: {each_one}."
    names = {one: joined(one, of_one) if each == "main" else joined(of_one, one) for one, of_one in best.items()}
    return f"Highest mean {what} of each: {'; '.join(f'*{names[one]}* ({percent[one]})' for one in best)}."


def unbeaten(results: StudyResults, costs: pd.DataFrame, words: Mapping[str, str]) -> str:
    """Which levels are more accurate in the mean than all that cost less, cheapest first; a cost at a time.

    ``costs`` by level, a column a cost; ``words`` says what to call each column that is asked about.
    """
    means = {level: values.mean() for level, values in comparing.figures_of(results, "val_accuracy").items()}
    known = {level: mean for level, mean in means.items() if pd.notna(mean)}
    fronts = {called: pareto_front(known, costs[cost]) for cost, called in words.items()}
    parts = [f"{called}: {_named(level for _, _, level in front)}" + " alone" * (len(front) == 1)
             for called, front in fronts.items() if front]
    return f"More accurate in the mean than all that cost less: by {'; by '.join(parts)}." if parts else NOTHING


def repeated(conditions: Sequence[tuple[str, Sequence[stats.Comparison]]]) -> str:
    """How many conclusions of a study hold in another; ``conditions`` come from :func:`labbook.studies.comparing.repeated`."""
    (here, first), (there, second) = conditions
    shown = [(before, after) for before, after in zip(first, second, strict=True) if before.word in stats.CONCLUDED]
    if not shown or not any(c.difference.n for c in second):
        return NOTHING
    tested = [(before, after) for before, after in shown if after.difference.n > 1]
    if not tested:
        return f"Nothing can be said {there} yet: one pair of runs shows no difference."
    held = sum(before.word == after.word for before, after in tested)
    open_yet = len(shown) - len(tested)
    # Not shown again need not mean gone: a few pairs may leave all of them on the same side, before correction.
    nearly = sum(after.word == "suggestive" and before.word == stats.direction(after.difference)
                 for before, after in tested)
    return (f"Of what is shown {here} to be higher, lower or the same, {held} of {len(tested)} "
            f"{'is' if held == 1 else 'are'} shown {there} too"
            + (f"; {nearly} more on the same side, before correction only" if nearly else "")
            + (f"; of {open_yet} more there are too few runs yet." if open_yet else "."))


def gradient_spans(gradients: pd.DataFrame, levels: Sequence[str], *steps: int) -> str:
    """How far apart the convolutions' gradient norms lie at some steps: the largest over the smallest, by level.

    A step that no run recorded is passed over. ``gradients`` as :class:`StudyResults` has them; means
    over seeds.
    """
    sentences = []
    for step in steps:
        at_step = curves.of_convolutions(gradients[gradients["step"] == step]).astype({"norm": float})
        means = at_step.groupby(["level", "layer"])["norm"].mean()
        ratios = {level: means[level].max() / means[level].min()
                  for level in levels if level in means.index.get_level_values(0)}
        spans = [f"{ratio:{',.0f' if ratio >= 10 else '.1f'}} with *{level}*" for level, ratio in ratios.items()]
        if spans:
            sentences.append(
                f"At step {step} the convolutions' largest norm over their smallest is {texts.listed(spans)}.")
    return " ".join(sentences) or NOTHING


def _named(levels: Iterable[str]) -> str:
    return texts.listed([f"*{level}*" for level in levels])
