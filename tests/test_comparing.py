"""What a study compares, of constructed runs."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
from labbook.page import tables, texts, verdicts
from labbook.studies import comparing, curves, stats
from labbook.studies import study as studies
from labbook.studies.results import ensure


def test_a_level_that_diverged_is_a_comparison_all_the_same(small_study):
    comparisons = comparing.levels(small_study)
    (lost,) = [c for c in comparisons if c.level == "lost"]
    assert (lost.word, lost.lost) == ("diverged", 2)
    assert "in the 2 pairs a run diverged" in verdicts.on_each(comparisons)
    assert tables.study_table(small_study, comparisons).data.set_index("dropout").loc["lost", "verdict"] == "diverged"


def test_only_a_run_that_diverged_is_lost(small_study):
    """Not a seed that one of two levels has not been trained with yet, nor a figure that a run does not have."""
    none, half = (pd.Series([80.0] * n) for n in (3, 2))
    assert len(comparing.gain(none, half)) == 2
    assert comparing.gain(none, pd.Series([81.0, math.nan])).isna().tolist() == [False, True]
    without = {"none": pd.Series([0.1, math.nan]), "half": pd.Series([0.2, 0.3])}
    half_lost = comparing.levels_by(small_study, without)[0]
    assert (half_lost.level, half_lost.difference.n, half_lost.lost) == ("half", 1, 0)


def test_whether_a_gain_depends_on_the_setting_is_a_difference_of_differences():
    seeds = range(5)
    scatter = pd.Series([0.0, 0.1, -0.1, 0.05, -0.05], index=seeds)
    accuracies = {
        "none / plain": 80 + scatter, "half / plain": 80 + 2 * scatter,
        "none / bare": 70 + scatter, "half / bare": 75 + 2 * scatter.iloc[::-1].set_axis(seeds),
    }
    study = studies.Study(
        name="mine", title="T", question="Q?", factor="f", preset="smoke", seeds=tuple(seeds),
        reference="none / plain", levels={"none": {}, "half": {"dropout": 0.5}},
        crossed={"plain": {}, "bare": {"norm": "none"}})
    found = SimpleNamespace(
        study=study, levels=list(accuracies), trained=list(accuracies), values=lambda _, level: accuracies[level] / 100,
        runs=pd.DataFrame({"level": list(accuracies), "seed": 0, "diverged": False}))
    (change,) = comparing.changes_by_setting(found, "none", "plain")
    assert (change.level, change.reference, change.word) == ("half / bare", "half / plain", "higher")
    assert change.difference.mean == pytest.approx(5)
    # In short a level is said to be compared with itself under another setting.
    assert verdicts.in_short_by_setting([change], "*{}*", "gain") == [
        "*bare*: gain, against *plain* (n = 5): higher with *half* (+5.00 points)."]
    assert verdicts.on_changes([change], "*{}*", "gain").startswith(
        "- The gain of *half / bare* is higher than that of *half / plain* by 5.00 points")
    assert verdicts.on_changes(4 * [change], "*{}*", "gain").startswith(
        "- *bare*: gain, against *plain* (n = 5): higher with")
    assert verdicts.on_changes([], "*{}*", "gain") == verdicts.NOTHING
    # By setting: each level against its own reference, whose names need not say the setting again.
    by_setting = comparing.by_setting(found, "none")
    first, second = verdicts.in_short_by_setting(by_setting, "*{}*", "accuracy")
    assert first == "*plain*: accuracy, against *none* (n = 5): the same within ±0.5 points with *half*."
    assert second == "*bare*: accuracy, against *none* (n = 5): higher with *half* (+5.00 points)."
    assert verdicts.on_each_by_setting(by_setting, "*{}*").splitlines()[1].startswith(
        "- *bare*: The final validation accuracy of *half* is higher than that of *none* by 5.00 points")
    # Those of some levels alone are a family of their own.
    assert comparing.by_setting(found, "none", ["half"]) == by_setting
    assert comparing.by_setting(found, "none", ["another"]) == []
    assert comparing.changes_by_setting(found, "none", "plain", ["half"]) == [change]
    assert comparing.changes_by_setting(found, "none", "plain", ["another"]) == []
    # Settings that show the same are said together.
    alike = [replace(c, level=f"half / {name}", reference=f"none / {name}") for c in by_setting[:1] for name in "ab"]
    assert verdicts.in_short_by_setting(alike, "*{}*", "accuracy") == [
        "*a, b*: accuracy, against *none* (n = 5): the same within ±0.5 points with *half*."]
    folded = verdicts.on_each_by_setting(2 * by_setting, "*{}*")
    assert folded.startswith("- *plain*: ") and "dropdown" in folded
    ranges = comparing.ranges_over_settings(found)
    assert list(ranges["none"]) == pytest.approx([10] * 5)
    assert list(ranges["half"]) == pytest.approx(list(accuracies["half / plain"] - accuracies["half / bare"]))


def test_the_spread_of_gradients_is_compared_in_factors_of_ten():
    rows = [{"level": level, "seed": seed, "step": step, "layer": str(layer), "norm": norm * (1 + seed)}
            for level, largest in (("flat", 1.0), ("steep", 100.0)) for seed in (0, 1, 2) for step in (0, 300)
            for layer, norm in enumerate((1.0, largest if step else 10.0))]
    gradients = pd.DataFrame(rows)
    steep = gradients[gradients["level"] == "steep"]
    assert list(curves.gradient_span(steep, 300)) == pytest.approx([2, 2, 2])
    assert curves.gradient_span(steep, 30).empty
    # The classifier's gradient passed through no layer.
    last = pd.DataFrame([{"seed": seed, "step": 300, "layer": "classifier", "norm": 1e9} for seed in (0, 1, 2)])
    assert list(curves.gradient_span(pd.concat([steep, last]), 300)) == pytest.approx([2, 2, 2])
    runs = pd.DataFrame({"level": ["flat", "steep"], "seed": 0, "diverged": False})
    found = SimpleNamespace(gradients=gradients, levels=["flat", "steep"], trained=["flat", "steep"], runs=runs)
    (later,) = comparing.gradient_spans(found, 300, [("steep", "flat")])
    assert (later.difference.mean, later.difference.n) == (pytest.approx(2), 3)
    (first,) = comparing.gradient_spans(found, 0, [("steep", "flat")])
    assert first.word == "same"


def test_pairs_are_corrected_for_all_that_were_planned(small_study):
    pairs = [("half", "none"), ("lost", "none"), ("none", "lost")]
    alone = stats.compare_pairs(comparing.figures_of(small_study, "val_accuracy"), pairs[:1])[0]
    among = stats.compare_pairs(comparing.figures_of(small_study, "val_accuracy"), pairs[:1], planned=len(pairs))[0]
    assert among.p_holm == pytest.approx(min(1, 3 * alone.p))
    # A pair and the same pair turned are one comparison.
    values = comparing.figures_of(small_study, "val_accuracy")
    (planned,) = comparing.planned(values, [*pairs, ("none", "half")])
    assert planned == stats.compare_pairs(values, pairs[:1], planned=2)[0]
    assert comparing.planned(values, pairs[1:]) == []


def test_one_family_holds_a_studys_levels_and_its_other_pairs(small_study):
    study = small_study.study.model_copy(update={"comparisons": (("none", "half"), ("half", "lost"))})
    comparisons = comparing.levels(replace(small_study, study=study))
    assert comparing.pairs_of(study) == [("half", "none"), ("lost", "none"), ("half", "lost")]
    half, lost, half_lost = comparisons
    assert (lost.word, half_lost.word) == ("diverged", "diverged")
    values = comparing.figures_of(small_study, "val_accuracy")
    assert half == stats.compare_pairs(values, [("half", "none")], planned=3)[0]
    picked = comparing.picked(comparisons, [("half", "none"), ("none", "half"), ("half", "lost")])
    assert list(map(repr, picked)) == list(map(repr, [half, half.turned, half_lost]))   # an effect size may be NaN
    assert comparing.with_reference(comparisons, "none") == [half, lost]
    assert comparing.with_reference(comparisons, "half") == []


def test_values_without_the_reference_are_not_compared(small_study):
    assert comparing.levels_by(small_study, {"half": pd.Series({0: 1.0, 1: 2.0})}) == []


def test_what_carried_over_names_level_widths_differences_and_n(small_study):
    comparison, lost = comparing.levels(small_study)
    width, difference = small_study.config_of("half").width, texts.signed(comparison.difference)
    side = f"at width {width} {difference} points (n = 2, no difference found)"
    verdict = verdicts.carried_over(comparison, comparison)

    def carried_over(*comparisons, **where):
        return verdicts.each_carried_over(comparing.repeated(small_study, comparisons, small_study, **where))

    assert carried_over(comparison) == f"- *half* against *none*: {side}, {side}; {verdict}."
    assert "every pair lost a run that diverged" in carried_over(lost)
    # Found whichever way round the first study made it.
    assert carried_over(comparison.turned) == f"- *half* against *none*: {side}, {side}; {verdict}."
    longer = carried_over(comparison, where="epochs")
    assert longer.startswith(f"- *half* against *none*: over {small_study.config_of('half').epochs} epochs ")


def test_what_carried_over_says_so_without_wide_runs(small_study, small_study_file, tmp_path, results):
    (tmp_path / "mine.yml").write_text(small_study_file)
    wide = ensure(studies.load("mine", tmp_path), required=False)
    again = comparing.repeated(small_study, comparing.levels(small_study), wide)
    assert verdicts.each_carried_over(again) == verdicts.NOTHING


def test_only_levels_that_reach_a_target_with_every_seed_are_timed():
    def history(*final: float) -> pd.DataFrame:
        return pd.DataFrame([{"seed": seed, "epoch": epoch, "val_accuracy": value * epoch / 2}
                             for seed, value in enumerate(final) for epoch in (1, 2)])

    final = {"none": (0.8, 0.84, 0.88), "quick": (0.9, 0.95, 0.97), "lucky": (0.7, 0.9, 0.9), "lost": (0.9, 0.9, 0.9)}
    histories = {level: history(*values) for level, values in final.items()}
    accuracies = {level: pd.Series(values) for level, values in final.items()}
    accuracies["lost"][2] = float("nan")   # a run that diverged after its last epoch was known
    pairs = [(level, "none") for level in final if level != "none"]
    found, slow = comparing.times(histories, accuracies, pairs, 0.75)
    assert [(c.level, c.reference, c.word) for c in found] == [("quick", "none", "lower")]
    assert slow == ["lucky", "lost"]
    said = verdicts.on_times({0.75: (found, slow)})
    assert said.startswith("- The time to 75 % of *quick* is lower than that of *none* by ")
    assert verdicts.in_short(found, "time to 75 %", "epochs", verdicts.WORDS_OF_TIME) == (
        f"Time to 75 %, against *none* (n = 3): sooner with *quick* ({found[0].difference.mean:+.2f} epochs).")
    assert said.endswith("Not compared in the time to 75 %, which not every seed reaches: *lucky*, *lost*.")
    # What two targets have in common is said once.
    assert verdicts.on_times({0.9: ([], []), 0.92: ([], []), 0.95: ([], ["none"])}) == (
        f"{verdicts.NOTHING}\n\nNo two that are to be compared reach 95 % with every seed.\n\n"
        "Not compared in the time to 95 %, which not every seed reaches: *none*.")


def test_over_all_seeds_a_configurations_runs_in_other_studies_count_too():
    again, depth = (ensure(name, train=False) for name in ("reference-again", "depth"))
    found = {c.level: c for c in comparing.over_all_seeds(again, depth)}
    before, after = (
        100 * (results.values("val_accuracy", "residual 13") - results.values("val_accuracy", reference)).dropna()
        for results, reference in ((depth, "residual 9"), (again, "the reference")))
    assert not before.index.intersection(after.index).size
    assert found["residual 13"].difference.mean == pytest.approx(pd.concat([before, after]).mean())
    assert found["residual 13"].difference.n == len(before) + len(after)
    # What the other study does not have rests on its own seeds, and what both have counts once.
    assert found["one cycle"].difference.n == again.values("val_accuracy", "one cycle").size
    assert comparing.over_all_seeds(again, depth, depth, again) == comparing.over_all_seeds(again, depth)
