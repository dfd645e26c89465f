"""The tables that every study's chapter shows: one row a level, and its verdict against the reference."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
from pandas.io.formats.style import Styler

from cifarlab import layers, models, stats
from cifarlab.bench import costs as bench_costs
from cifarlab.bench import measuring
from cifarlab.stats import Comparison, mean_interval, p_text
from cifarlab.studies import CROSS, StudyResults

NO_RUN = "No run of this study is in the store yet."
NOTHING = "There is nothing to compare yet."
DIVERGED = "diverged"
# A column with a text of more characters than this breaks its lines.
LONG_TEXT = 40
# What stands in a cell instead of a number: it is aligned as the numbers are.
NO_NUMBER = ("", "–", "never", "reference", DIVERGED)
WORDS = {
    "higher": "higher", "lower": "lower", "same": "the same", "unclear": "no difference found",
    "suggestive": "not after correction", "one seed": "one seed", "none": "–",
}


def compare(
    results: StudyResults, column: str = "val_accuracy", same_within: float = 0.5, reference: str | None = None
) -> list[Comparison]:
    """Every level against ``reference`` (the study's own, unless given); accuracies in points.

    Corrected for all comparisons that the study plans, whether or not their runs are finished.
    """
    reference = reference or results.study.reference
    pairs = [(level, reference) for level in results.study.levels if level != reference]
    return compare_planned(results, pairs, column, same_within)


def compare_planned(
    results: StudyResults, pairs: Sequence[tuple[str, str]], column: str = "val_accuracy", same_within: float = 0.5
) -> list[Comparison]:
    """The pairs of levels of which both have runs; corrected for the number of ``pairs``."""
    values = figures_of(results, column)
    there = [(a, b) for a, b in pairs if a in values and b in values]
    return stats.compare_pairs(values, there, same_within, planned=len(pairs))


def figures_of(results: StudyResults, column: str) -> dict[str, pd.Series]:
    """One final figure of every level that has runs, by seed; accuracies in percent."""
    scale = 100 if column.endswith("accuracy") else 1
    return {level: scale * results.values(column, level).astype(float) for level in results.levels}


def pair_verdicts(
    results: StudyResults, pairs: Sequence[tuple[str, str]], what: str, column: str = "val_accuracy"
) -> str:
    """The verdict on each pair of levels that has runs, as a Markdown list; corrected for the number of ``pairs``."""
    return verdicts(compare_planned(results, pairs, column), what)


def costs(results: StudyResults) -> pd.DataFrame:
    """What each level costs: trainable values, multiply-accumulates an image, seconds an epoch.

    Seconds come from the benchmark, where all levels were timed in turn on a quiet machine: those of the runs
    themselves depend on what else it did that hour. NaN where a level was not timed.
    """
    try:
        timed = measuring.read("costs")
    except measuring.BenchmarkError:
        timed = {"kinds": {}}
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
    results: StudyResults, comparisons: Sequence[Comparison], cost: pd.DataFrame | None = None
) -> Styler:
    """One row a level: n, cost, final figures, the difference to the reference and what may be said of it.

    Runs that diverged are counted beside n and have no part in the figures.
    ``cost`` is the answer of :func:`costs` where a page has it already.
    """
    against = {comparison.level: comparison for comparison in comparisons}
    cost = costs(results) if cost is None else cost
    rows = []
    for level in results.trained:
        def mean(column: str, level: str = level) -> str:
            value = results.values(column, level).astype(float).mean()
            return "–" if math.isnan(value) else f"{value:.3f}"

        accuracies = 100 * results.values("val_accuracy", level)
        row = {
            results.study.factor: level, "n": counted(results, level),
            "parameters": f"{cost.parameters[level]:,}", "MACs (M)": f"{cost.macs[level] / 1e6:.1f}",
            "s / epoch": seconds(cost.seconds[level]),
            "train loss": mean("train_loss"), "val. loss": mean("val_loss"),
            "val. acc. (%)": plus_minus(mean_interval(accuracies)) if len(accuracies) else DIVERGED,
        }
        if comparison := against.get(level):
            row |= {
                "difference (points)": signed(comparison.difference), "p (Holm)": p_text(comparison.p_holm),
                "verdict": WORDS[comparison.word],
            }
        else:
            own = level == results.study.reference
            row |= {"difference (points)": "reference" if own else "–", "p (Holm)": "", "verdict": ""}
        rows.append(row)
    return as_shown(rows)


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
        .set_table_styles(styles)
    )


def in_words(cells: pd.Series) -> bool:
    """Whether most of a column's cells, but for those without a number, hold more letters than digits."""
    counts = [
        (sum(character.isalpha() for character in text), sum(character.isdigit() for character in text))
        for text in map(str, cells) if text.strip() not in NO_NUMBER
    ]
    return 2 * sum(letters > digits for letters, digits in counts) > len(counts)


def plus_minus(estimate: stats.Estimate, digits: int = 2) -> str:
    """A mean and, from two values on, the half width of its interval, for a table that has n in a column of its own."""
    return f"{estimate.mean:.{digits}f}" + (f" ± {estimate.half_width:.{digits}f}" if estimate.n > 1 else "")


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
    comparisons: Sequence[Comparison], what: str = "final validation accuracy", unit: str = "points", digits: int = 2
) -> str:
    """The verdict on every level, as a Markdown list."""
    if not comparisons:
        return NOTHING
    if all(comparison.word == "one seed" for comparison in comparisons):
        return (
            "No two levels share more than one seed yet. One pair of runs has no interval, so its difference may be "
            "the level's or the seed's, and no verdict is given."
        )
    return "\n".join(f"- {stats.comparison_verdict(what, comparison, unit, digits)}" for comparison in comparisons)


