"""The tables that every study's chapter shows: one row a level, and its verdict against the reference."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import pandas as pd
from pandas.io.formats.style import Styler

from cifarlab import layers, models, stats
from cifarlab.bench import answers
from cifarlab.bench import costs as bench_costs
from cifarlab.stats import Comparison, mean_interval, p_text
from cifarlab.studies import CROSS, Study, StudyResults
from cifarlab.typography import MINUS

NO_RUN = "No run of this study is in the store yet."
NOTHING = "There is nothing to compare yet."
DIVERGED = "diverged"
# The accuracy of guessing among ten classes: where a learning curve begins.
CHANCE = 0.1
# Two spans of gradient norms count as the same within so many factors of ten: a fourth of the norm more or less.
SPAN_SAME_WITHIN = 0.1
# A column with a text of more characters than this breaks its lines.
LONG_TEXT = 40
# A list of so many verdicts is led by a sentence that sums them up, and folded.
LONG_LIST = 4
# What stands in a cell instead of a number: it is aligned as the numbers are.
NO_NUMBER = ("", "–", "never", "reference", DIVERGED)
WORDS = {
    "higher": "higher", "lower": "lower", "same": "the same", "unclear": "no difference found",
    "suggestive": "not after correction", "one seed": "one seed", "none": "–", "diverged": DIVERGED,
}
WORDS_OF_TIME = WORDS | {"higher": "later", "lower": "sooner"}


def compare(
    results: StudyResults, column: str = "val_accuracy", same_within: float = 0.5
) -> list[Comparison]:
    """Every level against the study's reference, and the study's other comparisons; accuracies in points.

    One family: corrected for all comparisons that the study plans, whether or not their runs are finished. A pair
    counts once, whichever of its levels is named first; :func:`picked` finds it either way.
    """
    return compare_planned(finals(results, column), pairs_of(results.study), same_within)


def compare_values(
    results: StudyResults, values: Mapping[str, pd.Series], same_within: float = 0.5
) -> list[Comparison]:
    """As :func:`compare`, of any figure: ``values`` by level, indexed by seed."""
    return compare_planned(with_lost(results, values), pairs_of(results.study), same_within)


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


def compare_planned(
    values: Mapping[str, pd.Series], pairs: Sequence[tuple[str, str]], same_within: float = 0.5
) -> list[Comparison]:
    """The pairs of levels of which both have values; corrected for the number of different ``pairs``."""
    planned = _once(pairs)
    there = [(a, b) for a, b in planned if a in values and b in values]
    return stats.compare_pairs(values, there, same_within, planned=len(planned))


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
        level: (there := values.get(level, empty).dropna()).reindex(there.index.union(lost.get(level, [])))
        for level in results.trained if level in values or level in lost
    }


def finals(results: StudyResults, column: str = "val_accuracy") -> dict[str, pd.Series]:
    """What comparisons of a final figure are made from: :func:`figures_of`, :func:`with_lost`."""
    return with_lost(results, figures_of(results, column))


def gain(a: pd.Series, b: pd.Series) -> pd.Series:
    """a - b, over the seeds (the index) that both have; NaN where a run of the pair diverged."""
    a, b = a.align(b, join="inner")
    return a - b


def costs(results: StudyResults) -> pd.DataFrame:
    """What each level costs: trainable values, multiply-accumulates an image, seconds an epoch.

    Seconds come from the benchmark, where all levels were timed in turn on a quiet machine: those of the runs
    themselves depend on what else it did that hour. NaN where a level was not timed.
    """
    timed = answers.if_measured("costs") or {"kinds": {}}
    rows = []
    for level in results.trained:
        config = results.config_of(level)
        model = models.build(config)
        rows.append({
            "level": level, "parameters": layers.parameter_count(model),
            "macs": sum(row["macs"] for row in layers.layer_table(model)),
            "seconds": bench_costs.seconds_per_epoch(config, timed) or math.nan,
        })
    return pd.DataFrame(rows, columns=["level", "parameters", "macs", "seconds"]).set_index("level")


def study_table(
    results: StudyResults, comparisons: Sequence[Comparison], cost: pd.DataFrame | None = None, tested: bool = True
) -> Styler:
    """One row a level: n, cost, final figures, the difference to the reference and what may be said of it.

    ``comparisons`` against other levels than the study's reference are passed over, unless the study is crossed: then
    each row has one reference under its own setting. Runs that diverged are counted beside n and have no part in the
    figures. ``cost`` is the answer of :func:`costs` where a page has it already. Without ``tested`` the differences
    are shown and nothing is concluded from them.
    """
    references = {results.study.reference}
    if len(results.study.settings) > 1:
        references |= {comparison.reference for comparison in comparisons}
    against = {comparison.level: comparison for comparison in comparisons if comparison.reference in references}
    cost = costs(results) if cost is None else cost
    rows = []
    for level in results.trained:
        row = {
            results.study.factor: level, "n": counted(results, level),
            "parameters": f"{cost.parameters[level]:,}", "MACs (M)": f"{cost.macs[level] / 1e6:.1f}",
            "s / epoch": seconds(cost.seconds[level]),
            "train loss": mean_of(results, level, "train_loss"), "val. loss": mean_of(results, level, "val_loss"),
            "val. acc. (%)": accuracy_of(results, level),
        }
        if comparison := against.get(level):
            row |= {
                "difference (points)": signed(comparison.difference), "p (Holm)": p_text(comparison.p_holm),
                "verdict": WORDS[comparison.word],
            }
        else:
            own = "reference" if level in references else "–"
            row |= {"difference (points)": own, "p (Holm)": "", "verdict": ""}
        if not tested:
            del row["p (Holm)"], row["verdict"]
        rows.append(row)
    return as_shown(rows)


def mean_of(results: StudyResults, level: str, column: str) -> str:
    """The mean of a final figure over a level's runs; – where none has it."""
    value = results.values(column, level).astype(float).mean()
    return "–" if math.isnan(value) else f"{value:.3f}"


