"""The original's three conclusions, judged on constructed histories."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from cifarbook import original
from labbook.page import conclusions
from labbook.studies import curves

EPOCHS = 12


def runs(accuracy: float, loss_step: float = 0.0, epochs: int = EPOCHS, seeds: int = 3) -> pd.DataFrame:
    """Runs of one schedule: a flat accuracy, a hair apart by seed, and a loss that goes back and forth."""
    return pd.DataFrame([
        {"seed": seed, "epoch": epoch, "val_accuracy": accuracy + 0.0001 * seed * accuracy,
         "val_loss": 1 + loss_step * (1 + 0.01 * seed) * (epoch % 2)}
        for seed in range(seeds) for epoch in range(1, epochs + 1)
    ])


def words(with_it: pd.DataFrame, without: pd.DataFrame, epochs: int = EPOCHS) -> list[str]:
    return [one.judge(with_it, without).word for one in conclusions.three(epochs)]


def test_each_conclusion_is_supported_by_what_it_foretells_and_contradicted_by_the_opposite():
    assert words(runs(0.80), runs(0.70)) == ["Supported", "Contradicted", "Undecided"]
    assert words(runs(0.70), runs(0.80)) == ["Contradicted", "Contradicted", "Undecided"]
    # A tenth of a point: real, and no gain that matters.
    assert words(runs(0.801, 0.2), runs(0.80, 0.1)) == ["Supported"] * 3
    assert words(runs(0.801, 0.1), runs(0.80, 0.2))[2] == "Contradicted"


def test_speed_is_judged_by_the_first_epochs_alone():
    first = conclusions.window(EPOCHS)
    late = runs(0.70)
    late.loc[late["epoch"] > first, "val_accuracy"] += 0.2
    speed, at_the_end, _ = (one.judge(late, runs(0.70)) for one in conclusions.three(EPOCHS))
    assert speed.difference.mean == 0
    assert at_the_end.difference.mean == pytest.approx(20)


def test_short_runs_conclude_nothing_on_oscillation():
    short = curves.ENOUGH_TO_TURN - 1
    found = conclusions.three(short)[2].judge(runs(0.8, 0.3, short), runs(0.8, 0.1, short))
    assert (found.word, found.sentence) == ("Undecided", curves.TOO_SHORT_TO_TURN)
    assert conclusions.window(2) == 2


def test_no_runs_and_one_pair_are_said():
    one_pair = [one.judge(runs(0.8, seeds=1), runs(0.7, seeds=1)) for one in conclusions.three(EPOCHS)]
    assert all(finding.word == "Undecided" and "One pair of runs" in finding.sentence for finding in one_pair)
    for finding in (one.judge(runs(0.8), runs(0.7)[:0]) for one in conclusions.three(EPOCHS)):
        assert finding.word == "Undecided"
        assert "no pair of finished runs" in finding.sentence


def test_the_originals_two_runs_have_the_differences_that_it_reports():
    found = [
        one.judge(*(original.history(level) for level in (conclusions.SCHEDULE, conclusions.REFERENCE)))
        for one in conclusions.three(20)
    ]
    stated = original.facts()["final_val_accuracy"]
    gain = stated[conclusions.SCHEDULE] - stated[conclusions.REFERENCE]
    assert found[1].difference.mean == pytest.approx(100 * gain, abs=0.01)
    assert all(math.isnan(finding.difference.low) for finding in found)
