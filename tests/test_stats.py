"""Statistics on constructed data."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from labbook.page import texts, verdicts
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
    assert f"{one:.1f}" == "3.0 (n = 1, no interval)"
    assert f"{stats.mean_interval([1, 1, 1]):.1f}" == "1.0 ± 0.0 (n = 3)"
    with pytest.raises(ValueError, match="no value"):
        stats.mean_interval([])


def test_differences_are_paired_by_seed():
    a = pd.Series([1.0, 2.0, 9.0], index=[0, 1, 2])
    b = pd.Series([0.5, 1.5], index=[0, 1])
    difference = stats.paired_difference(a, b)
    assert difference.n == 2
    assert difference.mean == 0.5
    assert stats.paired_difference(a, pd.Series([1.0], index=[7])).n == 0
    assert stats.paired_difference(a, pd.Series([1.0, math.nan], index=[0, 1])).n == 1


def study(**levels: pd.Series) -> dict[str, stats.Comparison]:
    reference = series(80.0, 80.4, 79.8, 80.1, 80.2)
    return {c.level: c for c in stats.compare({"reference": reference} | levels, "reference")}


def test_a_study_is_corrected_by_holm_and_matches_the_textbook():
    found = study(far=series(85.1, 85.2, 84.9, 85.3, 85.0), near=series(80.6, 80.5, 80.3, 80.2, 80.9),
                  other=series(80.1, 80.5, 79.6, 80.3, 80.1))
    raw = sorted((c.p, c.p_holm) for c in found.values())
    # Holm 1979: the smallest of three is multiplied by 3, the next by 2, the last by 1; never decreasing.
    expected = [3 * raw[0][0], max(3 * raw[0][0], 2 * raw[1][0]), max(2 * raw[1][0], raw[2][0])]
    assert [corrected for _, corrected in raw] == pytest.approx(expected)
    assert found["far"].word == "higher"
    assert found["far"].effect_size > 5
    assert "is higher than that of *reference* by 5." in verdicts.on_comparison("accuracy", found["far"])


def test_what_the_correction_takes_away_is_not_called_a_difference():
    # This level alone: p = 0.02, its interval excludes 0. Beside five other comparisons it proves nothing.
    near = series(80.9, 80.7, 80.2, 80.9, 80.4)
    alone = study(near=near)["near"]
    assert alone.word == "higher"
    rng = np.random.default_rng(0)
    crowd = {f"x{i}": series(*(80 + rng.normal(0, 2, 5))) for i in range(5)}
    among = study(near=near, **crowd)["near"]
    assert among.difference == alone.difference
    assert among.p == alone.p < 0.05 < among.p_holm
    assert among.word == "suggestive"
    sentence = verdicts.on_comparison("accuracy", among)
    assert "not enough to call it a difference" in sentence
    assert "higher" not in sentence
    assert "differs" not in sentence


def test_a_comparison_without_an_interval_yet_is_in_the_family_all_the_same():
    reference = series(80.0, 80.4, 79.8, 80.1, 80.2)
    values = {"reference": reference, "near": series(80.9, 80.7, 80.2, 80.9, 80.4), "begun": series(80.0)}
    near, begun = stats.compare(values, "reference")
    assert near.p_holm == pytest.approx(2 * near.p)
    assert math.isnan(begun.p_holm)
    assert stats.compare(values, "reference", planned=4)[0].p_holm == pytest.approx(4 * near.p)


def test_the_same_is_shown_and_not_merely_undetected():
    found = study(same=series(80.1, 80.3, 79.9, 80.0, 80.3), noisy=series(84.0, 77.0, 82.0, 76.5, 81.5))
    assert found["same"].word == "same"
    assert found["same"].p_same < 0.025
    assert found["noisy"].word == "unclear"
    assert found["noisy"].p_same > 0.05


def test_a_small_difference_that_the_correction_takes_away_is_still_shown_to_be_small():
    reference = series(80.0, 80.4, 79.8, 80.1, 80.2)
    values = {"reference": reference, "a bit": reference + series(0.06, 0.02, 0.10, 0.05, 0.07)}
    assert stats.compare(values, "reference")[0].word == "higher"
    (among,) = stats.compare(values, "reference", planned=100)
    assert among.word == "same"
    assert "is the same within ±0.5 points" in verdicts.on_comparison("accuracy", among)


def test_a_comparison_may_be_read_from_either_side():
    c = study(far=series(85.1, 85.2, 84.9, 85.3, 85.0))["far"]
    back = c.turned
    assert (back.level, back.reference, back.word) == ("reference", "far", "lower")
    assert back.difference == stats.paired_difference(series(80.0, 80.4, 79.8, 80.1, 80.2),
                                                      series(85.1, 85.2, 84.9, 85.3, 85.0))
    assert (back.p_holm, back.effect_size) == (c.p_holm, -c.effect_size)
    assert back.turned == c


def test_one_seed_a_diverged_seed_and_ties():
    found = study(single=series(85.0), lost=pd.Series([82.0, math.nan, 82.1], index=[0, 1, 2]),
                  tie=series(80.0, 80.4, 79.8, 80.1, 80.2), shift=series(81.0, 81.4, 80.8, 81.1, 81.2))
    assert found["single"].word == "one seed"
    assert math.isnan(found["single"].p_holm)
    assert found["lost"].difference.n == 2
    assert found["tie"].word == "same"
    assert (found["tie"].p, found["tie"].p_same) == (1, 0)
    # Five times exactly +1: a tie, which no test can call certain.
    assert found["shift"].word == "unclear"
    assert texts.signed(found["shift"].difference) == "+1.00"
    assert "+1.00 points (the same with every seed, n = 5" in verdicts.on_comparison("accuracy", found["shift"])
    with pytest.raises(KeyError):
        stats.compare({"a": series(1, 2)}, "b")


def test_the_detectable_difference_is_where_the_correction_begins_to_hold():
    bound = stats.detectable(seeds=5, planned=7)
    scatter = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    base = pd.Series(80.0, index=range(5))
    for factor, word in ((1.02, "higher"), (0.98, "suggestive")):
        values = {"a": base + scatter + factor * bound * scatter.std(ddof=1), "b": base}
        assert stats.compare(values, "b", same_within=0.0, planned=7)[0].word == word
    assert stats.detectable(3, 7) > stats.detectable(5, 7) > stats.detectable(5, 4)


def test_an_effect_size_needs_three_pairs_and_is_less_its_bias():
    def effect(*differences):
        base = series(*[0.0] * len(differences))
        return stats.compare({"a": series(*differences), "b": base}, "b")[0].effect_size

    assert math.isnan(effect(0.0, 1.0))
    # Hedges 1981, table 2: the factors for 2 and 4 degrees of freedom.
    assert effect(1.0, 2.0, 3.0) == pytest.approx(0.5642 * 2.0, rel=1e-4)
    assert effect(1.0, 2.0, 3.0, 4.0, 5.0) == pytest.approx(0.7979 * 3.0 / np.std([1, 2, 3, 4, 5], ddof=1), rel=1e-4)


def test_the_interval_and_the_equivalence_test_agree():
    generator = np.random.default_rng(2)
    base = series(*generator.normal(80, 0.3, 5))
    others = {str(n): base + generator.normal(generator.uniform(-0.6, 0.6), 0.25, 5) for n in range(200)}
    found = stats.compare({"base": base} | others, "base", same_within=0.5, planned=1000)
    for c in found:
        # Two one-sided tests at 2.5 % are the 95 % interval.
        assert (c.word == "same") == (c.p_same < 0.025), c
    # Nothing survives that correction.
    assert {c.word for c in found} == {"same", "unclear", "suggestive"}


def test_p_values_are_written_as_readers_expect():
    assert [texts.p_text(p) for p in (math.nan, 0.0004, 0.0312, 1.0)] == ["–", "< 0.001", "0.031", "1.000"]


@pytest.mark.parametrize(("values", "supporting", "said"), [
    ([1.0, 1.1, 0.9], "higher", "Supported"),
    ([-1.0, -1.1, -0.9], "higher", "Contradicted"),
    ([0.1, 0.0, 0.05], "higher", "Negligible"),
    ([0.1, 0.0, 0.05], "same", "Supported"),
    ([1.0, 1.1, 0.9], "same", "Contradicted"),
    ([3.0, -2.0, 0.5], "same", "Undecided"),
    ([0.3, 0.6, 0.9], "same", "Undecided"),   # partly within the margin
    ([0.3, 0.6, 0.9], "lower", "Undecided"),
    ([3.0, 3.1, 2.9], "lower", "Contradicted"),
    ([1.0, 1.0], "higher", "Undecided"),   # a tie
    ([1.0, 1.0], "same", "Undecided"),
    ([0.1, 0.1, 0.1], "higher", "Negligible"),
    ([0.1, 0.1], "higher", "Undecided"),   # that two are the same takes three pairs
    ([0.01, -0.01], "same", "Undecided"),
    ([0.01, -0.01, 0.0], "same", "Supported"),
    ([1.0], "higher", "Undecided"),
    ([0.25, 0.20, 0.30], "same", "Supported"),   # real, and hardly a change
    ([0.25, 0.20, 0.30], "higher", "Supported"),
])
def test_a_claim_is_supported_contradicted_or_undecided(values, supporting, said):
    difference = stats.paired_difference(series(*values), series(*[0.0] * len(values)))
    assert stats.on_claim(difference, supporting, same_within=0.5) == said


def test_runs_that_share_no_seeds_are_compared_by_welchs_interval():
    a, b = pd.Series([1.0, 2.0, 3.0, math.nan]), pd.Series([1.0, 1.5])
    found = stats.unpaired_difference(a, b)
    # By hand: variances 1 / 3 and 0.125 / 2, their sum's root 0.6292, 2.635 degrees of freedom, t 3.447.
    assert (found.mean, found.n) == (pytest.approx(0.75), 3)
    assert found.half_width == pytest.approx(0.6292 * 3.447, rel=1e-3)
    assert math.isnan(stats.unpaired_difference(a, b[:1]).low)


def test_intervals_and_ps_are_those_of_scipy_and_statsmodels():
    from statsmodels.stats.weightstats import ttost_paired

    generator = np.random.default_rng(0)
    values = {level: pd.Series(generator.normal(mean, 1, 7)) for level, mean in (("a", 0), ("b", 0.3), ("c", 2))}
    found = stats.compare(values, "a", same_within=0.5)
    ps = [scipy_stats.ttest_rel(values[c.level], values["a"]).pvalue for c in found]
    assert [c.p for c in found] == pytest.approx(ps, rel=1e-9)
    assert [c.p_holm for c in found] == pytest.approx(multipletests(ps, method="holm")[1], rel=1e-9)
    for comparison in found:
        same = ttost_paired(values[comparison.level], values["a"], -0.5, 0.5)[0]
        assert comparison.p_same == pytest.approx(same, rel=1e-9)
        ends = scipy_stats.ttest_rel(values[comparison.level], values["a"]).confidence_interval()
        assert (comparison.difference.low, comparison.difference.high) == pytest.approx(tuple(ends), rel=1e-9)
    many = [*generator.uniform(0, 0.2, 20), 1.0, 0.01, 0.01]
    assert stats.holm(many) == pytest.approx(multipletests(many, method="holm")[1], rel=1e-12)
    a, b = values["a"], values["b"][:5]
    welch = scipy_stats.ttest_ind(a, b, equal_var=False)
    ends = welch.confidence_interval()
    unpaired = stats.unpaired_difference(a, b)
    assert (unpaired.low, unpaired.high) == pytest.approx(tuple(ends), rel=1e-9)
    assert stats.differ(stats.mean_interval(a), stats.mean_interval(b)) == (welch.pvalue < 0.05)
    assert stats.differ(stats.mean_interval(a), stats.mean_interval(values["c"]))


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