def accuracy_of(results: StudyResults, level: str, digits: int = 2) -> str:
    """A level's final validation accuracy in percent and its interval, or that every run diverged."""
    if not len(accuracies := results.values("val_accuracy", level)):
        return DIVERGED
    known = accuracies.dropna().astype(float)  # a study may hold no images out
    return plus_minus(mean_interval(100 * known), digits) if len(known) else "–"


def counted(results: StudyResults, level: str) -> int | str:
    """How many of a level's runs did not diverge; in words where some did."""
    finished = len(results.values("val_accuracy", level))
    lost = int((results.runs["level"] == level).sum()) - finished
    return f"{finished}, {lost} {DIVERGED}" if lost else finished


def as_shown(rows: Sequence[dict]) -> Styler:
    """Rows as a table without an index, that scrolls by itself where the page is narrow: words left, numbers right."""
    rows = rows or [{"": NO_RUN}]
    frame = pd.DataFrame(rows)
    # pandas names a table at random; by its content, a rebuilt page differs only where its content does.
    name = hashlib.sha256(frame.to_csv().encode()).hexdigest()[:8]
    styles = []
    for number, column in enumerate(frame):
        if in_words(frame[column]):
            long = frame[column].map(lambda cell: len(str(cell))).max() > LONG_TEXT
            props = "text-align: left" + ("; white-space: normal; min-width: 11rem" if long else "")
            styles += [{"selector": f"{cell}.col{number}", "props": props} for cell in ("th", "td")]
    return (
        frame.style.set_uuid(name).hide(axis="index").set_table_attributes('class="wide-table"')
        .set_table_styles(styles).format(typeset)
    )


def typeset(cell: object) -> object:
    """A text as HTML: its negative numbers have a minus sign, as prose has it, and its lines stay lines; anything else
    as it is.
    """
    if not isinstance(cell, str):
        return cell
    hyphen, minus = MINUS
    return hyphen.sub(minus, cell).replace("\n", "<br>")


def in_words(cells: pd.Series) -> bool:
    """Whether most of a column's cells, but for those without a number, hold more letters than digits."""
    counts = [
        (sum(character.isalpha() for character in text), sum(character.isdigit() for character in text))
        for text in map(str, cells) if text.strip() not in NO_NUMBER
    ]
    return 2 * sum(letters > digits for letters, digits in counts) > len(counts)


def plus_minus(estimate: stats.Estimate, digits: int = 2) -> str:
    """A mean and, from two values on, the half width of its interval, for a table that has n in a column of its own.

    Values that are all the same are a tie of what was counted, and no certainty: no interval is shown.
    """
    spread = estimate.n > 1 and estimate.half_width > 0
    return f"{estimate.mean:.{digits}f}" + (f" ± {estimate.half_width:.{digits}f}" if spread else "")


