"""Studies as files: what is wrong or odd is refused by name; every committed study loads and can be trained."""

from __future__ import annotations

import math
import os
import re

import pytest
import torch
from cifarlab.config import PRESETS
from labbook.errors import ConfigError
from labbook.lab import the_lab
from labbook.page import claims
from labbook.studies import study as studies
from labbook.studies.results import ensure

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
    ("dropped: {dropout: 0.5}", "? [1, 2]\n  : {dropout: 0.5}", r"the name \(1, 2\) is no text for YAML"),
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


def bomb() -> str:
    """Aliases of aliases: a few lines that would be a billion values if they were written out."""
    lines = ["a0: &a0 [1, 1]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(("old", "new", "expected"), [
    ("title: T", "title: !!int foo", "it is not YAML: .*invalid literal"),
    ("title: T", f"title: {'9' * 5000}", "it is not YAML: "),
    ("title: T", f"title: {'9' * 300}", "title: a number of about 301 digits is refused"),
    ("title: T", f"title: {'{a: ' * 500}", "it is nested too deeply"),
    ("title: T", f"title: {'[' * 500}{']' * 500}", "it is nested too deeply"),
    ("title: T", "title: !!python/object/apply:os.system [echo]", "it is not YAML: could not determine a constructor"),
    ("title: T", "title: !!binary x", "it is not YAML: failed to decode base64"),
    ("title: T", "title: 3", r"title: 3 is refused: .* Put it in quotes\."),
    ("title: T", "title: [T]", r"title: \['T'\] is refused: input should be a valid string\.$"),
    ("title: T", f"{bomb()}\ntitle: *a9", "title: .* is refused"),
    ("plain: {}", "plain: {dropout: &a [1]}", r"levels\.plain\.dropout: \[1\] is no single value"),
    ("plain: {}", "plain: {dropout: null}", "levels.plain.dropout: None is no single value"),
    ("plain: {}", "plain: []", r"levels\.plain: \[\] is refused"),
    ("plain: {}", "'': {}", "levels: one has an empty name"),
    ("seeds: [0, 1]", f"seeds: [0, {'9' * 300}]", "seeds.1: a number of about 301 digits is refused"),
    ("seeds: [0, 1]", "seeds: [0, 1.0]", "seeds.1: 1.0 is refused"),
    ("preset: smoke", "preset: 0", "preset"),
    ("preset: smoke", "preset: small", "preset: 'small' is not known. Allowed: smoke"),
    ("dropout: 0.5", f"epochs: {'9' * 400}", "epochs: .* is refused"),
    ("dropout: 0.5", "epochs: '10'", "epochs: '10' is refused"),
    ("dropout: 0.5", "dropout: .nan", "dropout: nan is refused"),
    ("title: T", "title: T\n---\ntitle: U", "but found another document"),
    ("title: T", "title: \0", "it is not YAML: .*special characters"),
])
def test_odd_yaml_is_refused_in_one_short_sentence_that_names_the_file(tmp_path, old, new, expected):
    folder = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(studies.StudyError) as refusal:
        studies.load("mine", folder)
    said = str(refusal.value)
    assert re.search(expected, said)
    assert all(line.startswith("mine.yml: ") for line in said.splitlines())
    assert len(said) < 3000


@pytest.mark.parametrize("date", ["2024-13-45", "2024-12-01", "on", "1:30"])
def test_what_looks_like_a_date_or_a_switch_is_text(tmp_path, date):
    assert studies.load("mine", written(tmp_path, GOOD.replace("title: T", f"title: {date}"))).title == date


@pytest.mark.parametrize("make", [
    lambda path: path.mkdir(), lambda path: path.symlink_to("nowhere"), lambda path: path.symlink_to(path.name),
    lambda path: os.mkfifo(path),
])
def test_what_is_no_file_is_named_and_not_waited_for(tmp_path, make):
    make(tmp_path / "mine.yml")
    assert studies.names(tmp_path) == ["mine"]
    with pytest.raises(studies.StudyError, match=r"mine\.yml: it is no file, but a folder, a broken link or a device"):
        studies.load("mine", tmp_path)


def test_a_fixed_value_that_every_level_sets_is_refused(tmp_path):
    text = GOOD.replace("plain: {}", "plain: {width: 2}").replace("{dropout: 0.5}", "{width: 3}")
    with pytest.raises(studies.StudyError, match="fixed: width would change nothing, every level sets it"):
        studies.load("mine", written(tmp_path, text + "fixed: {width: 6}\n"))


def test_levels_may_share_settings_by_yamls_merge(tmp_path):
    text = GOOD.replace("dropped: {", "dropped: &half {") + "  wide:\n    <<: *half\n    width: 6\n"
    assert studies.load("mine", written(tmp_path, text)).levels["wide"] == {"dropout": 0.5, "width": 6}


