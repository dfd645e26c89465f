"""What a study compares: its levels with their reference and in its other pairs, by seed, each family corrected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import pandas as pd

from labbook.studies import curves, stats
from labbook.studies.results import StudyResults
from labbook.studies.stats import Comparison
from labbook.studies.study import Study, joined, parted

# The accuracy of guessing among ten classes: where a learning curve begins.
CHANCE = 0.1
# Two spans of gradient norms count as the same within so many factors of ten: a fourth of the norm more or less.
SPAN_SAME_WITHIN = 0.1


def levels(results: StudyResults, column: str = "val_accuracy", same_within: float = 0.5) -> list[Comparison]:
    """Every level against the study's reference, and the study's other comparisons; accuracies in points.

    One family: corrected for all comparisons that the study plans, whether or not their runs are finished. A pair
    counts once, whichever of its levels is named first; :func:`picked` finds it either way.
    """
    return planned(finals(results, column), pairs_of(results.study), same_within)


def levels_by(results: StudyResults, values: Mapping[str, pd.Series], same_within: float = 0.5) -> list[Comparison]:
    """As :func:`levels`, of any figure: ``values`` by level, indexed by seed."""
    return planned(with_lost(results, values), pairs_of(results.study), same_within)


def pairs_of(study: Study) -> list[tuple[str, str]]:
    """What a study plans to compare: each level with its reference, and its other pairs; each pair once."""
    pairs = [(level, study.reference) for level in study.levels if level != study.reference]
    return _once([*pairs, *study.comparisons])


def _once(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Each pair once, as it is named first: turned it is the same comparison."""
    once: dict[frozenset[str], tuple[str, str]] = {}
    for pair in pairs:
        once.setdefault(frozenset(pair), pair)
    return list(once.values())


def planned(
    values: Mapping[str, pd.Series], pairs: Sequence[tuple[str, str]], same_within: float = 0.5
) -> list[Comparison]:
    """The pairs of levels of which both have values; corrected for the number of different ``pairs``."""
    family = _once(pairs)
    there = [(a, b) for a, b in family if a in values and b in values]
    return stats.compare_pairs(values, there, same_within, planned=len(family))


def picked(comparisons: Sequence[Comparison], pairs: Sequence[tuple[str, str]]) -> list[Comparison]:
    """The comparison of each of ``pairs`` that is among ``comparisons``, turned where it was made the other way."""
    made = {(c.level, c.reference): c for comparison in comparisons for c in (comparison, comparison.turned)}
    return [made[pair] for pair in pairs if pair in made]


def with_reference(comparisons: Sequence[Comparison], reference: str) -> list[Comparison]:
    """Those of ``comparisons`` that were made against ``reference``."""
    return [comparison for comparison in comparisons if comparison.reference == reference]


def figures_of(results: StudyResults, column: str) -> dict[str, pd.Series]:
    """One final figure of every level that has runs, by seed; accuracies in percent. A run without it is left out."""
    scale = 100 if column.endswith("accuracy") else 1
    return {level: scale * results.values(column, level).astype(float).dropna() for level in results.levels}


def with_lost(results: StudyResults, values: Mapping[str, pd.Series]) -> dict[str, pd.Series]:
    """``values`` by level and seed, with NaN for each run that diverged: a comparison counts it as lost."""
    lost = results.runs[results.runs["diverged"]].groupby("level")["seed"].agg(list).to_dict()
    empty = pd.Series(dtype=float)
    return {
        # A value that is missing for another reason is none: the seed is left out.
        level: (there := values.get(level, empty).drop(lost.get(level, []), errors="ignore").dropna()).reindex(
            there.index.union(lost.get(level, [])))
        for level in results.trained if level in values or level in lost
    }


def of_first_seeds(values: Mapping[str, pd.Series], count: int) -> dict[str, pd.Series]:
    """``values`` by level and seed, of the seeds below ``count`` alone."""
    return {level: found[found.index < count] for level, found in values.items()}


def over_all_seeds(again: StudyResults, *others: StudyResults) -> list[Comparison]:
    """A study's levels against its reference, with the runs of the same configurations in other studies too.

    Of a seed that several have, the first study's run counts.
    """
    values = finals(again)
    for other in others:
        theirs = {other.config_of(level).with_(seed=0): found for level, found in finals(other).items()}
        for level, found in values.items():
            more = theirs.get(again.config_of(level).with_(seed=0), pd.Series(dtype=float))
            values[level] = pd.concat([found, more.drop(found.index, errors="ignore")])
    return planned(values, pairs_of(again.study))


