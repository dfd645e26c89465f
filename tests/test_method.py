"""The comparison of methods that decided for Welch's test."""

from __future__ import annotations

import numpy as np
import pytest
from cifarbook import method
from scipy import stats as scipy_stats
from scipy.special import polygamma


def test_where_levels_scatter_alike_every_method_covers():
    found = method.coverage(9, 3, 1)
    assert found["covered"].between(0.92, 0.98).all()
    assert found["half_width"]["welch"] < found["half_width"]["paired"], "pairing costs degrees of freedom"


@pytest.mark.parametrize("seeds", [3, 5])
def test_only_unpooled_variances_cover_the_level_that_scatters_more(seeds):
    found = method.coverage(9, seeds, 10)["covered"]
    assert found["pooled"] < 0.7 and found["moderated"] < 0.92
    assert 0.93 < found["welch"] < 0.97 and 0.93 < found["paired"] < 0.97


def test_moderation_finds_the_prior_that_variances_were_drawn_from():
    rng = np.random.default_rng(0)
    true = 4 / rng.chisquare(4, (20, 2000))
    variance = true * rng.chisquare(6, true.shape) / 6
    shrunk, prior = method.moderate(variance, 6)
    assert np.median(prior) == pytest.approx(4, rel=0.15)
    assert ((shrunk - true) ** 2).mean() < ((variance - true) ** 2).mean()
    assert np.isinf(method.moderate(np.ones((1, 5)), 2)[1]).all(), "what is alike is pooled"
    assert polygamma(1, 1.0) == pytest.approx(np.pi**2 / 6)


def test_conclusions_are_counted_for_every_study_with_runs():
    found = method.conclusions().set_index("study")
    assert (found["both"] <= found[["paired", "welch"]].min(axis=1)).all()
    assert (found[["paired", "welch"]].max(axis=1) <= found["comparisons"]).all()
    assert found["welch"].sum() > found["paired"].sum()


def test_paired_p_is_scipys():
    import pandas as pd

    a, b = pd.Series([1.0, 2.5, 3.0]), pd.Series([2.0, 2.6, 4.5])
    assert method._paired(a, b) == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue)
