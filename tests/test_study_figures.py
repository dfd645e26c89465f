"""The figures of the studies: what they draw of constructed runs, read back from their axes."""

from __future__ import annotations

import pandas as pd
import pytest
from labbook.page import study_figures
from labbook.studies import stats
from matplotlib.patches import Rectangle


def runs(*rows: tuple) -> pd.DataFrame:
    """(main, setting, seed, accuracy); an accuracy of None: the run diverged."""
    return pd.DataFrame([
        {"level": f"{main} / {setting}", "main": main, "setting": setting, "seed": seed,
         "val_accuracy": accuracy, "diverged": accuracy is None}
        for main, setting, seed, accuracy in rows
    ])


def line(axis, label: str):
    (found,) = [one for one in axis.lines if one.get_label() == label]
    return found


def crosses(axis) -> int:
    return sum(len(one.get_xdata()) for one in axis.lines if one.get_marker() == "x")


def test_a_sweep_joins_means_in_the_settings_order_and_marks_what_diverged():
    found = runs(("a", "high", 0, 0.5), ("a", "low", 0, 0.2), ("a", "low", 1, 0.3), ("a", "low", 2, 0.4),
                 ("b", "low", 0, 0.1), ("b", "high", 0, None))
    (axis,) = study_figures.sweep(found, ["low", "high"], "rate").axes
    assert [text.get_text() for text in axis.get_xticklabels()] == ["low", "high"]
    assert line(axis, "a").get_ydata() == pytest.approx([30, 50])
    assert line(axis, "b").get_ydata() == pytest.approx([10])
    assert crosses(axis) == 1
    # An interval from three seeds on: one of the three means has it.
    (interval,) = axis.collections
    estimate = stats.mean_interval([20, 30, 40])
    assert sorted(interval.get_segments()[0][:, 1]) == pytest.approx([estimate.low, estimate.high])


def test_the_front_holds_what_no_other_level_beats_in_both():
    costs = pd.Series({"cheap": 1.0, "worse": 2.0, "dear": 3.0, "unknown": float("nan"), "cheap too": 1.0})
    values = {"cheap": 80.0, "worse": 79.0, "dear": 90.0, "unknown": 99.0, "cheap too": 70.0}
    assert study_figures.pareto_front(values, costs) == [(1.0, 80.0, "cheap"), (3.0, 90.0, "dear")]


def test_cost_against_accuracy_has_a_mark_a_level_and_no_panel_without_costs():
    found = runs(("a", "", 0, 0.5), ("a", "", 1, 0.7), ("b", "", 0, 0.4))
    costs = pd.DataFrame({"macs": {"a / ": 2.0, "b / ": 1.0}, "seconds": {"a / ": None, "b / ": None}}, dtype=float)
    (axis,) = study_figures.pareto(found, costs, ["a / ", "b / "], {"macs": "MACs", "seconds": "seconds"}).axes
    mark = line(axis, "a / ")
    assert (mark.get_xdata(), mark.get_ydata()) == ([2.0], pytest.approx([60]))


def test_gradients_run_from_the_first_layer_to_the_last_whatever_the_depth():
    rows = [{"level": level, "seed": seed, "step": 0, "layer": str(layer), "norm": (layer + 1.0) * (seed + 1)}
            for level, depth in (("short", 2), ("long", 5)) for seed in (0, 1) for layer in range(depth)]
    (axis,) = study_figures.gradients_by_layer(pd.DataFrame(rows), ["short", "long"], (0,)).axes
    assert list(line(axis, "short").get_xdata()) == [0, 1]
    assert line(axis, "long").get_xdata() == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert line(axis, "short").get_ydata() == pytest.approx([1.5, 3])   # the mean over seeds


def test_a_gap_goes_from_the_mean_training_loss_to_the_mean_validation_loss():
    found = pd.DataFrame({"level": ["a", "a", "a"], "diverged": [False, False, True],
                          "fit_loss": [0.1, 0.3, 9.0], "val_loss": [0.5, 0.7, 9.0]})
    (axis,) = study_figures.gap(found, ["a"]).axes
    assert list(axis.lines[0].get_xdata()) == pytest.approx([0.2, 0.6])
    assert line(axis, "training images").get_xdata() == pytest.approx(0.2)


def test_a_tornado_has_a_bar_to_each_end_and_the_widest_range_on_top():
    def estimate(mean):
        return stats.Estimate(mean, mean - 1, mean + 1, 3)

    rows = [
        {"study": "wide", "span": estimate(6), "low": ("worst", estimate(-4), 1.0), "high": ("best", estimate(2), 2.0)},
        {"study": "narrow", "span": estimate(1), "low": ("w", estimate(0), 1.0), "high": ("b", estimate(1), 1.0)},
    ]
    points, time = study_figures.tornado(rows, reference_seconds=1.5).axes
    assert [text.get_text() for text in points.get_yticklabels()] == ["narrow", "wide"]
    bars = [patch.get_width() for patch in points.patches if isinstance(patch, Rectangle)]
    assert bars == [0, 1, -4, 2]
    # Each name beside its bar, beyond the whisker.
    places = {text.get_text(): (text.xy[0], text.get_ha()) for text in points.texts}
    assert (places["worst"], places["best"]) == ((-5, "right"), (3, "left"))
    assert (places["w"], places["b"]) == ((-1, "right"), (2, "left"))
    assert [tuple(one.get_xdata()) for one in time.lines if one.get_marker() == "^"][:2] == [(1.0,), (2.0,)]
    assert [1.5, 1.5] in [list(one.get_xdata()) for one in time.lines]
    _, untimed = study_figures.tornado(rows, reference_seconds=float("nan")).axes
    assert untimed.get_xscale() == "linear"


def test_a_repeated_comparison_has_a_mark_and_an_interval_under_each_condition():
    values = {"none": pd.Series([1.0, 2.0, 3.0]), "a": pd.Series([2.0, 4.0, 6.0]), "b": pd.Series([5.0])}
    found = stats.compare_pairs(values, [("a", "none"), ("b", "none")])
    (axis,) = study_figures.repeated([("narrow", found), ("wide", [found[0].turned, found[1]])]).axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ["b − none", "a − none"]
    marks = [one for one in axis.lines if one.get_marker() in ("o", "s", "^", "D")]
    assert [one.get_xdata()[0] for one in marks] == [4, 2, 4, -2]   # from the bottom up, condition by condition
    bars = [places for one in axis.lines if len(places := list(one.get_xdata())) == 2 and places != [0, 0]]
    estimate = found[0].difference   # one pair of runs has no interval
    assert bars == [[estimate.low, estimate.high], [-estimate.high, -estimate.low]]
    (empty,) = study_figures.repeated([("narrow", []), ("wide", [])]).axes
    assert study_figures.NO_PAIR in [text.get_text() for text in empty.texts]
