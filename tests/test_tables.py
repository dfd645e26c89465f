"""Comparisons, tables and figures of the studies: what they show of constructed runs."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
from cifarlab import (
    chapter,
    comparing,
    curves,
    execution,
    layers,
    models,
    runner,
    stats,
    studies,
    study_figures,
    tables,
    texts,
    verdicts,
)
from cifarlab.config import RunConfig

STUDY = """
title: T
question: Q?
factor: dropout
preset: smoke
seeds: [0, 1]
reference: none
levels:
  none: {}
  half: {dropout: 0.5}
  lost: {optimizer: sgd, learning_rate: 10, weight_decay: 1, norm: none, epochs: 8}
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The results of a small study, one level of which diverges."""
    folder = tmp_path_factory.mktemp("tables")
    (folder / "mine.yml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFARLAB_RESULTS", str(folder / "results"))
        study = studies.load("mine", folder)
        for _, config in study.runs():
            runner.run(config)
        yield studies.ensure(study, train=False)


def test_a_studys_table_has_a_row_a_level_its_cost_and_its_verdict(found):
    comparisons = comparing.levels(found)
    frame = tables.study_table(found, comparisons).data.set_index("dropout")
    assert list(frame.index) == ["none", "half", "lost"]
    assert frame.loc["none", "difference (points)"] == "reference"
    model = models.build(found.config_of("half"))
    assert frame.loc["half", "parameters"] == f"{layers.parameter_count(model):,}"
    expected = stats.mean_interval(100 * found.values("val_accuracy", "half"))
    assert frame.loc["half", "val. acc. (%)"] == f"{expected.mean:.2f} ± {expected.half_width:.2f}"
    assert frame.loc["half", "n"] == 2
    (comparison,) = [c for c in comparisons if c.level == "half"]
    assert frame.loc["half", "verdict"] == verdicts.WORDS[comparison.word]
    assert frame.loc["half", "difference (points)"] == texts.signed(comparison.difference)
    assert "n = 2" in verdicts.on_each(comparisons)


def test_a_level_that_diverged_is_a_comparison_all_the_same(found):
    comparisons = comparing.levels(found)
    (lost,) = [c for c in comparisons if c.level == "lost"]
    assert (lost.word, lost.lost) == ("diverged", 2)
    assert "in the 2 pairs a run diverged" in verdicts.on_each(comparisons)
    assert tables.study_table(found, comparisons).data.set_index("dropout").loc["lost", "verdict"] == "diverged"


def test_only_a_run_that_diverged_is_lost(found):
    """Not a seed that one of two levels has not been trained with yet, nor a figure that a run does not have."""
    none, half = (pd.Series([80.0] * n) for n in (3, 2))
    assert len(comparing.gain(none, half)) == 2
    assert comparing.gain(none, pd.Series([81.0, math.nan])).isna().tolist() == [False, True]
    without = {"none": pd.Series([0.1, math.nan]), "half": pd.Series([0.2, 0.3])}
    half_lost = comparing.levels_by(found, without)[0]
    assert (half_lost.level, half_lost.difference.n, half_lost.lost) == ("half", 1, 0)


def test_a_level_that_diverged_keeps_its_row_and_is_counted(found):
    for table in (tables.study_table(found, comparing.levels(found)), tables.epochs_table(found, (0.5,))):
        row = table.data.set_index("dropout").loc["lost"]
        assert row["n"] == "0, 2 diverged"
        assert verdicts.DIVERGED in set(row)


def test_a_study_without_runs_says_so(tmp_path, results):
    (tmp_path / "mine.yml").write_text(STUDY)
    empty = studies.ensure(studies.load("mine", tmp_path), required=False)
    assert empty.seed_counts == []
    assert tables.study_table(empty, comparing.levels(empty)).data.iloc[0, 0] == tables.NO_RUN
    assert "None of the 6 runs" in chapter.provenance_text(empty)
    assert "nothing to compare" in verdicts.on_each(comparing.levels(empty))
    for figure in (study_figures.sweep(empty.runs, [], "x"), study_figures.pareto(empty.runs, tables.costs(empty), [],
                                                                                 {"macs": "MACs"})):
        assert study_figures.EMPTY in [text.get_text() for axis in figure.axes for text in axis.texts]
    with pytest.raises(execution.RunFailedError, match="make results STUDY=mine"):
        studies.ensure(studies.load("mine", tmp_path))


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
    # By setting: each level against its own reference, whose names need not say the setting again.
    by_setting = comparing.by_setting(found, "none")
    first, second = verdicts.in_short_by_setting(by_setting, "*{}*", "accuracy")
    assert first == "*plain*: accuracy, against *none*: the same within ±0.5 points with *half*."
    assert second == "*bare*: accuracy, against *none*: higher with *half*."
    assert verdicts.on_each_by_setting(by_setting, "*{}*").splitlines()[1].startswith(
        "- *bare*: The final validation accuracy of *half* is higher than that of *none* by 5.00 points")
    # Settings that show the same are said together.
    alike = [replace(c, level=f"half / {name}", reference=f"none / {name}") for c in by_setting[:1] for name in "ab"]
    assert verdicts.in_short_by_setting(alike, "*{}*", "accuracy") == [first.replace("plain", "a, b")]
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
    runs = pd.DataFrame({"level": ["flat", "steep"], "seed": 0, "diverged": False})
    found = SimpleNamespace(gradients=gradients, levels=["flat", "steep"], trained=["flat", "steep"], runs=runs)
    (later,) = comparing.gradient_spans(found, 300, [("steep", "flat")])
    assert (later.difference.mean, later.difference.n) == (pytest.approx(2), 3)
    (first,) = comparing.gradient_spans(found, 0, [("steep", "flat")])
    assert first.word == "same"


def test_a_study_without_held_out_images_has_no_accuracy(found):
    blind = replace(found, runs=found.runs.assign(val_accuracy=None))
    assert tables.accuracy_of(blind, "none") == "–"
    assert tables.accuracy_of(found, "lost") == verdicts.DIVERGED
    assert tables.first_epoch(pd.Series(dtype=float)) == "–"


def test_differences_may_be_shown_without_a_conclusion(found):
    frame = tables.study_table(found, comparing.levels(found), tested=False).data
    assert "difference (points)" in frame
    assert not {"p (Holm)", "verdict"} & set(frame)


def test_a_tie_is_shown_without_an_interval():
    assert texts.plus_minus(stats.mean_interval([0.0, 0.0, 0.0])) == "0.00"
    assert texts.plus_minus(stats.mean_interval([1.0, 2.0])).startswith("1.50 ± ")


def test_a_level_without_a_reference_is_not_called_the_reference(found):
    frame = tables.study_table(found, []).data.set_index("dropout")
    assert frame.loc["none", "difference (points)"] == "reference"
    assert frame.loc["half", "difference (points)"] == "–"


def test_pairs_are_corrected_for_all_that_were_planned(found):
    pairs = [("half", "none"), ("lost", "none"), ("none", "lost")]
    alone = stats.compare_pairs(comparing.figures_of(found, "val_accuracy"), pairs[:1])[0]
    among = stats.compare_pairs(comparing.figures_of(found, "val_accuracy"), pairs[:1], planned=len(pairs))[0]
    assert among.p_holm == pytest.approx(min(1, 3 * alone.p))
    # A pair and the same pair turned are one comparison.
    values = comparing.figures_of(found, "val_accuracy")
    (planned,) = comparing.planned(values, [*pairs, ("none", "half")])
    assert planned == stats.compare_pairs(values, pairs[:1], planned=2)[0]
    assert comparing.planned(values, pairs[1:]) == []


def test_one_family_holds_a_studys_levels_and_its_other_pairs(found):
    study = found.study.model_copy(update={"comparisons": (("none", "half"), ("half", "lost"))})
    comparisons = comparing.levels(replace(found, study=study))
    assert comparing.pairs_of(study) == [("half", "none"), ("lost", "none"), ("half", "lost")]
    half, lost, half_lost = comparisons
    assert (lost.word, half_lost.word) == ("diverged", "diverged")
    assert half == stats.compare_pairs(comparing.figures_of(found, "val_accuracy"), [("half", "none")], planned=3)[0]
    picked = comparing.picked(comparisons, [("half", "none"), ("none", "half"), ("half", "lost")])
    assert list(map(repr, picked)) == list(map(repr, [half, half.turned, half_lost]))   # an effect size may be NaN
    assert comparing.with_reference(comparisons, "none") == [half, lost]
    assert comparing.with_reference(comparisons, "half") == []


def test_values_without_the_reference_are_not_compared(found):
    assert comparing.levels_by(found, {"half": pd.Series({0: 1.0, 1: 2.0})}) == []


def test_the_largest_departure_from_the_references_parameters_is_in_percent():
    study = studies.Study(name="mine", title="T", question="Q?", factor="f", preset="smoke", seeds=(0,),
                          reference="b", levels={"a": {"width": 3}, "b": {"width": 4}, "c": {"width": 5}})
    a, b, c = (layers.parameter_count(models.build(study.config(level, 0))) for level in "abc")
    share, word = max((1 - a / b, "fewer"), (c / b - 1, "more"))
    assert tables.largest_departure(study) == f"{100 * share:.0f} % {word}"


def test_what_carried_over_names_level_widths_differences_and_n(found):
    comparison, lost = comparing.levels(found)
    side = f"at width {found.config_of('half').width} {texts.signed(comparison.difference)} points (n = 2)"
    verdict = verdicts.carried_over(comparison, comparison)

    def carried_over(*comparisons, **where):
        return verdicts.each_carried_over(comparing.repeated(found, comparisons, found, **where))

    assert carried_over(comparison) == f"- *half* against *none*: {side}, {side}; {verdict}."
    assert "every pair lost a run that diverged" in carried_over(lost)
    # Found whichever way round the first study made it.
    assert carried_over(comparison.turned) == f"- *half* against *none*: {side}, {side}; {verdict}."
    longer = carried_over(comparison, where="epochs")
    assert longer.startswith(f"- *half* against *none*: over {found.config_of('half').epochs} epochs ")


def test_what_carried_over_says_so_without_wide_runs(found, tmp_path, results):
    (tmp_path / "mine.yml").write_text(STUDY)
    wide = studies.ensure(studies.load("mine", tmp_path), required=False)
    assert verdicts.each_carried_over(comparing.repeated(found, comparing.levels(found), wide)) == verdicts.NOTHING


def test_gradient_norms_are_kept_by_step_and_layer(found):
    rows = found.gradients[(found.gradients.level == "none") & (found.gradients.seed == 0)]
    assert set(rows.step) == {0, 1, 3}
    assert (rows[rows.layer == "prep.conv"].norm > 0).all()


def test_the_median_first_epoch_counts_runs_that_never_get_there():
    assert tables.first_epoch(pd.Series([2.0, 4.0, 3.0])) == "3"
    assert tables.first_epoch(pd.Series([2.0, math.nan, math.nan])) == "reached by 1 of 3 runs"


def test_receptive_fields_by_hand():
    # PlainCNN: (3x3, pool 2) three times. 3, 4, 8, 10, 18, 22.
    rows = layers.layer_table(models.build(RunConfig.of(model="plaincnn", width=2)))
    assert study_figures.receptive_field_sizes(rows) == [3, 4, 8, 10, 18, 22]
    rows = layers.layer_table(models.build(RunConfig.of(width=2, kernel_size=1)))
    # 1x1 kernels see only what pooling gathers.
    assert study_figures.receptive_field_sizes(rows)[-1] == 32


def test_the_recipe_says_only_what_all_runs_share(found):
    assert chapter.recipe(found.configs.values()) == "held constant, batches of 64, no augmentation"


def test_the_recipe_says_a_warm_ups_length_with_its_schedule():
    same = RunConfig.of(schedule="warmup_cosine", warmup_epochs=1)
    assert ", 1 epoch of warm-up, then cosine decay, " in chapter.recipe([same])
    assert ", warm-up, then cosine decay, " in chapter.recipe([same, same.with_(warmup_epochs=2)])


def test_settings_are_in_the_studys_order_whatever_ran_first(tmp_path, results):
    (tmp_path / "two.yml").write_text(
        STUDY.replace("reference: none", "reference: none / small") + "crossed:\n  small: {width: 2}\n  large: {}\n")
    study = studies.load("two", tmp_path)
    runner.run(study.config("none / large", 0))
    assert studies.ensure(study).settings == ["large"]
    runner.run(study.config("half / small", 1))
    assert studies.ensure(study).settings == ["small", "large"]


@pytest.mark.parametrize(("cells", "words"), [
    (["no difference found", "one seed", ""], True),
    (["0.79 (0.74 to 0.79)", "–"], False),
    (["+4.22 ± 6.46", "reference", "-1.00"], False),
    ([16, 64], False),
    (["already at 38 % of the rate", ""], True),
    ([], False),
])
def test_columns_of_words_are_told_from_columns_of_numbers(cells, words):
    assert tables.in_words(pd.Series(cells, dtype=object)) is words


def test_a_minus_is_one_where_it_is_shown_and_codes_stay():
    shown = tables.as_shown([{"code": "resnet9-w16", "date": "2026-11-24", "difference": "-1.50 ± 0.20", "n": 3}])
    page = shown.to_html()
    assert "\N{MINUS SIGN}1.50 ± 0.20" in page
    assert "resnet9-w16" in page
    assert "2026-11-24" in page
    assert shown.data["difference"][0] == "-1.50 ± 0.20"


def test_the_lines_of_a_cell_stay_lines():
    assert "1.50<br>100 → 150" in tables.as_shown([{"level": "a", "speed": "1.50\n100 → 150"}]).to_html()


def test_words_are_aligned_left():
    html = tables.as_shown([{"level": "a", "accuracy": "84.1", "verdict": "no difference found"}]).to_html()
    style = html[: html.index("</style>")]
    assert "td.col2" in style
    assert "td.col1" not in style


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
        "Time to 75 %, against *none*: sooner with *quick*.")
    assert said.endswith("Not compared in the time to 75 %, which not every seed reaches: *lucky*, *lost*.")
    # What two targets have in common is said once.
    assert verdicts.on_times({0.9: ([], []), 0.92: ([], []), 0.95: ([], ["none"])}) == (
        f"{verdicts.NOTHING}\n\nNo two that are to be compared reach 95 % with every seed.\n\n"
        "Not compared in the time to 95 %, which not every seed reaches: *none*.")