def verdicts_by_setting(results: StudyResults, reference: str, heading: str) -> str:
    """A crossed study's verdicts, setting by setting, each level against ``reference`` under the same setting.

    ``heading`` names the setting at the head of a line: ``"Batches of {}"``. Corrected over all settings together.
    """
    pairs = [
        (level, reference + CROSS + level.partition(CROSS)[2])
        for level in results.study.levels if level.partition(CROSS)[0] != reference
    ]
    lines = []
    for comparison in compare_planned(results, pairs):
        level, _, setting = comparison.level.partition(CROSS)
        short = replace(comparison, level=level, reference=reference)
        lines.append(f"- {heading.format(setting)}: {stats.comparison_verdict('validation accuracy', short)}")
    return "\n".join(lines) or NOTHING


def carried_over(narrow: StudyResults, wide: StudyResults) -> str:
    """Whether a narrow study's conclusions hold at another width: a Markdown list, one line a level of ``wide``.

    Both are compared with the reference of ``wide``, each corrected for its own study's comparisons.
    """
    def said(comparison: Comparison, results: StudyResults) -> str:
        if not comparison.difference.n:
            return "no pair of runs yet"
        width = next(iter(results.configs.values())).width
        return f"at width {width} {signed(comparison.difference)} points (n = {comparison.difference.n})"

    first = {comparison.level: comparison for comparison in compare(narrow, reference=wide.study.reference)}
    return "\n".join(
        f"- {c.level} against {c.reference}: {said(first[c.level], narrow)}, {said(c, wide)}; "
        f"{stats.carried_over(first[c.level], c)}."
        for c in compare(wide) if c.level in first
    ) or NOTHING


def first_epoch(reached: pd.Series) -> str:
    """The median first epoch of :func:`cifarlab.stats.epochs_to_reach`; runs that never get there count as later.

    Where the median run never gets there, how many do.
    """
    finite = reached.notna().sum()
    middle = reached.fillna(float("inf")).median()
    if middle < float("inf"):
        return f"{middle:.3g}"
    return f"reached by {finite} of {len(reached)} runs" if finite else "never"


def epochs_table(results: StudyResults, targets: Sequence[float]) -> Styler:
    """One row a level: the median first epoch at which its validation accuracy reaches each target (a fraction), and
    how much its validation loss goes back and forth. Runs that diverged are counted beside n and have no part in it.
    """
    rows = []
    for level in results.trained:
        history = results.history[results.history["level"] == level]
        wobble = plus_minus(mean_interval(stats.oscillation(history)), digits=3) if len(history) else DIVERGED
        rows.append({results.study.factor: level, "n": counted(results, level)} | {
            f"epochs to {100 * target:.0f} %": first_epoch(stats.epochs_to_reach(history, "val_accuracy", target))
            for target in targets
        } | {"oscillation of val. loss (nats)": wobble})
    return as_shown(rows)