def finals(results: StudyResults, column: str = "val_accuracy") -> dict[str, pd.Series]:
    """What comparisons of a final figure are made from: :func:`figures_of`, :func:`with_lost`."""
    return with_lost(results, figures_of(results, column))


def gain(a: pd.Series, b: pd.Series) -> pd.Series:
    """a - b, over the seeds (the index) that both have; NaN where a run of the pair diverged."""
    a, b = a.align(b, join="inner")
    return a - b


def by_setting(results: StudyResults, reference: str, mains: Sequence[str] | None = None) -> list[Comparison]:
    """A crossed study's levels, each against ``reference`` under the same setting; corrected over all settings.

    With ``mains`` those alone, as a family of their own.
    """
    pairs = [
        (joined(main, setting), joined(reference, setting))
        for main in mains or results.study.mains if main != reference for setting in results.study.settings
    ]
    return planned(finals(results), pairs)


def changes_by_setting(
    results: StudyResults, reference: str, base: str, mains: Sequence[str] | None = None
) -> list[Comparison]:
    """Whether what a level gains over ``reference`` depends on the setting of a crossed study.

    Each level's gain under every other setting against its gain under ``base``, by seed: a difference of differences,
    since one verdict under each setting says nothing of their difference. ``mains`` as for :func:`by_setting`.
    """
    values = finals(results)
    gains = {
        level: gain(values[level], values[other]) for level in values
        if (other := joined(reference, parted(level)[1])) in values and other != level
    }
    pairs = [
        (joined(main, setting), joined(main, base))
        for main in mains or results.study.mains if main != reference
        for setting in results.study.settings if setting != base
    ]
    return planned(gains, pairs)


def ranges_over_settings(results: StudyResults) -> dict[str, pd.Series]:
    """How far a level's final accuracies lie apart over a crossed study's settings, by level and seed: in points.

    Only levels that were trained under every setting. A run that diverged leaves its seed without a range, NaN: with it
    the range would have no upper end.
    """
    values, ranges = finals(results), {}
    for main in results.study.mains:
        under = [values.get(joined(main, setting)) for setting in results.study.settings]
        if all(found is not None for found in under):
            by_seed = pd.concat(under, axis=1, join="inner")
            ranges[main] = by_seed.max(axis=1, skipna=False) - by_seed.min(axis=1, skipna=False)
    return ranges


def gradient_spans(results: StudyResults, step: int, pairs: Sequence[tuple[str, str]]) -> list[Comparison]:
    """How many factors of ten the convolutions' gradient norms lie apart at a step, in pairs of levels, over seeds."""
    spans = {
        level: curves.gradient_span(results.gradients[results.gradients["level"] == level], step)
        for level in results.levels
    }
    return planned(with_lost(results, spans), pairs, SPAN_SAME_WITHIN)


def times(
    histories: Mapping[str, pd.DataFrame], accuracies: Mapping[str, pd.Series], pairs: Sequence[tuple[str, str]],
    target: float, same_within: float = 0.25,
) -> tuple[list[Comparison], list[str]]:
    """When levels' validation accuracy passes ``target`` (a fraction), in epochs; and which levels have no part in it.

    Only levels that pass it with every seed are compared: of others only the lucky seeds would count. ``histories``
    and ``accuracies`` (NaN where a run diverged) are by level, the latter by seed.
    """
    reached = {level: curves.time_to_reach(history, "val_accuracy", target, start=CHANCE)
               for level, history in histories.items()}
    slow = [level for level, values in reached.items()
            if values.empty or values.isna().any() or accuracies[level].isna().any()]
    there = {level: values for level, values in reached.items() if level not in slow}
    return planned(there, pairs, same_within), slow


def repeated(
    narrow: StudyResults, comparisons: Sequence[Comparison], other: StudyResults,
    where: Literal["width", "epochs"] = "width", column: str = "val_accuracy",
) -> list[tuple[str, list[Comparison]]]:
    """The pairs of levels that two studies compare, as each finds them: under what conditions, and the comparisons.

    The studies differ in ``where``. ``comparisons`` are those of ``narrow``, of the final figure ``column``; each
    study's are corrected for its own.
    """
    there = levels(other, column)
    before = picked(comparisons, [(c.level, c.reference) for c in there])
    after = picked(there, [(c.level, c.reference) for c in before])
    configs = (next(iter(results.configs.values()), results.study.config(results.study.reference, 0))
               for results in (narrow, other))
    return [(f"at width {config.width}" if where == "width" else f"over {config.epochs} epochs", found)
            for config, found in zip(configs, (before, after), strict=True)]
