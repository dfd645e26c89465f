"""How well a recipe explains the original's losses, on losses that are made up."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from cifarbook import forensics
from cifarlab.config import RunConfig
from scipy import stats

EPOCHS = range(1, 21)


def logs(slope, seeds=3, scatter=0.05, draw=0, rho=0.0):
    noise = np.random.default_rng(draw).normal(0, scatter, (seeds, len(EPOCHS)))
    for epoch in range(1, len(EPOCHS)):
        noise[:, epoch] = rho * noise[:, epoch - 1] + np.sqrt(1 - rho**2) * noise[:, epoch]
    return pd.DataFrame(noise - slope * np.arange(len(EPOCHS)), columns=pd.Index(EPOCHS, name="epoch"))


def recipe(slope, name="", width=16, draw=0, rho=0.0, seeds=3, **fields):
    of_one = logs(slope, draw=draw, rho=rho, seeds=seeds)
    return forensics.Recipe(name, RunConfig.of(width=width, **fields), dict.fromkeys(forensics.LOSSES, of_one))


def column(slope, draw=99):
    return dict.fromkeys(forensics.LOSSES, logs(slope, 1, draw=draw).iloc[0])


def test_a_distance_ignores_a_factor_and_sees_a_shape():
    ours = logs(0.3, scatter=0)
    assert forensics.shape_distance(ours, ours.iloc[0] + 1.5).tolist() == pytest.approx([0, 0, 0])
    steeper = forensics.shape_distance(ours, ours.iloc[0] - 0.1 * np.arange(20))
    assert steeper.tolist() == pytest.approx([np.std(0.1 * np.arange(20))] * 3)


def test_a_prediction_is_the_textbooks():
    ours = logs(0.3)
    low, high = forensics.predict(ours).interval()
    row = ours[7]
    reach = stats.t.ppf(0.975, 2) * row.std(ddof=1) * np.sqrt(1 + 1 / 3)
    assert (low[7], high[7]) == pytest.approx((row.mean() - reach, row.mean() + reach))
    assert forensics.predict(ours, discrepancy=2.0).scale.min() > 2
    assert np.isnan(forensics.predict(ours.iloc[:1]).log_likelihood(ours.iloc[0], free_offset=True))


def test_prediction_intervals_cover_what_they_say():
    covered = [forensics.predict(logs(0.3, draw=draw)).inside(logs(0.3, 1, draw=1000 + draw).iloc[0]).mean()
               for draw in range(100)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)
    assert forensics.held_out(recipe(0.3, seeds=30), "val_loss") == pytest.approx(0.95, abs=0.03)
    assert np.isnan(forensics.held_out(recipe(0.3, seeds=2), "val_loss"))


def test_a_likelihood_is_a_sum_of_densities_and_a_free_offset_the_most_favourable():
    ours, theirs = logs(0.3), logs(0.3, 1, draw=5).iloc[0]
    prediction = forensics.predict(ours)
    expected = stats.t.logpdf(theirs, 2, prediction.mean, prediction.scale).sum()
    assert prediction.log_likelihood(theirs, free_offset=False) == pytest.approx(expected)
    assert prediction.log_likelihood(theirs + 3, free_offset=False) < expected - 50
    assert prediction.log_likelihood(theirs + 3, free_offset=True) >= expected - 0.5


def test_a_line_up_puts_the_recipe_that_made_the_column_first():
    suspects = [recipe(0.1, "slow", draw=1, schedule="constant"), recipe(0.3, "right", draw=2, schedule="linear"),
                recipe(0.35, "near", draw=3, schedule="step")]
    for allowed in (0.0, 0.2):
        table = forensics.line_up(suspects, column(0.3), dict.fromkeys(forensics.LOSSES, allowed),
                                  dict.fromkeys(forensics.LOSSES, 0.25))
        assert table["recipe"].tolist() == ["right", "near", "slow"]
        assert table["times"].iloc[0] == 1
        assert table["times"].is_monotonic_increasing
        assert table["kind"].tolist() == ["decay", "decay", "constant"]


def test_the_scatter_between_widths_is_of_recipes_that_both_have():
    narrow = [recipe(0.1, draw=1, learning_rate=0.1), recipe(0.3, draw=2, learning_rate=0.2)]
    wide = [recipe(0.2, width=64, draw=3, learning_rate=0.1)]
    found = forensics.across_widths(narrow, wide, "train_loss")
    assert found == pytest.approx(np.std(0.1 * np.arange(20)), abs=0.05)
    assert np.isnan(forensics.across_widths(narrow, [], "train_loss"))


def test_correlated_rows_count_for_less():
    loose, tied = ([recipe(0.1, draw=draw, rho=rho, seeds=5) for draw in range(40)] for rho in (0.0, 0.8))
    assert forensics.correlation(loose, "train_loss") < 0.1
    assert forensics.correlation(tied, "train_loss") == pytest.approx(0.75, abs=0.12)
    assert forensics.independent_share(0.6) == pytest.approx(0.25)


@pytest.mark.parametrize(("fields", "expected", "kind"), [
    ({"schedule": "constant"}, "Adam 0.01, constant", "constant"),
    ({"schedule": "linear", "learning_rate": 0.003}, "Adam 0.003, linear decay", "decay"),
    ({"schedule": "warmup_cosine", "warmup_epochs": 0}, "Adam 0.01, cosine decay", "decay"),
    ({"schedule": "warmup_cosine", "warmup_epochs": 1}, "Adam 0.01, warm-up 1, cosine", "warm-up"),
    ({"schedule": "constant", "optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.0},
     "SGD 0.1, no momentum, constant", "constant"),
    ({"schedule": "constant", "batch_size": 256}, "Adam 0.01, batch 256, constant", "constant"),
])
def test_a_recipe_has_a_name_in_words(fields, expected, kind):
    config = RunConfig.of(epochs=20, **fields)
    assert forensics.words(config) == expected
    assert forensics.Recipe("", config, {}).kind == kind


def test_runs_of_several_studies_count_once():
    from labbook.studies.results import ensure

    found = forensics.recipes([ensure(name) for name in ("decay-long", "warm-up-narrow")])
    assert len({one.config for one in found}) == len(found)
    constant, = (one for one in found if one.name == "Adam 0.01, constant")
    assert constant.seeds == 5
    assert constant.logs["train_loss"].columns.tolist() == list(EPOCHS)


def test_it_needs_no_torch():
    code = "import sys, cifarbook.forensics; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_three_times_up_then_down_is_the_logarithm_of_three_away():
    ours, turned = logs(0.3, scatter=0), np.log(3) * np.where(np.arange(20) < 10, 1, -1)
    assert forensics.shape_distance(ours, ours.iloc[0] + turned).tolist() == pytest.approx([np.log(3)] * 3)
