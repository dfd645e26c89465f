"""The sentences that comparisons allow, on constructed data."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest
from labbook.page import verdicts
from labbook.studies import stats


def series(*values: float) -> pd.Series:
    return pd.Series(values, index=range(len(values)))


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
    sentence = verdicts.on_difference("accuracy", "A", "B", difference, "points", 0.5)
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
                sentence = verdicts.on_difference("accuracy", "A", "B", difference, "points", 0.5)
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


def test_an_interval_shows_on_which_side_of_zero_it_ends():
    sentence = verdicts.on_difference("accuracy", "a", "b", stats.Estimate(3.42, -0.0017, 6.84, 2), "points")
    assert "(95 % interval -0.002 to +6.84 points, n = 2)" in sentence
    assert "+0.00 to" in verdicts.on_difference("accuracy", "a", "b", stats.Estimate(1.0, 0.0, 2.0, 3), "points")


def test_runs_that_diverged_are_named_in_the_sentence():
    reference = series(80.0, 80.4, 79.8, 80.1, 80.2)
    values = {
        "reference": reference, "some": reference + series(-5.0, -5.1, math.nan, math.nan, -4.9),
        "most": reference + series(1.0, *[math.nan] * 4), "all": series(*[math.nan] * 5),
    }
    found = {c.level: c for c in stats.compare(values, "reference")}
    assert [(c.word, c.lost, c.difference.n) for c in found.values()] == [
        ("lower", 2, 3), ("one seed", 4, 1), ("diverged", 5, 0)]
    said = {level: verdicts.on_comparison("accuracy", c) for level, c in found.items()}
    assert "n = 3, effect size" in said["some"]
    assert said["some"].endswith("; in 2 more pairs a run diverged).")
    assert said["most"] == (
        "One pair of runs, so no interval: the accuracy of *most* is 1.00 points above that of *reference*; "
        "in 4 more pairs a run diverged.")
    assert said["all"] == "No pair of runs of *all* and *reference* is left to compare: in the 5 pairs a run diverged."


def test_many_verdicts_are_summed_up_in_one_sentence():
    def comparison(level, mean, half, n=5, p=0.001, reference="none"):
        difference = stats.Estimate(mean, mean - half, mean + half, n)
        return stats.Comparison(level, reference, difference, p, p, 0.5, 0.5, math.nan)

    several = [
        comparison("a", 2.0, 0.5), comparison("b", -3.0, 0.5), comparison("c", 0.1, 0.2), comparison("d", 1.0, 3.0),
        comparison("e", 1.0, 0.5, p=0.2), comparison("f", 1.0, math.nan, n=1),
    ]
    assert verdicts.in_short(several) == (
        "Final validation accuracy, against *none* (n = 5): higher with *a* (+2.00 points); lower with *b* (-3.00 "
        "points); the same within ±0.5 points with *c*; no difference found with *d*; a difference only before "
        "correction with *e*; no verdict yet (one pair of runs) with *f*.")
    assert verdicts.in_short(several[1:3], "gap") == (
        "Gap, against *none* (n = 5): no level is shown to be higher; lower with *b* (-3.00 points); the same within "
        "±0.5 points with *c*.")
    assert verdicts.in_short([several[1], comparison("g", -0.5, 0.1, n=3)], "gap", "nats", digits=1) == (
        "Gap, against *none* (n = 3 to 5): lower with *b* (-3.0), *g* (-0.5 nats).")
    assert "(n = 5): no level is shown to be higher or lower; the same" in verdicts.in_short(several[2:4])
    assert verdicts.in_short(several[3:4]) == (
        "Final validation accuracy, against *none* (n = 5): no difference found with *d*.")
    # Nothing is said of what could not be tested.
    assert verdicts.in_short(several[-1:]) == (
        "Final validation accuracy, against *none*: no verdict yet (one pair of runs) with *f*.")
    others = [comparison("a", 2.0, 0.5), comparison("b", 2.0, 0.5, reference="a")]
    assert verdicts.in_short(others) == (
        "Final validation accuracy (n = 5): higher with *a* (against *none*; +2.00), *b* (against *a*; +2.00 points).")
    most = [*several[:2], others[1]]
    assert verdicts.in_short(most) == (
        "Final validation accuracy, against *none* (n = 5): higher with *a* (+2.00 points); lower with *b* (-3.00 "
        "points). Against *a* (n = 5): higher with *b* (+2.00 points).")
    many = [comparison(name, mean, 0.5) for name, mean in zip("abgh", (-2.0, -9.0, -0.6, -4.0), strict=True)]
    assert verdicts.in_short(many, "gap") == (
        "Gap, against *none* (n = 5): lower with all 4 others (-0.60 to -9.00 points).")
    assert verdicts.in_short([*many, several[3]], "gap") == (
        "Gap, against *none* (n = 5): no level is shown to be higher; lower with 4 of the 5 others (-0.60 to -9.00 "
        "points); no difference found with *d*.")
    more = [comparison(name, -2.0, 0.5) for name in "efghijkl"]
    assert "lower with 8 of the 10 others (-2.00 points);" in verdicts.in_short([*more, several[0], several[3]])
    assert "lower with *e* (-2.00), *f*" in verdicts.in_short([*more[:7], several[0], several[3]])
    # Names that have commas themselves are counted sooner.
    batches = [comparison(f"500, rate {rate}", -2.0, 0.5) for rate in (1, 2, 3)]
    assert "lower with 3 of the 5 others (-2.00 points);" in verdicts.in_short([*batches, several[0], several[3]])
    assert "lower with *500, rate 1* (-2.00) and *500, rate 2*" in verdicts.in_short([*batches[:2], *several[2:]])
    remarks = [comparison("a (width 9)", 2.0, 0.5, reference="b (width 4)")]
    assert verdicts.in_short(remarks).endswith(", against *b* (n = 5): higher with *a* (+2.00 points).")
    assert "*b (width 4)* (n = 5): higher with *b (width 9)* (" in verdicts.in_short(
        [comparison("b (width 9)", 2.0, 0.5, reference="b (width 4)")])
    assert verdicts.in_short([]) == verdicts.NOTHING
    listed = verdicts.on_each(several)
    assert listed.startswith(verdicts.in_short(several))
    assert ":::{dropdown}" in listed
    assert all(verdicts.on_comparison("final validation accuracy", c) in listed for c in several)
    assert "dropdown" not in verdicts.on_each(several[:2])


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

    assert verdicts.carried_over(compared(first), compared(second)) == said


@pytest.mark.parametrize(("values", "said"), [
    ([88.0, 88.2, 88.1], "whole interval are above the original's 87.64 %"),
    ([87.0, 87.1, 87.2], "whole interval are below the original's 87.64 %"),
    ([87.0, 88.5, 87.5], "contains the original's 87.64 %"),
    ([88.0, 88.0], "All 2 values are 88.00 %, the original's 87.64 %; a tie has no interval."),
    ([88.0], "One seed: 88.00 %, beside the original's 87.64 %; one seed has no interval."),
])
def test_a_mean_beside_a_fixed_figure(values, said):
    assert said in verdicts.against(stats.mean_interval(values), 87.64, "the original's")


@pytest.mark.parametrize(("values", "said"), [
    ([88.0, 88.2, 88.1], "The mean, 88.10 ± 0.25 % (n = 3), and its whole interval are above the original's 87.64 % "
                         "and below the goal of 90.00 %."),
    ([87.0, 88.5, 87.5], "are below the goal of 90.00 %. The interval of the mean, 87.67 ± 1.90 % (n = 3), contains "
                         "the original's 87.64 %: neither above nor below is shown."),
    ([88.0], "One seed: 88.00 %, beside the original's 87.64 % and the goal of 90.00 %; one seed has no interval."),
])
def test_a_mean_beside_two_fixed_figures(values, said):
    assert said in verdicts.against_each(stats.mean_interval(values), {"the original's": 87.64, "the goal of": 90.0})


def test_a_chapters_first_answers_come_first_and_the_others_are_folded():
    folded = "- A.\n\n:::{dropdown} What else was asked\n- B.\n:::"
    assert verdicts.answers(["A.", verdicts.NOTHING], ["B.", verdicts.NOTHING]) == folded
    assert verdicts.answers(["A."], [verdicts.NOTHING]) == "- A."
    assert verdicts.answers([], []) == verdicts.NOTHING


@pytest.mark.parametrize(("values", "said"), [
    ((91.1, 91.2, 91.3), "above"), ((89.1, 89.2, 89.3), "below"), ((89.9, 90.0, 90.2), "not told apart from"),
    ((95.0,), "not told apart from"),
])
def test_where_an_interval_lies_beside_a_fixed_figure(values, said):
    assert verdicts.place(stats.mean_interval(values), 90.0) == said
