"""The five answers of the first page: one difference each, and the forest plot that shows them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labbook.page import book
from labbook.page.figures import COLOURS, FAINT, INK, SMALL, WIDE, BookFigure, new_figure
from labbook.studies.stats import Difference

# Ten more seeds of the reference that all five studies share.
MORE = ("reference-again",)
# What is done instead of what: study, level, and the sensible default beside it.
QUESTIONS = (
    ("batch normalization\ninstead of none", "normalization", "batch", "none"),
    ("warm-up and decay\ninstead of a constant rate", "decay-rates", "warm-up cosine / 0.01", "constant / 0.003"),
    ("13 layers instead of 9,\nwith shortcuts", "depth", "residual 13", "residual 9"),
    ("5 × 5 kernels\ninstead of 3 × 3", "kernel", "5 × 5", "3 × 3"),
    ("half of the classifier's\ninputs dropped", "dropout", "classifier 0.5", "none"),
)


@dataclass(frozen=True)
class Answer:
    """One row of the forest plot: what is done, and its difference in validation accuracy, in points."""

    words: str
    difference: Difference


def rows() -> list[Answer]:
    """The five answers, each from its study's committed runs."""
    return [
        Answer(words, book.study(study, pool=MORE).family().of_pair(level, default)[0])
        for words, study, level, default in QUESTIONS
    ]


def forest(answers: Sequence[Answer]) -> BookFigure:
    """Each answer's difference as a mark with its 95 % interval and its size in words; zero is a line."""
    figure, (axis,) = new_figure(width=WIDE, height=0.6 + 0.62 * len(answers))
    for row, answer in enumerate(reversed(answers)):
        found = answer.difference
        gains = found.mean > 0
        colour = COLOURS[0] if gains else COLOURS[1]
        axis.plot([found.low, found.high], [row, row], color=colour, linewidth=7, alpha=0.4, solid_capstyle="butt")
        axis.plot(found.mean, row, marker="o", markersize=4, color=colour)
        # Away from the line at zero.
        axis.annotate(f"{found.mean:+.1f}".replace("-", "\N{MINUS SIGN}"), (found.high if gains else found.low, row),
                      xytext=(6 if gains else -6, 0), textcoords="offset points", ha="left" if gains else "right",
                      va="center", fontsize=SMALL, color=INK)
    axis.axvline(0, color=FAINT, linewidth=1)
    axis.set_yticks(range(len(answers)), [answer.words for answer in reversed(answers)])
    axis.set(xlabel="difference in validation accuracy (points)", ylim=(-0.6, len(answers) - 0.3))
    axis.margins(x=0.25)
    axis.grid(axis="y", visible=False)
    return figure
