"""The tables that the chapters show: of a study one row a level, and its verdict against the reference."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from labbook.page.texts import p_text, plus_minus, seconds, signed
from labbook.page.typography import MINUS
from labbook.page.verdicts import DIVERGED, WORDS
from labbook.studies import curves
from labbook.studies.results import StudyResults
from labbook.studies.stats import Comparison, mean_interval

NO_RUN = "No run of this study is in the store yet."
# A column with a text of more characters than this breaks its lines.
LONG_TEXT = 40
# What stands in a cell instead of a number: it is aligned as the numbers are.
NO_NUMBER = ("", "–", "never", "reference", DIVERGED)


def study_table(
    results: StudyResults, comparisons: Sequence[Comparison], cost: pd.DataFrame | None = None, tested: bool = True
) -> Styler:
    """One row a level: n, cost, final figures, the difference to the reference and what may be said of it.

    ``comparisons`` against other levels than the study's reference are passed over, unless the study is crossed: then
    each row has one reference under its own setting. Runs that diverged are counted beside n and have no part in the
    figures. ``cost`` has ``parameters``, ``macs`` (multiply-accumulates an image) and ``seconds`` (an epoch) by level;
    without it the table has no costs. Without ``tested`` the differences are shown and nothing is concluded from them.
    """
    references = {results.study.reference}
    if len(results.study.settings) > 1:
        references |= {comparison.reference for comparison in comparisons}
    against = {comparison.level: comparison for comparison in comparisons if comparison.reference in references}
    rows = []
    for level in results.trained:
        comparison = against.get(level)
        own = "reference" if level in references else "–"
        # What a reader looks for comes first: on a narrow screen the rest is reached by scrolling.
        row = {
            results.study.factor: level, "val. acc. (%)": accuracy_of(results, level),
            "difference (points)": signed(comparison.difference) if comparison else own,
        }
        if tested:
            row |= {
                "verdict": WORDS[comparison.word] if comparison else "",
                "p (Holm)": p_text(comparison.p_holm) if comparison else "",
            }
        row |= {
            "n": counted(results, level),
            "train loss": mean_of(results, level, "train_loss"), "val. loss": mean_of(results, level, "val_loss"),
        }
        if cost is not None:
            row |= {
                "parameters": f"{cost.parameters[level]:,}", "MACs (M)": f"{cost.macs[level] / 1e6:.1f}",
                "s / epoch": seconds(cost.seconds[level]),
            }
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
            props = f"text-align: left; white-space: normal; min-width: {11 if long else 5}rem"
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


def first_epoch(reached: pd.Series) -> str:
    """The median first epoch of :func:`labbook.studies.curves.epochs_to_reach`; runs that never get there count as later.

    Where not every run gets there, how many do is said too.
    """
    if reached.empty:
        return "–"
    finite = reached.notna().sum()
    middle = reached.fillna(float("inf")).median()
    if middle < float("inf"):
        return f"{middle:.3g}" + (f" ({finite} of {len(reached)} runs)" if finite < len(reached) else "")
    return f"reached by {finite} of {len(reached)} runs" if finite else "never"


def epochs_table(results: StudyResults, targets: Sequence[float]) -> Styler:
    """One row a level: the median first epoch at which its validation accuracy reaches each target (a fraction), and,
    where the curves are long enough, how much its validation loss goes back and forth. Runs that diverged are counted
    beside n and have no part in it.
    """
    rows = []
    can_turn = results.history["epoch"].max() >= curves.ENOUGH_TO_TURN
    for level in results.trained:
        history = results.history[results.history["level"] == level]
        found = {
            f"epochs to {100 * target:.0f} %": first_epoch(curves.epochs_to_reach(history, "val_accuracy", target))
            for target in targets
        }
        if can_turn:
            turns = curves.oscillation(history).dropna()
            found["oscillation of val. loss (nats)"] = plus_minus(mean_interval(turns), digits=3) if len(turns) else "–"
        if history.empty:
            found = dict.fromkeys(found, DIVERGED)
        rows.append({results.study.factor: level, "n": counted(results, level)} | found)
    return as_shown(rows)