def test_small_images_keep_their_share_of_a_run_of_another_length(tmp_path):
    small = "{model: speednet, width: 8, low_resolution: 24, low_resolution_epochs: 1, whitening_bias_epochs: 1}"
    study = studies.load("mine", written(tmp_path, GOOD.replace("{dropout: 0.5}", small)))
    assert study.config("dropped", 0).low_resolution_epochs == 1
    with pytest.raises(ConfigError, match=r"^epochs: -3 is refused: [^\n]*$"):   # and nothing that nobody gave
        study.config("dropped", 0, epochs=-3)
    longer = study.config("dropped", 0, epochs=8)
    assert longer.low_resolution_epochs == longer.whitening_bias_epochs == 4


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


def test_runs_go_seed_by_seed_and_overrides_win(tmp_path):
    study = studies.load("mine", written(tmp_path, GOOD))
    assert [(level, config.seed) for level, config in study.runs()] == [
        ("plain", 0), ("dropped", 0), ("plain", 1), ("dropped", 1)
    ]
    assert study.config("plain", 0, epochs=7, width=None).epochs == 7
    assert study.config("plain", 0, width=None).width == PRESETS["smoke"]["width"]
    assert study.config("plain", 0, preset="laptop").width == PRESETS["laptop"]["width"]


def test_what_a_level_sets_wins_and_levels_may_not_become_the_same_run(tmp_path):
    study = studies.load("mine", written(tmp_path, GOOD.replace("dropout: 0.5", "width: 8")))
    assert study.config("dropped", 0, width=16).width == 8
    with pytest.raises(studies.StudyError, match=r"'dropped' and 'plain' of study 'mine' .* with width = 8"):
        study.runs(width=8)


@pytest.mark.parametrize("name", studies.names())
def test_every_committed_study_is_valid_and_its_runs_are_distinct(name):
    runs = studies.load(name).runs()
    assert len({config.id for _, config in runs}) == len(runs)


def test_a_wide_study_repeats_comparisons_that_its_main_study_plans():
    for name in studies.names():
        if name.endswith("-wide"):
            planned = {frozenset(pair) for pair in claims.pairs_of(studies.load(name.removesuffix("-wide")))}
            assert {frozenset(pair) for pair in claims.pairs_of(studies.load(name))} <= planned, name


def smallest(config):
    """The run as small as it can be: what is left tells apart what must be tried, its network, optimizer, images."""
    return config.with_(
        seed=0, dataset="synthetic", train_images=4, val_images=0, batch_size=4, epochs=1, warmup_epochs=0.5, width=8,
        precision="float32", low_resolution_epochs=1.0, learning_rate=0.01, weight_decay=0.0, whitening_bias_epochs=0.0,
        label_smoothing=min(config.label_smoothing, 0.1), low_resolution_stages=1, split_seed=0, momentum=0.9)


LEVELS = {
    (tiny := smallest(config)).id: (f"{name}: {level}", tiny)
    for name in studies.names() for level, config in studies.load(name).runs(seeds=[0])
}


@pytest.mark.parametrize("tiny", [pytest.param(tiny, id=name) for name, tiny in LEVELS.values()])
def test_every_level_of_every_study_trains_one_step(tiny):
    """The network and the optimizer as planned but narrow; the images few and made up."""
    training = the_lab().training(tiny, torch.device("cpu"))
    before = {name: value.clone() for name, value in training.model.named_parameters()}
    (row,) = training.epochs()
    assert math.isfinite(row["train_loss"])
    assert any(not torch.equal(before[name], value) for name, value in training.model.named_parameters())


def highest(results, seeds=(0, 1, 2)):
    """The level with the highest mean validation accuracy over these seeds, of those that have them all."""
    means = {level: found.loc[list(seeds)].mean() for level in results.levels
             if set(seeds) <= set((found := results.values("val_accuracy", level)).index)}
    return max(means, key=means.__getitem__)


def test_each_normalization_has_the_rate_that_suited_it_best(monkeypatch):
    monkeypatch.delenv("LABBOOK_RESULTS", raising=False)
    swept = ensure("normalization-rates", train=False)
    at_best, wide = studies.load("normalization"), studies.load("normalization-wide")
    chosen = swept.best_settings
    assert list(chosen) == list(at_best.levels)
    for norm, level in chosen.items():
        assert at_best.config(norm, 0) == swept.config_of(level)
        assert wide.config(norm, 0) == at_best.config(norm, 0).with_(width=wide.fixed["width"])


def test_the_recipe_of_highest_means_is_made_of_each_studys_highest_level(monkeypatch):
    monkeypatch.delenv("LABBOOK_RESULTS", raising=False)
    taken = {"dropout": ("dropout", "dropout_at"), "normalization": ("norm", "learning_rate"),
             "decay": ("schedule",), "kernel": ("kernel_size",), "depth": ("model", "depth", "shortcut")}
    recipe = studies.load("recipe").config("highest means", 0)
    for name, fields in taken.items():
        found = ensure(name, train=False)
        config = found.config_of(highest(found))
        assert [getattr(recipe, field) for field in fields] == [getattr(config, field) for field in fields]
    decay = studies.load("decay").config(recipe.schedule.replace("_", " "), 0)
    assert recipe.warmup_epochs / recipe.epochs == decay.warmup_epochs / decay.epochs
