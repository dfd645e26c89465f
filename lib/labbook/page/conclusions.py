"""The original's three conclusions about its schedule, each as a quantity that runs can speak for or against.

Two chapters ask them: of the runs made as the original's, and of runs made with other choices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from cifarbook import original

from labbook.errors import ConfigError
from labbook.page import verdicts
from labbook.studies import curves, stats
from labbook.studies.study import Study

REFERENCE, SCHEDULE = "constant", "warm-up cosine"
# Half a point of accuracy is where a difference begins to matter.
SAME_WITHIN = 0.5


@dataclass(frozen=True)
class Conclusion:
    """What the original concludes, and the ``quantity`` of a run by which it is judged.

    ``of`` takes the history of one schedule's runs and gives the quantity by seed, in ``unit``. ``foretold`` is the
    outcome of :func:`labbook.studies.stats.direction` that the original's words foretell for schedule minus constant rate.
    Of runs shorter than ``fewest_epochs`` nothing is concluded.
    """

    title: str
    quantity: str
    of: Callable[[pd.DataFrame], pd.Series]
    unit: str
    foretold: str
    same_within: float | None = None
    digits: int = 2
    fewest_epochs: int = 1

    def judge(self, with_it: pd.DataFrame, without: pd.DataFrame) -> Finding:
        """Compare the runs with the schedule and those without, over the seeds that both have."""
        epochs = pd.concat([with_it["epoch"], without["epoch"]]).max()
        long_enough = not epochs < self.fewest_epochs   # NaN where there is no run: then that is what is said
        return Finding(self, stats.paired_difference(self.of(with_it), self.of(without)), long_enough)


@dataclass(frozen=True)
class Finding:
    """What some runs say of a conclusion: ``difference`` is with the schedule minus at a constant rate."""

    conclusion: Conclusion
    difference: stats.Estimate
    long_enough: bool

    @property
    def word(self) -> str:
        """As :func:`labbook.studies.stats.on_claim`."""
        if not self.long_enough:
            return "Undecided"
        return stats.on_claim(self.difference, self.conclusion.foretold, self.conclusion.same_within)

    @property
    def sentence(self) -> str:
        """As :func:`labbook.page.verdicts.on_difference`."""
        if not self.long_enough:
            return curves.TOO_SHORT_TO_TURN
        asked = self.conclusion
        return verdicts.on_difference(
            asked.quantity, SCHEDULE, REFERENCE, self.difference, asked.unit, asked.same_within, asked.digits)


def check_levels(study: Study) -> None:
    """Raise ConfigError where a study has other levels than the original's two schedules."""
    if set(study.levels) != {REFERENCE, SCHEDULE}:
        raise ConfigError(
            f"study: {study.name!r} has other levels than the original's two schedules, {REFERENCE!r} and "
            f"{SCHEDULE!r}; 'warm-up' and 'warm-up-narrow' have those.")


def window(epochs: int) -> int:
    """The first epochs over which learning is early: those that the original names, or all of a shorter run."""
    return min(original.facts()["residual_passes"]["within_epochs"], epochs)


def height(history: pd.DataFrame, first: int | None = None) -> pd.Series:
    """The mean validation accuracy over the ``first`` epochs (None: all) in per cent, by seed."""
    return 100 * curves.height(history, first=first)


def three(epochs: int) -> tuple[Conclusion, Conclusion, Conclusion]:
    """The conclusions in the original's order, for runs of so many ``epochs``: speed, final accuracy, oscillation."""
    first = window(epochs)
    return (
        Conclusion(
            "Faster convergence", f"mean validation accuracy over the first {first} epochs" if first > 1 else
            "validation accuracy after the first epoch",
            lambda history: height(history, first), "points", "higher", SAME_WITHIN),
        Conclusion(
            "No change of the final accuracy", "final validation accuracy", _final_accuracy, "points", "same",
            SAME_WITHIN),
        Conclusion(
            "A more oscillating validation loss", "oscillation of the validation loss", curves.oscillation, "nats",
            "higher", digits=3, fewest_epochs=curves.ENOUGH_TO_TURN),
    )


def _final_accuracy(history: pd.DataFrame) -> pd.Series:
    ordered = history.astype({"val_accuracy": float}).sort_values("epoch")
    return 100 * ordered.groupby("seed")["val_accuracy"].last()
