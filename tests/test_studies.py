"""Studies: refusals by name, runs shared, what is missing is trained and only that."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from cifarlab import data, models, training
from cifarlab.config import PRESETS, RunConfig
from labbook import __main__ as cli
from labbook.errors import ConfigError
from labbook.page import chapter
from labbook.runs import execution, packing, runner, store
from labbook.studies import comparing
from labbook.studies import study as studies
from labbook.studies.results import as_list, ensure

GOOD = """
title: T
question: Q?
factor: dropout
preset: smoke
seeds: [0, 1]
reference: plain
levels:
  plain: {}
  dropped: {dropout: 0.5}
"""


def written(tmp_path, text: str):
    (tmp_path / "mine.yml").write_text(text)
    return tmp_path


@pytest.mark.parametrize(("old", "new", "expected"), [
    ("title: T", "titel: T", r"unknown field 'titel' \(did you mean 'title'\?\)"),
    ("factor: dropout", "", "the field 'factor' is missing"),
    ("preset: smoke", "preset: small", "preset"),
    ("seeds: [0, 1]", "seeds: [0, 0]", "seeds: one appears twice"),
    ("seeds: [0, 1]", "seeds: []", "seeds"),
    ("seeds: [0, 1]", "seeds: [0, -1]", "seeds.1: -1 is refused"),
    ("seeds: [0, 1]", "seeds: [0, true]", "seeds.1: True is refused"),
    ("levels:", "fixed: {seed: 7}\nlevels:", "fixed: seed is not for a study to set"),
    ("plain: {}", "plain: {seed: 7}", "plain: seed is not for a study to set"),
    ("plain: {}", "true: {}", "the name True is no text for YAML. Put it in quotes"),
    ("dropped: {dropout: 0.5}", "a / b: {dropout: 0.5}\ncrossed: {narrow: {width: 2}}", "'a / b' has ' / ' in it"),
    ("dropped: {dropout: 0.5}", "1 / 2: {dropout: 0.5}", "'1 / 2' has ' / ' in it"),
    ("dropped: {dropout: 0.5}", "? [1, 2]\n  : {dropout: 0.5}", r"levels\.\(1, 2\): the name \(1, 2\) is no text for YAML"),
    ("dropped: {dropout: 0.5}", "dropped: {learning_rate: '0.001'}", "It is text to YAML: write 0.001"),
    ("title: T", "name: x\ntitle: T", "unknown field 'name'"),
    ("reference: plain", "reference: plane", "reference: 'plane' is not one of its levels"),
    ("dropped: {dropout: 0.5}", "dropped: {droput: 0.5}", r"unknown parameter 'droput' \(did you mean 'dropout'\?\)"),
    ("dropped: {dropout: 0.5}", "dropped: {dropout: 2}", "dropout: 2.0 is refused"),
    ("dropped: {dropout: 0.5}", "plain: {dropout: 0.5}", r"'plain' appears twice \(line 10\)"),
    ("dropped: {dropout: 0.5}", "dropped: {}", "'dropped' and 'plain' of study 'mine' are the same run"),
    ("levels:", "levels: [", "mine.yml"),
    ("levels:", "comparisons: [[plain, droped]]\nlevels:", r"comparisons: 'droped' .* \(did you mean 'dropped'\?\)"),
    ("levels:", "comparisons: [[plain, plain]]\nlevels:", "comparisons: 'plain' is compared with itself"),
    ("levels:", "crossed: {all: {dropout: 0.1}}\nlevels:", "'dropped' and crossed: 'all' both set dropout"),
    ("levels:", "crossed: {narrow: {width: 2}}\nlevels:", "reference: 'plain' is not one of its levels"),
])
def test_a_wrong_study_is_refused_by_name(tmp_path, old, new, expected):
    folder = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(studies.StudyError, match=expected):
        studies.load("mine", folder)


@pytest.mark.parametrize(("content", "expected"), [
    (b"", "empty"), (b"- a", "empty"), ("title: Gr\u00f6\u00dfe".encode("latin-1"), "not written in UTF-8"),
])
def test_a_file_that_is_no_study_is_refused_by_name(tmp_path, content, expected):
    (tmp_path / "mine.yml").write_bytes(content)
    with pytest.raises(studies.StudyError, match=rf"mine\.yml: it is {expected}"):
        studies.load("mine", tmp_path)


def test_a_fixed_value_that_every_level_sets_is_refused(tmp_path):
    text = GOOD.replace("plain: {}", "plain: {width: 2}").replace("{dropout: 0.5}", "{width: 3}")
    with pytest.raises(studies.StudyError, match="fixed: width would change nothing, every level sets it"):
        studies.load("mine", written(tmp_path, text + "fixed: {width: 6}\n"))


def test_levels_may_share_settings_by_yamls_merge(tmp_path):
    text = GOOD.replace("dropped: {", "dropped: &half {") + "  wide:\n    <<: *half\n    width: 6\n"
    assert studies.load("mine", written(tmp_path, text)).levels["wide"] == {"dropout": 0.5, "width": 6}


def test_parameters_that_make_each_other_redundant_are_changes_all_the_same(tmp_path, results):
    study = studies.load("mine", written(tmp_path, GOOD.replace("preset: smoke", "preset: laptop")))
    report = {"preset": "report", **{name: PRESETS["report"][name] for name in ("epochs", "width")}}
    assert ensure(study, train=False, required=False, **report).changed == report
    # Neither is possible without the other.
    images = {"train_images": 50_000, "val_images": 0}
    assert ensure(study, train=False, required=False, **images).changed == images


def test_small_images_keep_their_share_of_a_run_of_another_length(tmp_path):
    small = "{model: speednet, width: 8, low_resolution: 24, low_resolution_epochs: 1, whitening_bias_epochs: 1}"
    study = studies.load("mine", written(tmp_path, GOOD.replace("{dropout: 0.5}", small)))
    assert study.config("dropped", 0).low_resolution_epochs == 1
    with pytest.raises(ConfigError, match=r"^epochs: -3 is refused: [^\n]*$"):   # and nothing that nobody gave
        study.config("dropped", 0, epochs=-3)
    longer = study.config("dropped", 0, epochs=8)
    assert longer.low_resolution_epochs == longer.whitening_bias_epochs == 4


def test_a_parameter_without_effect_on_any_run_is_refused(tmp_path, results):
    study = studies.load("mine", written(tmp_path, GOOD))
    with pytest.raises(studies.StudyError, match=r"warmup_epochs: 5\.0 would change nothing: beside its"):
        ensure(study, warmup_epochs=5.0, train=False, required=False)
    with pytest.raises(studies.StudyError, match="seed: a study has several"):
        ensure(study, seed=3, train=False, required=False)


def test_a_parameter_that_every_level_sets_is_refused_and_kept_from_side_studies(tmp_path, results, monkeypatch):
    text = GOOD.replace("plain: {}", "plain: {width: 2}").replace("{dropout: 0.5}", "{width: 3}")
    study = studies.load("mine", written(tmp_path, text))
    assert study.set_by_every_level == {"width"}
    with pytest.raises(studies.StudyError, match="width: 8 would change nothing: every level of study 'mine'"):
        ensure(study, width=8, required=False)
    monkeypatch.setattr(chapter, "load", lambda _: study)
    monkeypatch.setattr(chapter, "ensure", lambda _, **given: given)
    assert chapter.side_study("mine", True, width=8, seeds=[0]) == {"required": False, "seeds": [0]}
    assert chapter.side_study("mine", False, width=8, seeds=[0]) == {"required": False}
    # What the study fixes is its own as well: a repetition at another width stays at that width.
    fixed = studies.load("mine", written(tmp_path, GOOD + "fixed: {width: 6}\n"))
    monkeypatch.setattr(chapter, "load", lambda _: fixed)
    assert chapter.side_study("mine", True, width=8, epochs=3) == {"required": False, "epochs": 3}
    asked = chapter.side_study("mine", True, preset="report", width=None)
    assert asked == {"required": False, "preset": "report", "width": 6}
    assert chapter.side_study("mine", True, preset="report") == {"required": False, "preset": "report"}


def test_a_run_of_another_length_keeps_its_warm_ups_share():
    study = studies.load("dropout")   # one of five epochs
    assert study.config("none", 0).warmup_epochs == 1
    assert study.config("none", 0, epochs=1).warmup_epochs == pytest.approx(0.2)
    assert study.config("none", 0, preset="report").warmup_epochs == pytest.approx(4)
    assert study.config("none", 0, epochs=1, warmup_epochs=0.5).warmup_epochs == 0.5
    assert studies.load("warm-up").config("warm-up cosine", 0, epochs=2).warmup_epochs == pytest.approx(0.2)
    assert studies.load("decay-warm-up").config("two fifths", 0, epochs=8).warmup_epochs == pytest.approx(3.2)
    # So two studies still share their runs.
    for changed in ({"epochs": 2}, {"preset": "report"}):
        same = studies.load("decay").config("warm-up cosine", 0, **changed)
        assert same.id == studies.load("dropout").config("none", 0, **changed).id
    assert studies.load("budget").config("8", 0).warmup_epochs == 1.6


def test_a_second_factor_is_crossed_with_every_level(tmp_path):
    text = GOOD.replace("reference: plain", "reference: plain / wide")
    text += "crossed:\n  narrow: {width: 2}\n  wide: {width: 6}\n"
    study = studies.load("mine", written(tmp_path, text))
    assert list(study.levels) == ["plain / narrow", "plain / wide", "dropped / narrow", "dropped / wide"]
    config = study.config("dropped / narrow", 1)
    assert (config.width, config.dropout, config.seed) == (2, 0.5, 1)


def test_an_unknown_study_or_level_is_refused_with_the_near_one(tmp_path):
    with pytest.raises(studies.StudyError, match=r"'warmup' is not known \(did you mean 'warm-up'\?\)"):
        studies.load("warmup")
    study = studies.load("mine", written(tmp_path, GOOD))
    with pytest.raises(studies.StudyError, match=r"level: 'droped' .* \(did you mean 'dropped'\?\). Known: plain, dr"):
        study.config("droped", 0)
    with pytest.raises(studies.StudyError, match="preset: 'lap' is not known"):
        study.config("plain", 0, preset="lap")


@pytest.mark.parametrize("name", studies.names())
def test_every_committed_study_is_valid_and_its_runs_are_distinct(name):
    runs = studies.load(name).runs()
    assert len({config.id for _, config in runs}) == len(runs)


def test_runs_go_seed_by_seed_and_overrides_win(tmp_path):
    study = studies.load("mine", written(tmp_path, GOOD))
    assert [(level, config.seed) for level, config in study.runs()] == [
        ("plain", 0), ("dropped", 0), ("plain", 1), ("dropped", 1)
    ]
    assert study.config("plain", 0, epochs=7, width=None).epochs == 7
    assert study.config("plain", 0, width=None).width == PRESETS["smoke"]["width"]
    assert study.config("plain", 0, preset="laptop").width == PRESETS["laptop"]["width"]


@pytest.mark.parametrize(("value", "expected"), [("[0, 1]", [0, 1]), ([3], [3]), ("2", [2]), (None, None), ((1,), [1])])
def test_a_list_may_come_as_papermills_text(value, expected):
    assert as_list("seeds", value, int) == expected


@pytest.mark.parametrize("value", ["zero", "[0, a]", "[]", [], [0, 0], [0.5], [True]])
def test_a_wrong_list_is_refused(value):
    with pytest.raises(ConfigError, match=r"seeds: .* is refused"):
        as_list("seeds", value, int)


def test_a_parameter_that_only_the_reference_sets_changes_the_others(results, tmp_path):
    study = studies.load("mine", written(tmp_path, GOOD.replace("plain: {}", "plain: {width: 3}")))
    assert ensure(study, width=3, train=False, required=False).changed == {"width": 3}


def test_ensure_reads_what_exists_and_trains_only_on_changed_parameters(results, tmp_path, monkeypatch):
    study = studies.load("mine", written(tmp_path, GOOD))
    trained = []

    def execute(config, device="auto", threads=None):
        from labbook.runs import runner

        trained.append(config.id)
        runner.run(config)

    # In this process, where what was executed can be counted.
    monkeypatch.setattr(packing, "cores", lambda: 1)
    monkeypatch.setattr(execution, "execute", execute)
    with pytest.raises(execution.RunFailedError, match=r"none of its 4 runs .*`make results STUDY=mine"):
        ensure(study)
    assert trained == []
    found = ensure(study, seeds="[0]")
    assert len(trained) == 2
    assert found.changed == {"seeds": [0]}
    again = ensure(study)
    assert len(trained) == 2
    assert again.changed == {}
    assert len(again.missing) == 2
    assert again.levels == ["plain", "dropped"]
    assert list(again.values("val_accuracy", "plain").index) == [0]
    ensure(study, train=True)
    assert len(trained) == 4


def test_a_run_that_fails_is_reported_and_the_others_go_on(results, tmp_path, monkeypatch):
    study = studies.load("mine", written(tmp_path, GOOD))

    def execute(config, device="auto", threads=None):
        if config.dropout:
            raise execution.RunFailedError(f"{config.id}: out of memory")
        from labbook.runs import runner

        runner.run(config)

    monkeypatch.setattr(execution, "execute", execute)
    failures = execution.execute_all([config for _, config in study.runs()])
    assert len(failures) == 2
    assert all("out of memory" in line for line in failures)
    assert len(store.read_all()) == 2


def test_the_budget_starts_no_further_run(results, tmp_path, monkeypatch):
    study = studies.load("mine", written(tmp_path, GOOD))
    monkeypatch.setattr(execution, "execute", lambda *_, **__: pytest.fail("a run was started after the budget"))
    configs = [config for _, config in study.runs()]
    assert execution.execute_all(configs, stop_after_seconds=-1) == []


@pytest.mark.parametrize("pooled", [False, True])
def test_a_budget_that_runs_out_lets_the_run_under_way_finish(results, tmp_path, monkeypatch, pooled):
    study = studies.load("mine", written(tmp_path, GOOD))
    clock, carried = [0.0], []

    def execute(config, *_):
        carried.append(config.id)
        clock[0] += 60   # each takes a minute of the test's clock

    monkeypatch.setattr(execution, "execute", execute)
    monkeypatch.setattr(execution, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    configs = [config for _, config in study.runs()]
    with ThreadPoolExecutor(1) as pool:
        failures = execution.execute_all(
            configs, pool if pooled else None, stop_after_seconds=100, at_once=1 if pooled else None)
    assert failures == []
    assert carried == [config.id for config in configs[:2]]   # the second began after a minute


def test_what_a_level_sets_wins_and_levels_may_not_become_the_same_run(tmp_path):
    study = studies.load("mine", written(tmp_path, GOOD.replace("dropout: 0.5", "width: 8")))
    assert study.config("dropped", 0, width=16).width == 8
    with pytest.raises(studies.StudyError, match=r"'dropped' and 'plain' of study 'mine' .* with width = 8"):
        study.runs(width=8)


def test_a_damaged_result_counts_as_missing(results, tmp_path):
    from labbook.runs import runner

    study = studies.load("mine", written(tmp_path, GOOD))
    config = study.config("plain", 0)
    runner.run(config)
    assert execution.missing([config]) == []
    store.path_of(config.id).write_text("{")
    with pytest.warns(store.DamagedResultWarning):
        assert execution.missing([config]) == [config]


def test_a_diverged_run_is_counted_apart_and_drawn_as_such(results, tmp_path):
    from labbook.page import figures
    from labbook.runs import runner

    bad = "bad: {optimizer: sgd, learning_rate: 10, weight_decay: 1, norm: none, epochs: 8}"
    study = studies.load("mine", written(tmp_path, GOOD.replace("dropped: {dropout: 0.5}", bad)))
    for level in study.levels:
        runner.run(study.config(level, 0))
    found = ensure(study)
    assert found.levels == ["plain"]
    assert set(found.history["level"]) == {"plain"}
    assert found.runs.set_index("level").loc["bad", "diverged"]
    figure = figures.seeds_by_level(found.runs, found.levels, "val_accuracy")
    assert any("diverged" in text.get_text() for text in figure.axes[0].texts)
    assert "Diverged" in chapter.provenance_text(found)


def test_an_executor_carries_the_runs_and_the_budget_takes_back_what_waits(results, tmp_path, monkeypatch):
    study = studies.load("mine", written(tmp_path, GOOD))
    started = []
    # The budget's clock starts before the runs are weighed, and a busy machine may keep it waiting.
    monkeypatch.setattr("labbook.runs.runs_bar.work", lambda configs: {config.id: 1.0 for config in configs})
    monkeypatch.setattr(execution, "execute", lambda config, *_: (started.append(config.id), time.sleep(3)))
    configs = [config for _, config in study.runs()]
    with ThreadPoolExecutor(1) as pool:
        assert execution.execute_all(configs, pool, stop_after_seconds=1) == []
    assert started == [configs[0].id]
    monkeypatch.setattr(execution, "execute", lambda config, *_: started.append(config.id))
    with ThreadPoolExecutor(4) as pool:
        assert execution.execute_all(configs, pool, at_once=2) == []
    assert sorted(started[1:]) == sorted(config.id for config in configs)


def test_runs_that_an_executor_carries_side_by_side_have_one_thread_each(results, tmp_path, monkeypatch):
    study = studies.load("mine", written(tmp_path, GOOD))
    threads = []
    monkeypatch.setattr(execution, "execute", lambda config, device, number: threads.append(number))
    with ThreadPoolExecutor(1) as pool:
        ensure(study, train=True, executor=pool, required=False)
        ensure(study, train=True, executor=pool, threads=3, required=False)
    assert threads == [1] * 4 + [3] * 4


def test_durations():
    assert cli.seconds("2h") == 7200
    assert cli.seconds("1h30m") == 5400
    assert cli.seconds("45s") == 45


@pytest.mark.parametrize(("arguments", "expected"), [
    (["results", "--study", "warmup"], "did you mean 'warm-up'"),
    (["results", "--preset", "lapto"], "did you mean 'laptop'"),
    (["results", "--budget", "soon"], "'soon' is not a duration such as 45m"),
])
def test_the_command_line_refuses_in_one_sentence(arguments, expected):
    done = subprocess.run([sys.executable, "-m", "labbook", *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_status_says_what_is_there_and_what_is_missing(smoke_results, monkeypatch, capsys):
    monkeypatch.setenv("CIFARLAB_RESULTS", str(smoke_results))
    assert cli.main(["status"]) == 0
    printed = capsys.readouterr().out
    for name in studies.names():
        assert name in printed
    assert "in the store, in none of these studies" in printed


def test_a_reader_who_has_had_enough_gets_no_traceback(results):
    nobody, output = os.pipe()
    os.close(nobody)
    command = [sys.executable, "-m", "labbook", "status", "--study", "warm-up"]
    done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True)
    os.close(output)
    assert (done.returncode, done.stderr) == (1, "")


def test_status_counts_what_is_done_missing_diverged_and_of_older_code(results, monkeypatch, capsys, tmp_path):
    study = studies.load("mine", written(tmp_path, GOOD))
    monkeypatch.setattr(cli, "chosen_studies", lambda _: [study])
    configs = [config for _, config in study.runs()]
    for config in configs[:3]:
        runner.run(config)
    for config, part, values in ((configs[0], "final", {"diverged": True}),
                                 (configs[1], "provenance", {"code_digest": "another"})):
        path = store.path_of(config.id)
        result = json.loads(path.read_text())
        result[part] |= values
        path.write_text(json.dumps(result))
    assert cli.main(["status"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("mine "))
    # planned, done, missing, diverged, older code
    assert row.split()[1:] == [str(n) for n in (len(configs), 3, len(configs) - 3, 1, 1)]
    store.path_of("x").with_suffix(".json.damaged").touch()
    assert cli.main(["status"]) == 1
    assert "set aside as damaged: x.json.damaged" in capsys.readouterr().out


def test_the_matrix_goes_seed_by_seed_through_all_studies():
    chosen = [studies.load(name) for name in ("dropout", "kernel-pairs", "depth")]
    runs = cli.planned(chosen)
    assert [config.seed for config in runs] == sorted(config.seed for config in runs)
    first = {config.id for config in runs if config.seed == 0}
    assert first == {study.config(level, 0).id for study in chosen for level in study.levels}


LEVELS = {
    config.with_(seed=0).id: (f"{name}: {level}", config)
    for name in studies.names() for level, config in studies.load(name).runs(seeds=[0])
}


@pytest.mark.parametrize("config", [pytest.param(config, id=name) for name, config in LEVELS.values()])
def test_every_level_of_every_study_trains_one_step(config):
    """The network and the optimizer as planned; the images few and made up."""
    tiny = config.with_(dataset="synthetic", train_images=4, val_images=0, batch_size=4, epochs=1, warmup_epochs=0.5,
                        precision="float32", low_resolution_epochs=1.0)
    images, none = data.split(data.load(tiny), tiny)
    before = models.build(tiny).state_dict()
    trained = training.train(tiny, images, none)
    assert math.isfinite(trained.history[-1]["train_loss"])
    after = trained.model.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name, _ in trained.model.named_parameters())


def test_a_wide_study_repeats_comparisons_that_its_main_study_plans():
    for name in studies.names():
        if name.endswith("-wide"):
            planned = {frozenset(pair) for pair in comparing.pairs_of(studies.load(name.removesuffix("-wide")))}
            assert {frozenset(pair) for pair in comparing.pairs_of(studies.load(name))} <= planned, name


def test_narrow_runs_are_packed_and_wide_ones_get_all_cores(monkeypatch):
    monkeypatch.setattr(packing, "cores_here", lambda: 4)
    monkeypatch.setattr(packing, "memory_here", lambda: 64.0)
    narrow, wide = RunConfig.of(width=16), RunConfig.of(width=2 * packing.PACKED_WIDTH)
    several = [narrow.with_(seed=seed) for seed in range(5)]
    assert packing.shared_out([wide, *several], None, "cpu") == [(several, 4), ([wide], 1)]
    assert packing.shared_out([wide, narrow], None, "cpu") == [([narrow], 1), ([wide], 1)]   # all cores for a lone one
    assert packing.shared_out([wide], None, "cpu") == [([wide], 1)]
    assert packing.shared_out([wide, narrow], 3, "cpu") == [([wide, narrow], 3)]
    assert packing.cores() >= 1


def test_of_a_crossed_study_each_main_level_has_its_best_setting(results, tmp_path):
    crossed = "crossed:\n  one: {width: 2}\n  two: {width: 3}\n"
    text = GOOD.replace("reference: plain", "reference: plain / one") + crossed
    study = studies.load("mine", written(tmp_path, text))
    assert (study.mains, study.settings) == (["plain", "dropped"], ["one", "two"])
    for _, config in study.runs():
        runner.run(config)
    found = ensure(study, train=False)
    mean = {level: found.values("val_accuracy", level).mean() for level in found.levels}
    assert found.best_settings == {
        main: max((f"{main} / {setting}" for setting in study.settings), key=mean.get) for main in study.mains
    }
    # A setting at which a run is lost is no best setting, whatever the others reached.
    best = found.best_settings["plain"]
    first = found.runs[found.runs["level"] == best].index[0]
    (other,) = (f"plain / {setting}" for setting in study.settings if f"plain / {setting}" != best)
    lost = replace(found, runs=found.runs.assign(diverged=found.runs.index == first))
    assert lost.best_settings["plain"] == other


def highest(results, seeds=(0, 1, 2)):
    """The level with the highest mean validation accuracy over these seeds, of those that have them all."""
    means = {level: found.loc[list(seeds)].mean() for level in results.levels
             if set(seeds) <= set((found := results.values("val_accuracy", level)).index)}
    return max(means, key=means.__getitem__)


def test_each_normalization_has_the_rate_that_suited_it_best(monkeypatch):
    monkeypatch.delenv("CIFARLAB_RESULTS", raising=False)
    swept = ensure("normalization-rates", train=False)
    at_best, wide = studies.load("normalization"), studies.load("normalization-wide")
    chosen = swept.best_settings
    assert list(chosen) == list(at_best.levels)
    for norm, level in chosen.items():
        assert at_best.config(norm, 0) == swept.config_of(level)
        assert wide.config(norm, 0) == at_best.config(norm, 0).with_(width=wide.fixed["width"])


def test_the_recipe_of_highest_means_is_made_of_each_studys_highest_level(monkeypatch):
    monkeypatch.delenv("CIFARLAB_RESULTS", raising=False)
    taken = {"dropout": ("dropout", "dropout_at"), "normalization": ("norm", "learning_rate"),
             "decay": ("schedule",), "kernel": ("kernel_size",), "depth": ("model", "depth", "shortcut")}
    recipe = studies.load("recipe").config("highest means", 0)
    for name, fields in taken.items():
        found = ensure(name, train=False)
        config = found.config_of(highest(found))
        assert [getattr(recipe, field) for field in fields] == [getattr(config, field) for field in fields]
    decay = studies.load("decay").config(recipe.schedule.replace("_", " "), 0)
    assert recipe.warmup_epochs / recipe.epochs == decay.warmup_epochs / decay.epochs
