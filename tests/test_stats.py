"""Statistics on constructed data."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from labbook.studies import stats
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests


def series(*values: float) -> pd.Series:
    return pd.Series(values, index=range(len(values)))


def test_the_interval_is_students():
    # Textbook: mean 5, s = 1, n = 4; t(0.975, 3) = 3.1824.
    estimate = stats.mean_interval([4, 5, 5, 6])
    assert estimate.mean == 5
    assert estimate.half_width == pytest.approx(3.1824 * np.std([4, 5, 5, 6], ddof=1) / 2, rel=1e-4)


def test_the_interval_covers_the_mean_95_times_in_100():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        estimate = stats.mean_interval(generator.normal(size=3))
        covered += estimate.low <= 0 <= estimate.high
    assert 0.935 < covered / 2000 < 0.965


def test_one_value_has_no_interval_and_none_is_refused():
    one = stats.mean_interval([3.0])
    assert math.isnan(one.low)
    with pytest.raises(ValueError, match="no value"):
        stats.mean_interval([])


# --- one method for every study -------------------------------------------------------------------------------------


def test_differences_are_welchs():
    rng = np.random.default_rng(0)
    values = {"a": pd.Series(rng.normal(80, 1, 3)), "b": pd.Series(rng.normal(82, 5, 5)),
              "c": pd.Series([79.0, 79.5, np.nan])}
    pairs = [("a", "b"), ("b", "a"), ("a", "c")]
    for found, (a, b) in zip(stats.differences(values, pairs), pairs, strict=True):
        expected = scipy_stats.ttest_ind(values[a].dropna(), values[b].dropna(), equal_var=False)
        interval = expected.confidence_interval(0.95)
        assert (found.a, found.b) == (a, b)
        assert [found.low, found.high, found.p, found.freedom] == pytest.approx(
            [interval.low, interval.high, expected.pvalue, expected.df])
    first, second, third = stats.differences(values, pairs)
    assert asdict(first.turned) == pytest.approx(asdict(second))
    assert (third.n_a, third.n_b) == (3, 2), "a missing value is left out"


def test_effect_size_is_hedges_g():
    values = {"a": pd.Series([1.0, 2, 3, 4, 5]), "b": pd.Series([3.0, 4, 5, 6, 7])}
    (found,) = stats.differences(values, [("a", "b")])
    assert found.effect == pytest.approx(-2 / np.sqrt(2.5) * (1 - 3 / (4 * 8 - 1)), rel=2e-3)


def test_too_few_values_are_no_comparison_and_a_tie_is_no_certainty():
    values = {"one": pd.Series([1.0]), "two": pd.Series([2.0, 3.0]), "same": pd.Series([4.0, 4.0])}
    few, none, tie = stats.differences(values, [("two", "one"), ("two", "absent"), ("same", "same")])
    assert few.mean == 1.5 and np.isnan([few.low, few.p, few.effect]).all() and (few.n_a, few.n_b) == (2, 1)
    assert np.isnan(none.mean) and none.n_b == 0
    assert tie.p == 1 and tie.p_at_least(-1) == 1


def test_claims_of_size_agree_with_the_interval():
    values = {"a": pd.Series([81.0, 82, 83]), "b": pd.Series([79.0, 79.5, 80.5])}
    (found,) = stats.differences(values, [("a", "b")])
    assert found.p_at_least(found.low) == pytest.approx(0.05)
    assert found.turned.p_at_least(-found.high) == pytest.approx(0.05)
    assert found.p_at_least(0) == pytest.approx(found.p)
    assert found.p_within(found.high) == pytest.approx(0.05)
    assert found.p_within(found.high + 0.1) < 0.05 < found.p_within(found.high - 0.1)
    assert stats.p_reaches(values["a"], stats.mean_interval(values["a"]).low) == pytest.approx(0.05)


def test_holm_counts_what_cannot_be_tested_yet():
    p = [0.04, 0.001, 0.2, 0.03, 0.03]
    assert stats.holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    with_unknown = stats.holm([0.01, np.nan, np.nan])
    assert with_unknown[0] == pytest.approx(0.03) and np.isnan(with_unknown[1:]).all()
    assert stats.holm([]) == []


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("scatter", [1, 3, 10])
def test_intervals_cover_the_truth_whether_or_not_levels_scatter_alike(seeds, scatter):
    """Of Welch's 95 % intervals of a difference that is 0, 93 to 97 % have it."""
    rng, repeats = np.random.default_rng(seeds * scatter), 5000
    a, b = rng.normal(0, 1, (repeats, seeds)), rng.normal(0, scatter, (repeats, seeds))
    values = {("a", i): a[i] for i in range(repeats)} | {("b", i): b[i] for i in range(repeats)}
    found = stats.differences(values, [(("a", i), ("b", i)) for i in range(repeats)])
    assert 0.93 < np.mean([one.low <= 0 <= one.high for one in found]) < 0.975


def test_interval_of_a_test_accuracy_has_both_parts():
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(300):
        hard = rng.normal(1.3, 1, 400)                                       # images
        logits = hard + rng.normal(0, 0.1, (5, 1)) + rng.normal(0, 0.3, (5, 400))   # seeds, both
        found = stats.accuracy_interval(logits > 0)
        truth = scipy_stats.norm.cdf(1.3 / np.sqrt(1 + 0.1**2 + 0.3**2))
        covered.append(abs(found.mean - truth) <= found.both)
        assert found.both > max(found.seeds, found.images) * 0.7 and (found.n_seeds, found.n_images) == (5, 400)
    assert 0.92 < np.mean(covered) < 0.99


def test_identical_seeds_leave_the_binomial_interval_of_the_images():
    correct = np.tile(np.arange(10000) < 9000, (3, 1))
    found = stats.accuracy_interval(correct)
    assert found.seeds == 0 and found.mean == 0.9
    assert found.both == found.images == pytest.approx(1.96 * np.sqrt(0.9 * 0.1 / 10000), rel=1e-3)
    with pytest.raises(ValueError, match="two seeds"):
        stats.accuracy_interval(correct[:1])