def with_n(estimate: stats.Estimate, unit: str, digits: int = 2) -> str:
    """A mean, its interval and n in a sentence: ``84.4 ± 0.7 % (n = 3)``."""
    return f"{plus_minus(estimate, digits)} {unit} (n = {estimate.n})"


def seconds(value: float) -> str:
    """Seconds as a table shows them; – where they were not measured."""
    return "–" if math.isnan(value) else f"{value:.0f}"


def signed(difference: stats.Estimate, digits: int = 2) -> str:
    """A difference with its sign and, from two pairs on, the half width of its interval; – where there is no pair."""
    if not difference.n:
        return "–"
    return f"{difference.mean:+.{digits}f}" + (f" ± {difference.half_width:.{digits}f}" if difference.n > 1 else "")


def verdicts(
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
    lines = "\n".join(f"- {stats.comparison_verdict(what, comparison, unit, digits)}" for comparison in comparisons)
    if len(comparisons) < LONG_LIST:
        return lines
    return _folded(in_short(comparisons, what, unit, words), lines)


def in_short(
    comparisons: Sequence[Comparison], what: str = "final validation accuracy", unit: str = "points",
    words: Mapping[str, str] = WORDS,
) -> str:
    """What several comparisons show, in one sentence: with which levels a figure is higher, lower, the same.

    For example "Final validation accuracy, against *none*: higher with no level; lower with *b*; no difference found
    with *a*." Levels that are compared with another than most are have a sentence of their own. ``words`` says how
    each outcome reads: :data:`WORDS`, or :data:`WORDS_OF_TIME` of a figure that is a time.
    """
    if not comparisons:
        return NOTHING
    (usual, count), *_ = Counter(comparison.reference for comparison in comparisons).most_common(1)
    if 2 * count > len(comparisons) > count:
        apart = [c for c in comparisons if c.reference != usual]
        return " ".join(in_short(part, what, unit, words) for part in (with_reference(comparisons, usual), apart))
    usual = usual if count == len(comparisons) else None
    named: dict[str, list[str]] = {}
    for c in comparisons:
        beside = "" if c.reference == usual else f" (against *{c.reference}*)"
        named.setdefault(c.word, []).append(f"*{c.level}*{beside}")
    margin = f" within ±{comparisons[0].same_within:g} {unit}".rstrip()
    said = dict(words) | {"same": f"the same{margin}", "suggestive": "a difference only before correction",
                    "one seed": "no verdict yet (one pair of runs)", "none": "no pair of runs yet"}
    parts = [f"{said[word]} with {listed(named[word])}" for word in said if word in named]
    if "higher" not in named and len(comparisons) > 1 and any(c.difference.n > 1 for c in comparisons):
        parts.insert(0, f"{said['higher']} with no level" if "lower" in named else
                     f"no level is shown to be {said['higher']} or {said['lower']}")
    against = f", against *{usual}*" if usual else ""
    return f"{what[0].upper()}{what[1:]}{against}: {'; '.join(parts)}."


def listed(names: Sequence[str]) -> str:
    """Names in a row, as a sentence has them: between names that have commas themselves another comma would be lost."""
    return (" and " if any("," in name for name in names) else ", ").join(names)


def bullets(*sentences: str) -> str:
    """Sentences as a Markdown list; those that have nothing to say are left out."""
    return "\n".join(f"- {sentence}" for sentence in sentences if sentence != NOTHING) or NOTHING


def compare_by_setting(results: StudyResults, reference: str) -> list[Comparison]:
    """A crossed study's levels, each against ``reference`` under the same setting; corrected over all settings."""
    pairs = [
        (level, reference + CROSS + level.partition(CROSS)[2])
        for level in results.study.levels if level.partition(CROSS)[0] != reference
    ]
    return compare_planned(finals(results), pairs)


def in_short_by_setting(
    comparisons: Sequence[Comparison], heading: str, what: str = "final validation accuracy"
) -> list[str]:
    """:func:`in_short` of :func:`compare_by_setting`, a sentence a setting; settings that show the same share one.

    ``heading`` names the setting at the head of a sentence: ``"Batches of {}"``.
    """
    settings: dict[str, list[str]] = {}
    for setting, of_setting in _under_setting(comparisons).items():
        settings.setdefault(in_short(of_setting, what), []).append(setting)
    return [f"{heading.format(listed(names))}: {sentence[0].lower()}{sentence[1:]}"
            for sentence, names in settings.items()]


def verdicts_by_setting(
    comparisons: Sequence[Comparison], heading: str, what: str = "final validation accuracy"
) -> str:
    """The verdicts on :func:`compare_by_setting`, a Markdown list; ``heading`` as for :func:`in_short_by_setting`."""
    lines = "\n".join(
        f"- {heading.format(setting)}: {stats.comparison_verdict(what, comparison)}"
        for setting, of_setting in _under_setting(comparisons).items() for comparison in of_setting)
    if len(comparisons) < LONG_LIST:
        return lines or NOTHING
    return _folded(bullets(*in_short_by_setting(comparisons, heading, what)), lines)


def _under_setting(comparisons: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    """A crossed study's comparisons by setting, which their levels' names then do without."""
    settings: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        level, _, setting = comparison.level.partition(CROSS)
        reference = comparison.reference.partition(CROSS)[0]
        settings.setdefault(setting, []).append(replace(comparison, level=level, reference=reference))
    return settings


def _folded(summary: str, lines: str) -> str:
    """A list of verdicts, folded below what sums it up."""
    return f"{summary}\n\n:::{{dropdown}} Each comparison with its interval\n{lines}\n:::"


def changes_by_setting(results: StudyResults, reference: str, base: str) -> list[Comparison]:
    """Whether what a level gains over ``reference`` depends on the setting of a crossed study.

    Each level's gain under every other setting against its gain under ``base``, by seed: a difference of differences,
    since one verdict under each setting says nothing of their difference.
    """
    values = finals(results)
    gains = {
        level: gain(values[level], values[other]) for level in values
        if (other := reference + CROSS + level.partition(CROSS)[2]) in values and other != level
    }
    pairs = [
        (main + CROSS + setting, main + CROSS + base)
        for main in results.study.mains if main != reference for setting in results.study.settings if setting != base
    ]
    return compare_planned(gains, pairs)


def ranges_over_settings(results: StudyResults) -> dict[str, pd.Series]:
    """How far a level's final accuracies lie apart over a crossed study's settings, by level and seed: in points.

    Only levels that were trained under every setting. A run that diverged leaves its seed without a range, NaN: with it
    the range would have no upper end.
    """
    values, ranges = finals(results), {}
    for main in results.study.mains:
        under = [values.get(main + CROSS + setting) for setting in results.study.settings]
        if all(found is not None for found in under):
            by_seed = pd.concat(under, axis=1, join="inner")
            ranges[main] = by_seed.max(axis=1, skipna=False) - by_seed.min(axis=1, skipna=False)
    return ranges


def compare_spans(results: StudyResults, step: int, pairs: Sequence[tuple[str, str]]) -> list[Comparison]:
    """How many factors of ten the layers' gradient norms lie apart at a step, in pairs of levels, over their seeds."""
    spans = {
        level: stats.gradient_span(results.gradients[results.gradients["level"] == level], step)
        for level in results.levels
    }
    return compare_planned(with_lost(results, spans), pairs, SPAN_SAME_WITHIN)


def repeated(
    narrow: StudyResults, comparisons: Sequence[Comparison], other: StudyResults,
    where: Literal["width", "epochs"] = "width", column: str = "val_accuracy",
) -> list[tuple[str, list[Comparison]]]:
    """The pairs of levels that two studies compare, as each finds them: under what conditions, and the comparisons.

    The studies differ in ``where``. ``comparisons`` are those of ``narrow``, of the final figure ``column``; each
    study's are corrected for its own.
    """
    there = compare(other, column)
    before = picked(comparisons, [(c.level, c.reference) for c in there])
    after = picked(there, [(c.level, c.reference) for c in before])
    configs = (next(iter(results.configs.values()), results.study.config(results.study.reference, 0))
               for results in (narrow, other))
    return [(f"at width {config.width}" if where == "width" else f"over {config.epochs} epochs", found)
            for config, found in zip(configs, (before, after), strict=True)]


def carried_over(conditions: Sequence[tuple[str, Sequence[Comparison]]]) -> str:
    """Whether a study's conclusions hold in another: a Markdown list of :func:`repeated`, a line a pair."""
    def said(comparison: Comparison, under: str) -> str:
        if not comparison.difference.n:
            return "every pair lost a run that diverged" if comparison.lost else "no pair of runs yet"
        return f"{under} {signed(comparison.difference)} points (n = {comparison.difference.n})"

    (here, first), (there, second) = conditions
    return "\n".join(
        f"- *{after.level}* against *{after.reference}*: {said(before, here)}, {said(after, there)}; "
        f"{stats.carried_over(before, after)}." for before, after in zip(first, second, strict=True)) or NOTHING


def compare_times(
    histories: Mapping[str, pd.DataFrame], accuracies: Mapping[str, pd.Series], pairs: Sequence[tuple[str, str]],
    target: float, same_within: float = 0.25,
) -> tuple[list[Comparison], list[str]]:
    """When levels' validation accuracy passes ``target`` (a fraction), in epochs; and which levels have no part in it.

    Only levels that pass it with every seed are compared: of others only the lucky seeds would count. ``histories``
    and ``accuracies`` (NaN where a run diverged) are by level, the latter by seed.
    """
    times = {level: stats.time_to_reach(history, "val_accuracy", target, start=CHANCE)
             for level, history in histories.items()}
    slow = [level for level in times
            if times[level].empty or times[level].isna().any() or accuracies[level].isna().any()]
    there = {level: values for level, values in times.items() if level not in slow}
    return compare_planned(there, pairs, same_within), slow


def time_verdicts(times: Mapping[float, tuple[list[Comparison], list[str]]]) -> str:
    """The verdicts on :func:`compare_times` by target, as Markdown; what would be said of two targets is said once."""
    paragraphs = []
    for target, (comparisons, slow) in times.items():
        percent = f"{100 * target:.0f} %"
        if slow and not comparisons:
            paragraphs.append(f"No two that are to be compared reach {percent} with every seed.")
        else:
            paragraphs.append(verdicts(comparisons, f"time to {percent}", "epochs", words=WORDS_OF_TIME))
        if slow:
            paragraphs.append(f"Not compared in the time to {percent}, which not every seed reaches: "
                              f"{listed([f'*{level}*' for level in slow])}.")
    return "\n\n".join(dict.fromkeys(paragraphs)) or NOTHING


def largest_departure(study: Study) -> str:
    """By how much the number of parameters furthest from the reference's departs from it: ``8 % fewer``."""
    counts = {level: layers.parameter_count(models.build(study.config(level, 0))) for level in study.levels}
    departure = max((count / counts[study.reference] - 1 for count in counts.values()), key=abs)
    return f"{100 * abs(departure):.0f} % {'more' if departure > 0 else 'fewer'}"


def first_epoch(reached: pd.Series) -> str:
    """The median first epoch of :func:`cifarlab.stats.epochs_to_reach`; runs that never get there count as later.

    Where the median run never gets there, how many do.
    """
    if reached.empty:
        return "–"
    finite = reached.notna().sum()
    middle = reached.fillna(float("inf")).median()
    if middle < float("inf"):
        return f"{middle:.3g}"
    return f"reached by {finite} of {len(reached)} runs" if finite else "never"


def epochs_table(results: StudyResults, targets: Sequence[float]) -> Styler:
    """One row a level: the median first epoch at which its validation accuracy reaches each target (a fraction), and,
    where the curves are long enough, how much its validation loss goes back and forth. Runs that diverged are counted
    beside n and have no part in it.
    """
    rows = []
    can_turn = results.history["epoch"].max() >= stats.ENOUGH_TO_TURN
    for level in results.trained:
        history = results.history[results.history["level"] == level]
        found = {
            f"epochs to {100 * target:.0f} %": first_epoch(stats.epochs_to_reach(history, "val_accuracy", target))
            for target in targets
        }
        if can_turn:
            turns = stats.oscillation(history).dropna()
            found["oscillation of val. loss (nats)"] = plus_minus(mean_interval(turns), digits=3) if len(turns) else "–"
        if history.empty:
            found = dict.fromkeys(found, DIVERGED)
        rows.append({results.study.factor: level, "n": counted(results, level)} | found)
    return as_shown(rows)
