"""The results of a study: what exists is read, what is missing is trained and only that, what was changed is said."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from cifarlab.config import PRESETS
from labbook.errors import ConfigError, LabError
from labbook.page import book
from labbook.runs import engine, files, store
from labbook.studies import results as reading
from labbook.studies import study as studies
from labbook.studies.results import as_list, as_seeds, ensure

from tests import made
from tests.test_studies import GOOD, written


@pytest.fixture
def study(results, tmp_path):
    return studies.load("mine", written(tmp_path, GOOD))


def read_only(study, **given):
    return ensure(study, train=False, required=False, **given)


@pytest.mark.parametrize(("given", "changed"), [
    ({"seeds": "[0]"}, {"seeds": [0]}),
    ({"seeds": [0, 1]}, {}),
    ({"levels": "[plain]"}, {"levels": ["plain"]}),
    ({"epochs": 3, "width": PRESETS["smoke"]["width"]}, {"epochs": 3}),
    # Each makes the other redundant.
    ({"preset": "report", **{name: PRESETS["report"][name] for name in ("epochs", "width", "precision")},
      **{name: PRESETS["smoke"][name] for name in ("dataset",)}},) * 2,
    # Neither is possible without the other.
    ({"train_images": 50_000, "val_images": 0},) * 2,
])
def test_what_was_changed_is_what_makes_the_runs_others(study, given, changed):
    assert read_only(study, **given).changed == changed


def test_a_parameter_that_only_the_reference_sets_changes_the_others(results, tmp_path):
    study = studies.load("mine", written(tmp_path, GOOD.replace("plain: {}", "plain: {width: 3}")))
    assert read_only(study, width=3).changed == {"width": 3}


@pytest.mark.parametrize(("given", "expected"), [
    ({"warmup_epochs": 5.0}, r"warmup_epochs: 5\.0 would change nothing: beside its"),
    ({"seed": 3}, "seed: a study has several"),
    ({"train": math.nan}, "train: nan is refused: it must be True, False or None"),
    ({"train": "no"}, "train: 'no' is refused"),
    ({"preset": 0}, "preset: 0 is not known"),
    ({"preset": ""}, "preset: '' is not known"),
    ({"preset": ["smoke"]}, r"preset: \['smoke'\] is not known"),
    ({"seeds": "2024-13-01"}, "seeds: '2024-13-01' is refused: it must be a list"),
    ({"seeds": "2024-11-01"}, "seeds: '2024-11-01' is refused: it must be a list"),
    ({"seeds": [10**300]}, "seeds: .* is refused: each must be from 0 to"),
    ({"seeds": [-1]}, r"seeds: \[-1\] is refused: each must be from 0 to"),
    ({"seeds": "9" * 5000}, "seeds: '999.* is refused"),
    ({"seeds": "[" * 600}, "seeds: .* is refused"),
    ({"seeds": math.nan}, "seeds: nan is refused"),
    ({"levels": "[droped]"}, r"level: 'droped' .* \(did you mean 'dropped'\?\)"),
    ({"levels": 3}, "levels: 3 is refused: it must be a list such as"),
    ({"epochs": 10**400}, "epochs: .* is refused"),
    ({"epochs": 10**5000}, "epochs: .* is refused"),
    ({"epochs": math.inf}, "epochs: inf is refused"),
    ({"epochs": math.nan}, "epochs: nan is refused"),
    ({"epochs": "10"}, "epochs: '10' is refused"),
    ({"epochs": [1]}, r"epochs: \[1\] is refused"),
    ({"epoch": 3}, r"unknown parameter 'epoch' \(did you mean 'epochs'\?\)"),
    ({"id": 3}, "unknown parameter 'id'"),
])
def test_what_cannot_be_is_refused_in_short_sentences_before_anything_runs(study, monkeypatch, given, expected):
    with pytest.raises(LabError, match=expected) as refusal:
        ensure(study, **{"required": False} | given)
    assert len(str(refusal.value)) < 3000


def test_only_a_study_or_the_name_of_one_is_opened(results):
    for name in (None, 3, "warmup", "../studies/decay", "x" * 300, "a\0b", ["decay"], 10**5000):
        with pytest.raises(studies.StudyError, match=r"study: .* is not known"):
            ensure(name)


def test_a_parameter_that_every_level_sets_is_refused_and_kept_from_side_studies(results, tmp_path, monkeypatch):
    text = GOOD.replace("plain: {}", "plain: {width: 2}").replace("{dropout: 0.5}", "{width: 3}")
    study = studies.load("mine", written(tmp_path, text))
    assert study.set_by_every_level == {"width"}
    with pytest.raises(studies.StudyError, match="width: 8 would change nothing: every level of study 'mine'"):
        ensure(study, width=8, required=False)
    monkeypatch.setattr(book, "load", lambda _: study)
    monkeypatch.setattr(book, "study", lambda name, pool, **given: given)
    assert book.side_study("mine", True, width=8, seeds=[0]) == {"required": False, "seeds": [0]}
    assert book.side_study("mine", False, width=8, seeds=[0]) == {"required": False}
    # What the study fixes is its own as well: a repetition at another width stays at that width.
    fixed = studies.load("mine", written(tmp_path, GOOD + "fixed: {width: 6}\n"))
    monkeypatch.setattr(book, "load", lambda _: fixed)
    assert book.side_study("mine", True, width=8, epochs=3) == {"required": False, "epochs": 3}
    asked = book.side_study("mine", True, preset="report", width=None)
    assert asked == {"required": False, "preset": "report", "width": 6}
    assert book.side_study("mine", True, preset="report") == {"required": False, "preset": "report"}


@pytest.mark.parametrize(("value", "expected"), [("[0, 1]", [0, 1]), ([3], [3]), ("2", [2]), (None, None), ((1,), [1])])
def test_a_list_may_come_as_papermills_text(value, expected):
    assert as_list("seeds", value, int) == as_seeds(value) == expected


@pytest.mark.parametrize("value", ["zero", "[0, a]", "[]", [], [0, 0], [0.5], [True], "[0, 1", "{", "a: b: c"])
def test_a_wrong_list_is_refused(value):
    with pytest.raises(ConfigError, match=r"seeds: .* is refused"):
        as_list("seeds", value, int)


@pytest.fixture
def trained(monkeypatch) -> list[str]:
    """Training replaced by writing a made result; the ids of what was trained."""
    ids = []

    def train(configs, *_, **__):
        for config in engine.missing(configs):
            ids.append(config.id)
            made.put(config)
        return []

    monkeypatch.setattr(reading, "execute", train)
    return ids


def test_what_exists_is_read_and_what_is_missing_is_trained_only_where_parameters_were_changed(study, trained):
    with pytest.raises(engine.RunFailedError, match=r"none of its 4 runs .*`make results STUDY=mine"):
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
    ensure(study, seeds=[7], train=False, required=False)
    assert len(trained) == 4


def test_failures_are_raised_each_a_line(study, monkeypatch):
    monkeypatch.setattr(reading, "execute", lambda *_, **__: ["one: failed", "two: failed"])
    with pytest.raises(engine.RunFailedError, match="one: failed\ntwo: failed"):
        ensure(study, train=True)


def test_a_damaged_result_counts_as_missing(study):
    config = study.config("plain", 0)
    made.put(config)
    assert engine.missing([config]) == []
    store.path_of(config.id).write_text("{")
    with pytest.warns(files.DamagedResultWarning):
        assert engine.missing([config]) == [config]


def test_a_diverged_run_is_counted_apart_and_drawn_as_such(study):
    from labbook.page import figures

    made.put(study.config("plain", 0))
    made.put(study.config("dropped", 0), diverged=True)
    found = ensure(study)
    assert found.levels == ["plain"]
    assert found.trained == ["plain", "dropped"]
    assert set(found.history["level"]) == {"plain"}
    assert found.runs.set_index("level").loc["dropped", "diverged"]
    figure = figures.seeds_by_level(found.runs, found.levels, "val_accuracy")
    assert any("diverged" in text.get_text() for text in figure.axes[0].texts)


def test_of_a_crossed_study_each_main_level_has_its_best_setting(results, tmp_path):
    text = GOOD.replace("reference: plain", "reference: plain / one")
    study = studies.load("mine", written(tmp_path, text + "crossed:\n  one: {width: 2}\n  two: {width: 3}\n"))
    assert (study.mains, study.settings) == (["plain", "dropped"], ["one", "two"])
    accuracy = {"plain / one": 0.6, "plain / two": 0.7, "dropped / one": 0.8, "dropped / two": 0.5}
    for level, config in study.runs():
        made.put(config, accuracy[level] + 0.01 * config.seed)
    found = ensure(study, train=False)
    assert found.best_settings == {"plain": "plain / two", "dropped": "dropped / one"}
    # A setting at which a run is lost is no best setting, whatever the others reached.
    first = found.runs[found.runs["level"] == "plain / two"].index[0]
    lost = replace(found, runs=found.runs.assign(diverged=found.runs.index == first))
    assert lost.best_settings["plain"] == "plain / one"
