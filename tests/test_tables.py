"""Tables and figures of the studies: what they show of constructed runs."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest
from cifarbook import networks
from cifarlab import models, summary
from cifarlab.config import RunConfig
from labbook.page import chapter, study_figures, tables, texts, verdicts
from labbook.runs import engine, runner
from labbook.studies import comparing, stats
from labbook.studies import study as studies
from labbook.studies.results import ensure


def test_a_studys_table_has_a_row_a_level_its_cost_and_its_verdict(small_study):
    comparisons = comparing.levels(small_study)
    frame = tables.study_table(small_study, comparisons, networks.costs(small_study)).data.set_index("dropout")
    assert list(frame.index) == ["none", "half", "lost"]
    assert frame.loc["none", "difference (points)"] == "reference"
    model = models.build(small_study.config_of("half"))
    assert frame.loc["half", "parameters"] == f"{summary.parameter_count(model):,}"
    expected = stats.mean_interval(100 * small_study.values("val_accuracy", "half"))
    assert frame.loc["half", "val. acc. (%)"] == f"{expected.mean:.2f} ± {expected.half_width:.2f}"
    assert frame.loc["half", "n"] == 2
    (comparison,) = [c for c in comparisons if c.level == "half"]
    assert frame.loc["half", "verdict"] == verdicts.WORDS[comparison.word]
    assert frame.loc["half", "difference (points)"] == texts.signed(comparison.difference)
    assert "n = 2" in verdicts.on_each(comparisons)


def test_a_level_that_diverged_keeps_its_row_and_is_counted(small_study):
    by_level = tables.study_table(small_study, comparing.levels(small_study))
    for table in (by_level, tables.epochs_table(small_study, (0.5,))):
        row = table.data.set_index("dropout").loc["lost"]
        assert row["n"] == "0, 2 diverged"
        assert verdicts.DIVERGED in set(row)


def test_a_study_without_runs_says_so(small_study_file, tmp_path, results):
    (tmp_path / "mine.yml").write_text(small_study_file)
    empty = ensure(studies.load("mine", tmp_path), required=False)
    assert empty.seed_counts == []
    assert tables.study_table(empty, comparing.levels(empty)).data.iloc[0, 0] == tables.NO_RUN
    assert "None of the 6 runs" in chapter.provenance_text(empty)
    assert "nothing to compare" in verdicts.on_each(comparing.levels(empty))
    for figure in (study_figures.sweep(empty.runs, [], "x"), study_figures.pareto(empty.runs, networks.costs(empty), [],
                                                                                 {"macs": "MACs"})):
        assert study_figures.EMPTY in [text.get_text() for axis in figure.axes for text in axis.texts]
    with pytest.raises(engine.RunFailedError, match="make results STUDY=mine"):
        ensure(studies.load("mine", tmp_path))


def test_a_study_without_held_out_images_has_no_accuracy(small_study):
    blind = replace(small_study, runs=small_study.runs.assign(val_accuracy=None))
    assert tables.accuracy_of(blind, "none") == "–"
    assert tables.accuracy_of(small_study, "lost") == verdicts.DIVERGED
    assert tables.first_epoch(pd.Series(dtype=float)) == "–"


def test_differences_may_be_shown_without_a_conclusion(small_study):
    frame = tables.study_table(small_study, comparing.levels(small_study), tested=False).data
    assert "difference (points)" in frame
    assert not {"p (Holm)", "verdict"} & set(frame)


def test_a_tie_is_shown_without_an_interval():
    assert texts.plus_minus(stats.mean_interval([0.0, 0.0, 0.0])) == "0.00"
    # Equal, but for the last digit of their mean.
    assert texts.plus_minus(stats.mean_interval([100 * 0.8534] * 3)) == "85.34"
    assert texts.plus_minus(stats.mean_interval([1.0, 2.0])).startswith("1.50 ± ")


def test_a_level_without_a_reference_is_not_called_the_reference(small_study):
    frame = tables.study_table(small_study, []).data.set_index("dropout")
    assert frame.loc["none", "difference (points)"] == "reference"
    assert frame.loc["half", "difference (points)"] == "–"


def test_the_largest_departure_from_the_references_parameters_is_in_percent():
    study = studies.Study(name="mine", title="T", question="Q?", factor="f", preset="smoke", seeds=(0,),
                          reference="b", levels={"a": {"width": 3}, "b": {"width": 4}, "c": {"width": 5}})
    a, b, c = (summary.parameter_count(models.build(study.config(level, 0))) for level in "abc")
    share, word = max((1 - a / b, "fewer"), (c / b - 1, "more"))
    assert networks.largest_departure(study) == f"{100 * share:.0f} % {word}"


def test_gradient_norms_are_kept_by_step_and_layer(small_study):
    rows = small_study.gradients[(small_study.gradients.level == "none") & (small_study.gradients.seed == 0)]
    assert set(rows.step) == {0, 1, 3}
    assert (rows[rows.layer == "prep.conv"].norm > 0).all()


def test_the_median_first_epoch_counts_runs_that_never_get_there():
    assert tables.first_epoch(pd.Series([2.0, 4.0, 3.0])) == "3"
    assert tables.first_epoch(pd.Series([2.0, 4.0, math.nan])) == "4 (2 of 3 runs)"
    assert tables.first_epoch(pd.Series([2.0, math.nan, math.nan])) == "reached by 1 of 3 runs"


def test_receptive_fields_by_hand():
    # PlainCNN: (3x3, pool 2) three times. 3, 4, 8, 10, 18, 22.
    rows = summary.layer_table(models.build(RunConfig.of(model="plaincnn", width=2)))
    assert study_figures.receptive_field_sizes(rows) == [3, 4, 8, 10, 18, 22]
    rows = summary.layer_table(models.build(RunConfig.of(width=2, kernel_size=1)))
    # 1x1 kernels see only what pooling gathers.
    assert study_figures.receptive_field_sizes(rows)[-1] == 32


def test_the_recipe_says_only_what_all_runs_share(small_study):
    assert chapter.recipe(small_study.configs.values()) == "held constant, batches of 64, no augmentation"


def test_the_recipe_says_a_warm_ups_length_with_its_schedule():
    same = RunConfig.of(schedule="warmup_cosine", warmup_epochs=1)
    assert ", 1 epoch of warm-up, then cosine decay, " in chapter.recipe([same])
    assert ", warm-up, then cosine decay, " in chapter.recipe([same, same.with_(warmup_epochs=2)])


def test_settings_are_in_the_studys_order_whatever_ran_first(small_study_file, tmp_path, results):
    crossed = small_study_file.replace("reference: none", "reference: none / small")
    (tmp_path / "two.yml").write_text(crossed + "crossed:\n  small: {width: 2}\n  large: {}\n")
    study = studies.load("two", tmp_path)
    runner.run(study.config("none / large", 0))
    assert ensure(study).settings == ["large"]
    runner.run(study.config("half / small", 1))
    assert ensure(study).settings == ["small", "large"]


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
