"""The sentences with which captions open say what the numbers say, and no more when there are few."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
from labbook.page import captions
from labbook.page.study_figures import pareto_front
from labbook.studies import stats
from labbook.studies.results import ensure

RUNS = pd.DataFrame(
    [
        ("batch / 0.01", "batch", "0.01", 0.84, False),
        ("batch / 0.01", "batch", "0.01", 0.86, False),
        ("batch / 0.1", "batch", "0.1", 0.80, False),
        ("none / 0.01", "none", "0.01", 0.10, False),
        ("none / 0.1", "none", "0.1", 0.99, True),
    ],
    columns=["level", "main", "setting", "val_accuracy", "diverged"],
)


def series(*values):
    return pd.Series(values, dtype=float)


def test_the_extremes_are_those_of_the_means():
    values = {"a": series(80, 90), "b": series(84), "c": series(), "d": series(70, 99)}
    assert captions.extremes(values, "validation accuracy", "%") == (
        "The mean validation accuracy is highest with *a* (85.0 %; not told apart from *d*) and lowest with *b* "
        "(84.0 %; not told apart from *d*, by one pair of runs)."
    )


def test_an_end_is_told_apart_from_the_next_by_pairs_of_seeds():
    ahead = {"a": series(80, 90), "b": series(79, 89.01), "c": series(1, 2)}
    assert captions.extremes(ahead, "accuracy", "%") == (
        "The mean accuracy is highest with *a* (85.0 %) and lowest with *c* (1.5 %; not told apart from *b*).")
    # Ahead by seeds that the next does not have: on those that both have it is behind.
    other = {"a": series(80, 80.1, 80.2, 95, 95), "b": series(81, 81.1, 81.15), "c": series(1)}
    assert "highest with *a* (86.1 %; not told apart from *b*)" in captions.extremes(other, "accuracy", "%")
    assert captions.extremes(ahead, "loss", "", highest_first=False) == (
        "The mean loss is lowest with *c* (1.5; not told apart from *b*) and highest with *a* (85.0).")
    # Three levels to pick from: what two would tell apart is not enough.
    picked = {"a": series(80, 80.1, 80.5), "b": series(79, 79.3, 80)}
    assert captions.extremes(picked, "accuracy", "%") == (
        "The mean accuracy is highest with *a* (80.2 %) and lowest with *b* (79.4 %).")
    assert "*a* (80.2 %; not told apart from *b*)" in captions.extremes(picked | {"c": series(1, 1)}, "accuracy", "%")


def test_two_levels_are_told_apart_or_not_once():
    one = {"a": series(80), "b": series(79)}
    assert captions.extremes(one, "accuracy", "%") == (
        "The mean accuracy is highest with *a* (80.0 %) and lowest with *b* (79.0 %); the two are not told apart, by "
        "one pair of runs.")


def test_one_level_or_a_tie_has_no_highest():
    assert captions.extremes({"a": series(1)}, "distance", "", 2) == "The mean distance of *a* is 1.00."
    tie = captions.extremes({"a": series(1), "b": series(1)}, "gap", "nats", 2)
    assert tie == "The mean gap of *a*, *b* is 1.00 nats."
    assert captions.extremes({"a": series()}, "gap", "nats") == captions.NOTHING
    assert captions.extremes({"a": series(math.nan)}, "gap", "nats") == captions.NOTHING


def test_means_that_are_alike_as_they_are_said_have_no_highest():
    close = {"a": series(0.451), "b": series(0.452)}
    assert captions.extremes(close, "gap", "nats", 2) == "The mean gap of *a*, *b* is 0.45 nats."
    lowest_first = captions.extremes(close, "distance", "", 3, highest_first=False)
    assert lowest_first == (
        "The mean distance is lowest with *a* (0.451) and highest with *b* (0.452); the two are not told apart, by one "
        "pair of runs.")


def test_the_best_of_each_line_and_of_each_setting():
    """A run that diverged is never the best, whatever it reached before."""
    assert captions.best_of_each(RUNS, "main") == (
        "Highest mean accuracy of each: *batch / 0.01* (85.0 %); *none / 0.01* (10.0 %)."
    )
    assert captions.best_of_each(RUNS, "setting") == (
        "Highest mean accuracy of each: *batch / 0.01* (85.0 %); *batch / 0.1* (80.0 %)."
    )
    wide = RUNS.assign(val_accuracy=[0.1, 0.1, 0.2, 0.3, 0.4], diverged=False)
    assert captions.best_of_each(wide, "main") == (
        "The mean accuracy is highest with *0.1* throughout: 20.0 % (*batch*), 40.0 % (*none*).")
    assert captions.best_of_each(wide, "setting") == (
        "The mean accuracy is highest with *none* throughout: 30.0 % (*0.01*), 40.0 % (*0.1*).")
    assert captions.best_of_each(RUNS[:0], "main") == captions.NOTHING


def test_what_no_other_beats_is_named_cheapest_first():
    values = {"large": 0.9, "small": 0.7, "worse": 0.6, "equal cost": 0.8}
    costs = pd.Series({"large": 9.0, "small": 1.0, "worse": 2.0, "equal cost": 9.0})
    assert [level for _, _, level in pareto_front(values, costs)] == ["small", "large"]
    unknown = costs.mask(costs == 9.0, math.nan)
    assert [level for _, _, level in pareto_front(values, unknown)] == ["small"]


def test_a_studys_sentences_are_drawn_from_its_results():
    results = ensure("decay", train=False)
    best = max(results.levels, key=lambda level: results.values("val_accuracy", level).mean())
    assert f"highest with *{best}*" in captions.of_levels(results)
    costs = pd.DataFrame({"seconds": 1.0, "macs": 2.0, "unknown": math.nan}, index=results.levels)
    words = {"seconds": "time", "macs": "arithmetic", "unknown": "money"}
    assert captions.unbeaten(results, costs, words) == (
        f"More accurate in the mean than all that cost less: by time: *{best}* alone; by arithmetic: *{best}* alone.")


def test_a_caption_tells_levels_apart_as_the_studys_verdicts_do():
    values = {"a": series(80, 80.1, 80.5), "b": series(79, 79.3, 80), "c": series(1, 1)}
    planned = stats.compare_pairs(values, [("b", "a")])
    assert "*a* (80.2 %; not told apart from *b*)" in captions.extremes(values, "accuracy", "%")
    assert "*a* (80.2 %) and" in captions.extremes(values, "accuracy", "%", known=planned)


def test_a_caption_counts_the_conclusions_that_hold_in_both():
    values = {"none": series(1, 2, 3), "a": series(4, 5.1, 6), "b": series(1, 3, 2)}
    first = stats.compare_pairs(values, [("a", "none"), ("b", "none")])
    said = captions.repeated([("narrow", first), ("wide", first)])
    assert said == "Of what is shown narrow to be higher, lower or the same, 1 of 1 is shown wide too."
    assert captions.repeated([("narrow", first[1:]), ("wide", first[1:])]) == captions.NOTHING
    one_seed = stats.compare_pairs({"none": series(1), "a": series(4), "b": series(1)}, [("a", "none"), ("b", "none")])
    assert captions.repeated([("narrow", first), ("wide", one_seed)]) == (
        "Nothing can be said wide yet: one pair of runs shows no difference.")
    loose = [replace(first[0], p_holm=0.06)]
    assert captions.repeated([("narrow", first[:1]), ("wide", loose)]) == (
        "Of what is shown narrow to be higher, lower or the same, 0 of 1 are shown wide too; 1 more on the same side, "
        "before correction only.")
    twice = captions.repeated([("narrow", [first[0], first[0]]), ("wide", [first[0], one_seed[0]])])
    assert twice.endswith("1 of 1 is shown wide too; of 1 more there are too few runs yet.")


def test_the_span_of_the_gradients_is_over_layers_of_means_over_seeds():
    rows = [("a", 0, 0, "first", 1.0), ("a", 1, 0, "first", 3.0), ("a", 0, 0, "last", 8.0), ("a", 0, 30, "last", 99.0),
            ("a", 0, 0, "classifier", 999.0)]
    gradients = pd.DataFrame(rows, columns=["level", "seed", "step", "layer", "norm"])
    assert captions.gradient_spans(gradients, ["a", "b"], 0) == (
        "At step 0 the convolutions' largest norm over their smallest is 4.0 with *a*."
    )
    factors = {"first": 0.01, "last": 10, "classifier": 1}
    far = gradients.assign(norm=gradients["norm"] * gradients["layer"].map(factors))
    assert captions.gradient_spans(far, ["a"], 0).endswith("over their smallest is 4,000 with *a*.")
    assert captions.gradient_spans(gradients, ["a"], 7) == captions.NOTHING
    both = captions.gradient_spans(gradients, ["a"], 0, 7, 30)
    assert both.startswith("At step 0 ")
    assert both.endswith(" At step 30 the convolutions' largest norm over their smallest is 1.0 with *a*.")
