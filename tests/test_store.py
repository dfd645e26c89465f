"""Results as files: every one is input, checked when it is read, set aside when it is damaged, never deleted."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from cifarlab.config import PRESETS, RunConfig
from labbook.lab import digest_of
from labbook.paths import project_root
from labbook.runs import files, runner, scratch, store

from tests import made

SMOKE = RunConfig.of(**PRESETS["smoke"])


@pytest.fixture
def one_run(results) -> store.Result:
    return made.put(SMOKE)


def test_a_result_reads_as_it_was_written(one_run):
    assert store.read(one_run.id) == one_run
    assert store.read_all() == [one_run]
    written = json.loads(store.path_of(one_run.id).read_text())
    assert written["provenance"] == one_run.facts
    assert store.read(SMOKE.with_(seed=1).id) is None


def with_(**changes):
    """A damage: the file with other values; ``history__val_loss`` is that of its last epoch."""
    def damage(text: str) -> str:
        result = json.loads(text)
        for name, value in changes.items():
            place, _, key = name.partition("__")
            if not key:
                result[place] = value
            else:
                (result[place][-1] if place == "history" else result[place])[key] = value
        return json.dumps(result)

    return damage


def nested(name: str, depth: int = 100_000):
    """A damage: lists in lists in the place of a field."""
    def damage(text: str) -> str:
        return with_(**{name: "HERE"})(text).replace('"HERE"', "[" * depth + "]" * depth)

    return damage


def digits(name: str, count: int):
    """A damage: a number of so many digits in the place of a field."""
    def damage(text: str) -> str:
        return with_(**{name: "HERE"})(text).replace('"HERE"', "1" * count)

    return damage


DAMAGES = {
    "half of it": (lambda text: text[: len(text) // 2], "damaged"),
    "empty": (lambda text: "", "damaged"),
    "no text": (lambda text: "\udcff\udcfe{", "damaged"),
    "other epochs": (with_(config__epochs=3), "its id is"),
    "another schema": (with_(schema_version=0), "schema_version"),
    "a field renamed": (lambda text: text.replace('"seed": 0', '"sead": 0'), "sead"),
    "a figure renamed": (lambda text: text.replace('"val_loss"', '"loss"'), "val_loss"),
    "another program's": (lambda text: json.dumps({"hello": "world"}), "schema_version Field required"),
    "a list": (lambda text: "[]", "damaged"),
    "a number": (lambda text: "7", "damaged"),
    "no history": (with_(history=[]), "its history has 0 epochs, its configuration 2"),
    "epochs out of order": (with_(history__epoch=1), "not numbered"),
    "accuracy over 1": (with_(history__val_accuracy=5.0, final__val_accuracy=5.0), "less than or equal to 1"),
    "NaN": (with_(history__val_loss=float("nan"), final__val_loss=float("nan")), "finite number"),
    "no loss": (with_(history__val_loss=None, final__val_loss=None), "it did not diverge in epoch 2, but has no val_"),
    "another final": (with_(final__train_accuracy=0.125), "its final train_accuracy is 0.125, its last epoch's"),
    # Hostile: what the validator's own code may fail at.
    "provenance of 100,000 lists": (nested("provenance__cpu"), "damaged"),
    "configuration of 100,000 lists": (nested("config__width"), "damaged"),
    "provenance of 900 lists": (nested("provenance__cpu", 900), "provenance"),
    "a field cls": (with_(config__cls=1), "cls"),
    "a field self": (with_(config__self=1), "self"),
    "a dropout of 400 digits": (digits("config__dropout", 400), "dropout"),
    "a seed of 5,000 digits": (digits("config__seed", 5000), "damaged"),
    "an epoch of 400 digits": (digits("history__epoch", 400), "damaged"),
    "a loss of 400 digits": (digits("final__fit_loss", 400), "final"),
    "configuration a list": (with_(config=[]), "config"),
    "configuration a text": (with_(config="resnet9"), "config"),
    "a list for a field": (with_(config__model=["resnet9"]), "model"),
    "an id a list": (with_(id=[]), "id"),
    "an id with a slash": (with_(id="../x"), "its id is"),
    # Provenance: types and ranges, not only presence.
    "no provenance": (with_(provenance={}), "provenance.date Field required"),
    "provenance a list": (with_(provenance=[]), "provenance"),
    "a digest that is a list": (with_(provenance__code_digest=[]), "provenance.code_digest"),
    "an empty digest": (with_(provenance__code_digest=""), "provenance.code_digest"),
    "threads a text": (with_(provenance__threads="x"), "provenance.threads"),
    "threads true": (with_(provenance__threads=True), "provenance.threads"),
    "a negative memory": (with_(provenance__peak_memory_bytes=-1), "provenance.peak_memory_bytes"),
    "a date that is a number": (with_(provenance__date=1), "provenance.date"),
    "a date that is none": (with_(provenance__date="yesterday"), "provenance"),
    "a date without a zone": (with_(provenance__date="2026-01-01T00:00:00"), "provenance"),
    "a version that is a number": (with_(provenance__versions={"python": "3.11", "torch": 1}), "versions.torch"),
    "no version of python": (with_(provenance__versions={}), "do not name python's"),
    "no processor": (with_(provenance__cpu={}), "provenance.cpu.model Field required"),
    "instructions a text": (with_(provenance__cpu={"model": "x", "instructions": "avx2"}), "cpu.instructions"),
    "an empty sitting": (with_(provenance__sittings=[{}]), r"provenance.sittings.0.after_epochs Field required"),
    "sittings a dictionary": (with_(provenance__sittings={"0": {}}), "provenance.sittings"),
    "seconds infinite": (with_(provenance__training_seconds=float("inf")), "training_seconds"),
    "an unknown fact": (with_(provenance__colour="red"), "provenance.colour"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_or_hostile_file_is_named_and_set_aside(one_run, name):
    damage, reason = DAMAGES[name]
    path = store.path_of(one_run.id)
    damaged = damage(path.read_text()).encode(errors="surrogateescape")
    path.write_bytes(damaged)
    with pytest.warns(files.DamagedResultWarning, match=rf"{path.name} is damaged or foreign .*{reason}") as warned:
        assert store.read(one_run.id) is None
    assert len(str(warned[0].message)) < 800
    assert not path.exists()
    assert store.set_aside() == [path.name + ".damaged"]
    assert path.with_name(path.name + ".damaged").read_bytes() == damaged


def with_another_schedule(fields: dict) -> dict:
    """As a library would have written it that knows one more."""
    defaults = {name: field.default for name, field in RunConfig.model_fields.items()}
    config = fields["config"] | {"schedule": "cooldown"}
    changed = {name: value for name, value in config.items() if value != defaults[name]}
    return fields | {"config": config, "id": f"resnet9-cooldown-{digest_of(changed)}"}


def with_another_field(fields: dict) -> dict:
    """As a library would have written it whose runs have one more choice."""
    defaults = {name: field.default for name, field in RunConfig.model_fields.items()}
    config = fields["config"] | {"new_choice": 1}
    changed = {name: value for name, value in config.items() if value != defaults.get(name)}
    return fields | {"config": config, "id": f"resnet9-{digest_of(changed)}"}


@pytest.mark.parametrize("later", [
    lambda fields: fields | {"schema_version": 2}, with_another_field, with_another_schedule,
])
def test_a_newer_versions_file_is_left_as_it_is(one_run, later):
    path = store.path_of(one_run.id)
    text = json.dumps(later(json.loads(path.read_text())))
    path.write_text(text)
    with pytest.raises(files.StoreError, match=rf"{path.name} was written by a newer version .* update the library"):
        store.read(one_run.id)
    assert path.read_text() == text
    assert store.set_aside() == []


def test_a_result_under_another_runs_name_is_foreign(one_run):
    path = store.path_of(one_run.id)
    path.rename(path.with_name("resnet9-w64-e20-constant-s0-44136fa3.json"))
    with pytest.warns(files.DamagedResultWarning, match="it holds the run"):
        assert store.read_all() == []


def test_a_file_that_another_reader_has_set_aside_is_no_error(one_run, monkeypatch, recwarn):
    path = store.path_of(one_run.id)

    def validated(_):
        path.unlink()
        raise ValueError("damaged")

    monkeypatch.setattr(store.Result, "model_validate", validated)
    assert store.read(one_run.id) is None
    assert not recwarn.list


@pytest.mark.parametrize("kind", ["pipe", "link to nothing", "folder"])
def test_an_entry_that_is_no_file_is_named_and_nothing_waits_for_it(one_run, kind):
    path = store.runs_folder() / "x.json"
    {"pipe": os.mkfifo, "folder": os.mkdir, "link to nothing": lambda path: path.symlink_to("nowhere")}[kind](path)
    with pytest.raises(files.StoreError, match=str(path)):
        store.read_all()


def test_a_folder_of_runs_that_cannot_be_read_is_not_taken_for_an_empty_one(one_run, monkeypatch):
    def refused(_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(files.StoreError, match=r"runs could not be read: Permission denied"):
        store.read_all()


def test_a_results_folder_that_is_a_file_is_refused_in_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LABBOOK_RESULTS", str(tmp_path / "file"))
    with pytest.raises(files.StoreError, match=r"could not be read: Not a directory.*LABBOOK_RESULTS"):
        store.read(SMOKE.id)
    with pytest.raises(files.StoreError, match=r"LABBOOK_RESULTS"):
        runner.run(SMOKE)


# --- a store that can only be read ------------------------------------------------------------------------------------


@pytest.fixture
def read_only(one_run, results, monkeypatch):
    """The store with one run on a disk that takes nothing: as the system answers, also to an administrator."""
    (results / ".scratch").mkdir()

    def guarded(name, places=1):
        real = getattr(os, name)

        def call(*arguments, **named):
            for place in arguments[:places]:
                if str(place).startswith(str(results)):
                    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(place))
            return real(*arguments, **named)

        monkeypatch.setattr(os, name, call)

    for name in ("mkdir", "unlink", "remove"):
        guarded(name)
    for name in ("rename", "replace", "link"):
        guarded(name, 2)
    opened, opening = os.open, Path.open

    def os_open(path, flags, *more, **named):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and str(path).startswith(str(results)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, flags, *more, **named)

    def path_open(path, mode="r", *more, **named):
        if set(mode) & set("wax+") and str(path).startswith(str(results)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opening(path, mode, *more, **named)

    monkeypatch.setattr(os, "open", os_open)
    monkeypatch.setattr(Path, "open", path_open)
    return one_run


def test_from_a_read_only_store_finished_runs_are_read(read_only):
    assert store.read_all() == [read_only]
    assert runner.run(SMOKE) == read_only
    assert not scratch.under_way(SMOKE.id)
    assert scratch.progress() == {}
    scratch.clear(SMOKE.id)


def test_in_a_read_only_store_what_cannot_be_done_is_said_with_folder_and_remedy(read_only, results):
    for attempt in (
        lambda: runner.run(SMOKE.with_(seed=1)),
        lambda: store.write(read_only),
        lambda: scratch.note(SMOKE.id, 1, 2),
        lambda: scratch.claim(SMOKE.id).acquire(timeout=0),
    ):
        with pytest.raises(files.StoreError, match=rf"{results}.*Read-only file system.*LABBOOK_RESULTS"):
            attempt()


def test_a_damaged_file_that_cannot_be_set_aside_is_named(read_only, monkeypatch):
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"{")
    with pytest.raises(files.StoreError, match=r"is damaged or foreign .* could not be set aside .* Read-only"):
        store.read(SMOKE.id)


# --- what is committed ------------------------------------------------------------------------------------------------


def test_every_committed_result_reads_and_its_id_is_its_configurations():
    """A default that is changed gives committed runs other ids. Read without the store, which would set them aside."""
    paths = files.listed(project_root() / "results" / "runs", "*.json")
    assert len(paths) > 700
    for path in paths:
        result = store.Result.model_validate_json(path.read_text(encoding="utf-8"))
        assert result.id == RunConfig.of(**result.config).id == path.stem


def test_nothing_that_is_committed_was_set_aside():
    assert not list((project_root() / "results").rglob("*.damaged"))
