"""Statistics and the sentences they allow, on constructed data."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest
from cifarlab import stats


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


@pytest.mark.parametrize(("a", "b", "expected"), [
    (series(90, 91, 92), series(80, 81.5, 82), "higher"),
    (series(80, 81.5, 82), series(90, 91, 92), "lower"),
    (series(80, 90, 70), series(79, 92, 71), "unclear"),
    (series(80, 80.1, 80.2, 80.0), series(80.05, 80.05, 80.25, 79.95), "same"),
    (series(80), series(70), "one seed"),
    (series(80), pd.Series([70.0], index=[9]), "none"),
    (series(80, 81, 82), series(80, 81, 82), "same"),
])
def test_verdicts_on_constructed_data(a, b, expected):
    difference = stats.paired_difference(a, b)
    assert stats.direction(difference, same_within=0.5) == expected
    sentence = stats.verdict("accuracy", "A", "B", difference, "points", 0.5)
    marks = {"higher": "is higher than", "lower": "is lower than", "unclear": "nor are they shown to be the same",
             "none": "no pair of finished runs", "same": "the same within ±0.5 points", "one seed": "no interval"}
    assert marks[expected] in sentence
    for word, mark in marks.items():
        assert word == expected or mark not in sentence


def test_a_verdict_never_says_more_than_its_interval():
    generator = np.random.default_rng(1)
    said = set()
    for spread in (0.05, 0.4):
        for centre in (-0.3, 0.0, 0.3):
            for _ in range(50):
                difference = stats.mean_interval(generator.normal(centre, spread, size=4))
                sentence = stats.verdict("accuracy", "A", "B", difference, "points", 0.5)
                low, high = map(float, re.search(r"interval ([+-][\d.]+) to ([+-][\d.]+)", sentence).groups())
                for words, allowed in (
                    ("*A* is higher than that of *B*", low >= 0), ("*A* is lower than that of *B*", high <= 0),
                    ("the same within ±0.5 points", -0.5 <= low <= 0 <= high <= 0.5),
                    ("No difference between *A* and *B*", low <= 0 <= high),
                ):
                    if words in sentence:
                        said.add(words)
                        assert allowed, sentence
    assert len(said) == 4


HISTORY = pd.DataFrame({
    "seed": [0, 0, 0, 1, 1, 1], "epoch": [1, 2, 3] * 2,
    "val_accuracy": [0.5, 0.8, 0.7, 0.1, 0.2, 0.3], "val_loss": [1.0, 0.5, 0.8, 2.0, 1.5, 1.0],
})


def test_epochs_to_reach_is_nan_where_it_never_is():
    reached = stats.epochs_to_reach(HISTORY, "val_accuracy", 0.75)
    assert reached[0] == 2
    assert math.isnan(reached[1])


def test_the_time_to_reach_a_target_lies_on_the_line_between_epochs():
    reached = stats.time_to_reach(HISTORY, "val_accuracy", 0.75, start=0.1)
    assert reached[0] == pytest.approx(1 + 0.25 / 0.3)
    assert math.isnan(reached[1])
    # Within the first epoch, from where guessing stands; later falls do not matter.
    assert stats.time_to_reach(HISTORY, "val_accuracy", 0.3, start=0.1)[0] == pytest.approx(0.5)
    assert stats.time_to_reach(HISTORY, "val_accuracy", 0.05, start=0.1).tolist() == [0, 0]


def curve(*values: float) -> pd.DataFrame:
    return pd.DataFrame({"seed": 0, "epoch": range(len(values)), "val_loss": values})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 1.2] * 3, 0.2),  # a zigzag scores its height
        ([0.5, 0.6, 0.7, 0.8], 0.0),  # steady overfitting is no oscillation
        ([2.0, 1.0, 0.7, 0.6, 0.59], 0.0),  # nor is a curve that is merely bent
        ([1.0, 0.8, 0.9, 0.95], 0.05),  # one valley: the smaller of its two steps, over two inner epochs
        ([1.0, 0.9, 0.9, 1.0], 0.0),
    ],
)
def test_oscillation_counts_only_turns(values, expected):
    assert stats.oscillation(curve(*values))[0] == pytest.approx(expected)


def test_oscillation_is_by_seed_and_needs_three_epochs():
    assert stats.oscillation(HISTORY).tolist() == pytest.approx([0.3, 0.0])
    assert math.isnan(stats.oscillation(curve(1.0, 0.5))[0])
    assert math.isnan(stats.oscillation(curve(1.0, math.nan, 0.5, 0.7))[0])


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
    assert "is higher than that of *reference* by 5." in stats.comparison_verdict("accuracy", found["far"])


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
    sentence = stats.comparison_verdict("accuracy", among)
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
    assert "is the same within ±0.5 points" in stats.comparison_verdict("accuracy", among)


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


def test_an_interval_shows_on_which_side_of_zero_it_ends():
    sentence = stats.verdict("accuracy", "a", "b", stats.Estimate(3.42, -0.0017, 6.84, 2), "points")
    assert "(95 % interval -0.002 to +6.84 points, n = 2)" in sentence
    assert "+0.00 to" in stats.verdict("accuracy", "a", "b", stats.Estimate(1.0, 0.0, 2.0, 3), "points")


def test_an_effect_size_needs_three_pairs_and_is_less_its_bias():
    def effect(*differences):
        base = series(*[0.0] * len(differences))
        return stats.compare({"a": series(*differences), "b": base}, "b")[0].effect_size

    assert math.isnan(effect(0.0, 1.0))
    # Hedges 1981, table 2: the factors for 2 and 4 degrees of freedom.
    assert effect(1.0, 2.0, 3.0) == pytest.approx(0.5642 * 2.0, rel=1e-4)
    assert effect(1.0, 2.0, 3.0, 4.0, 5.0) == pytest.approx(0.7979 * 3.0 / np.std([1, 2, 3, 4, 5], ddof=1), rel=1e-4)


def test_runs_that_diverged_are_named_in_the_sentence():
    reference = series(80.0, 80.4, 79.8, 80.1, 80.2)
    values = {
        "reference": reference, "some": reference + series(-5.0, -5.1, math.nan, math.nan, -4.9),
        "most": reference + series(1.0, *[math.nan] * 4), "all": series(*[math.nan] * 5),
    }
    found = {c.level: c for c in stats.compare(values, "reference")}
    assert [(c.word, c.lost, c.difference.n) for c in found.values()] == [
        ("lower", 2, 3), ("one seed", 4, 1), ("diverged", 5, 0)]
    said = {level: stats.comparison_verdict("accuracy", c) for level, c in found.items()}
    assert "n = 3, effect size" in said["some"]
    assert said["some"].endswith("; in 2 more pairs a run diverged).")
    assert said["most"] == (
        "One pair of runs, so no interval: the accuracy of *most* is 1.00 points above that of *reference*; "
        "in 4 more pairs a run diverged.")
    assert said["all"] == "No pair of runs of *all* and *reference* is left to compare: in the 5 pairs a run diverged."


def test_the_interval_and_the_equivalence_test_agree():
    generator = np.random.default_rng(2)
    seen = set()
    for _ in range(200):
        base = series(*generator.normal(80, 0.3, 5))
        values = {"a": base + generator.normal(generator.uniform(-0.6, 0.6), 0.25, 5), "b": base}
        (c,) = stats.compare(values, "b", same_within=0.5, planned=1000)  # nothing survives that correction
        seen.add(c.word)
        # Two one-sided tests at 2.5 % are the 95 % interval.
        assert (c.word == "same") == (c.p_same < 0.025), c
    assert seen == {"same", "unclear", "suggestive"}


def test_p_values_are_written_as_readers_expect():
    assert [stats.p_text(p) for p in (math.nan, 0.0004, 0.0312, 1.0)] == ["–", "< 0.001", "0.031", "1.000"]


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
    ([0.1, 0.1], "higher", "Negligible"),
    ([1.0], "higher", "Undecided"),
    ([0.25, 0.20, 0.30], "same", "Supported"),   # real, and hardly a change
    ([0.25, 0.20, 0.30], "higher", "Supported"),
])
def test_a_claim_is_supported_contradicted_or_undecided(values, supporting, said):
    difference = stats.paired_difference(series(*values), series(*[0.0] * len(values)))
    assert stats.on_claim(difference, supporting, same_within=0.5) == said


@pytest.mark.parametrize(("first", "second", "said"), [
    ([5.0, 5.1, 4.9], [4.8, 5.2, 4.9], "it carried over"),
    ([5.0, 5.1, 4.9], [4.0, 4.2, 3.9], "it carried over, but not its size"),
    ([5.0, 5.1, 4.9], [-4.0, -4.2, -3.9], "it turned round"),
    ([5.0, 5.1, 4.9], [0.01, -0.02, 0.01], "it did not carry over"),
    ([0.0, 0.01, -0.01], [0.01, -0.02, 0.01], "it carried over"),
    ([5.0, 5.1, 4.9], [9.0, -9.0, 0.5], "whether it carried over is not decided"),
    ([5.0, 5.1, 4.9], [4.0], "whether it carried over is not decided"),
    # One excludes 0 and the other does not, but they agree: +0.36 and +0.2.
    ([0.36, 0.40, 0.32, 0.38], [0.2, 0.3, 0.1], "whether it carried over is not decided"),
    ([9.0, -9.0, 0.5], [4.0, 4.2, 3.9], "the first draws no conclusion that could carry over"),
])
def test_a_conclusion_carries_over_only_where_both_sides_draw_it(first, second, said):
    def compared(differences):
        base = pd.Series(80.0, index=range(len(differences)))
        return stats.compare({"level": base + differences, "reference": base}, "reference")[0]

    assert stats.carried_over(compared(first), compared(second)) == said


@pytest.mark.parametrize(("values", "said"), [
    ([88.0, 88.2, 88.1], "whole interval are above the original's 87.64 %"),
    ([87.0, 87.1, 87.2], "whole interval are below the original's 87.64 %"),
    ([87.0, 88.5, 87.5], "contains the original's 87.64 %"),
    ([88.0, 88.0], "All 2 values are 88.00 %, the original's 87.64 %; a tie has no interval."),
    ([88.0], "One seed: 88.00 %, beside the original's 87.64 %; one seed has no interval."),
])
def test_a_mean_beside_a_fixed_figure(values, said):
    assert said in stats.against(stats.mean_interval(values), 87.64, "the original's")


@pytest.mark.parametrize(("values", "said"), [
    ([88.0, 88.2, 88.1], "The mean, 88.10 ± 0.25 % (n = 3), and its whole interval are above the original's 87.64 % "
                         "and below the goal of 90.00 %."),
    ([87.0, 88.5, 87.5], "are below the goal of 90.00 %. The interval of the mean, 87.67 ± 1.90 % (n = 3), contains "
                         "the original's 87.64 %: neither above nor below is shown."),
    ([88.0], "One seed: 88.00 %, beside the original's 87.64 % and the goal of 90.00 %; one seed has no interval."),
])
def test_a_mean_beside_two_fixed_figures(values, said):
    assert said in stats.against_each(stats.mean_interval(values), {"the original's": 87.64, "the goal of": 90.0})
