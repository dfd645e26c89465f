"""Results as files: whole or not at all, refused when damaged, never deleted."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from cifarlab.config import PRESETS, RunConfig, digest_of
from cifarlab.lab import LAB
from labbook.errors import ConfigError
from labbook.runs import files, runner, scratch, store

SMOKE = RunConfig.of(**PRESETS["smoke"], learning_rate=0.003)


@pytest.fixture
def one_run(results) -> store.Result:
    return runner.run(SMOKE.with_(epochs=1))


def test_a_run_writes_the_designs_schema(one_run):
    written = json.loads(store.path_of(one_run.id).read_text())
    assert set(written) == {"schema_version", "id", "config", "history", "final", "gradients", "provenance"}
    assert set(written["history"][0]) >= {"train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate",
                                          "seconds"}
    assert set(written["provenance"]) >= {
        "date", "device", "cpu", "threads", "precision", "versions", "dataset_md5", "git_commit", "git_clean",
        "code_digest", "wall_seconds", "images_per_second", "peak_memory_bytes",
    }
    assert written["final"]["fit_loss"] > 0
    assert [row["step"] for row in written["gradients"]] == [0, 1, 3]
    assert {"prep.conv", "stage3.1.conv2.conv", "classifier"} <= set(written["gradients"][0]["norms"])
    assert written["config"] == SMOKE.with_(epochs=1).model_dump()
    assert store.read(one_run.id) == one_run


def test_nothing_of_the_run_is_left_over_but_its_weights(one_run, results):
    left = [path.suffix for path in (results / ".scratch").rglob("*") if path.is_file()]
    assert sorted(left) == [".lock", ".pt"]


def with_(**changes):
    """A damage: the file with other values, ``history__val_loss`` being that of its last epoch."""
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


@pytest.mark.parametrize(("damage", "reason"), [
    (lambda text: text[: len(text) // 2], "damaged"),
    (lambda text: "", "damaged"),
    (lambda text: text.replace('"epochs": 1', '"epochs": 2'), "its id is"),
    (lambda text: text.replace('"schema_version": 1', '"schema_version": 0'), "schema_version"),
    (lambda text: text.replace('"seed": 0', '"sead": 0'), "sead"),
    (lambda text: text.replace('"val_loss"', '"loss"'), "val_loss"),
    (lambda text: json.dumps({"hello": "world"}), "schema_version Field required"),
    (with_(history=[]), "its history has 0 epochs, its configuration 1"),
    (with_(history__epoch=2), "not numbered"),
    (with_(history__val_accuracy=5.0, final__val_accuracy=5.0), "less than or equal to 1"),
    (with_(history__val_loss=float("nan"), final__val_loss=float("nan")), "finite number"),
    (with_(history__val_loss=None, final__val_loss=None), "it did not diverge in epoch 1, but has no val_loss there"),
    (with_(final__train_accuracy=0.125), "its final train_accuracy is 0.125, its last epoch's"),
    (with_(provenance={}), "its provenance lacks date, device"),
    (with_(provenance__cpu={}), "its provenance lacks cpu.model, cpu.instructions"),
    (with_(provenance__sittings=[{}]), "its provenance lacks code_digest of a sitting"),
])
def test_a_damaged_or_foreign_file_is_named_and_set_aside(one_run, damage, reason):
    path = store.path_of(one_run.id)
    damaged = damage(path.read_text())
    path.write_text(damaged)
    with pytest.warns(files.DamagedResultWarning, match=rf"{path.name} is damaged or foreign .*{reason}"):
        assert store.read(one_run.id) is None
    assert not path.exists()
    assert store.set_aside() == [path.name + ".damaged"]
    assert path.with_name(path.name + ".damaged").read_text() == damaged


@pytest.mark.parametrize("later", [
    lambda fields: fields | {"schema_version": 2},
    lambda fields: fields | {"config": fields["config"] | {"new_choice": 1}},
    lambda fields: fields | {"final": fields["final"] | {"new_figure": 1.0}},
    lambda fields: with_another_schedule(fields),
])
def test_a_newer_versions_file_is_left_as_it_is(one_run, later):
    path = store.path_of(one_run.id)
    text = json.dumps(later(json.loads(path.read_text())))
    path.write_text(text)
    with pytest.raises(files.StoreError, match=rf"{path.name} was written by a newer version .* update the library"):
        store.read(one_run.id)
    assert path.read_text() == text
    assert store.set_aside() == []


def with_another_schedule(fields: dict) -> dict:
    """As a library would have written it that knows one more."""
    defaults = {name: field.default for name, field in RunConfig.model_fields.items()}
    config = fields["config"] | {"schedule": "cooldown"}
    changed = {name: value for name, value in config.items() if value != defaults[name]}
    return fields | {"config": config, "id": f"resnet9-cooldown-{digest_of(changed)}"}


def test_a_results_folder_that_is_a_file_is_refused_in_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LABBOOK_RESULTS", str(tmp_path / "file"))
    with pytest.raises(files.StoreError, match=r"could not be made.*LABBOOK_RESULTS"):
        runner.run(SMOKE)
    with pytest.raises(files.StoreError, match="could not be written"):
        files.write_text(tmp_path / "file" / "x.json", "{}")
    with pytest.raises(files.StoreError, match=r"could not be read: Not a directory.*LABBOOK_RESULTS"):
        store.read(SMOKE.id)


def test_what_was_set_aside_first_is_kept_when_the_run_is_damaged_again(one_run):
    path = store.path_of(one_run.id)
    for content in ("first", "second", "third"):
        path.write_text(content)
        with pytest.warns(files.DamagedResultWarning):
            assert store.read(one_run.id) is None
    kept = [path.with_name(f"{path.name}{number}.damaged") for number in ("", ".2", ".3")]
    assert [aside.read_text() for aside in kept] == ["first", "second", "third"]
    assert store.set_aside() == sorted(aside.name for aside in kept)


def test_a_file_that_another_reader_has_set_aside_is_no_error(one_run, monkeypatch):
    """Two pages that are built side by side read one damaged file."""
    path = store.path_of(one_run.id)

    class Other:
        @staticmethod
        def model_validate(_):
            path.unlink()
            raise ValueError("damaged")

    monkeypatch.setattr(store, "Result", Other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.read(one_run.id) is None
        monkeypatch.setattr(store.Path, "glob", lambda *_: [path])
        assert store.read_all() == []


def test_every_committed_result_reads(monkeypatch):
    monkeypatch.delenv("LABBOOK_RESULTS", raising=False)
    paths = list(store.runs_folder().glob("*.json"))
    assert paths
    for path in paths:
        assert store.Result.model_validate_json(path.read_text(encoding="utf-8")).id == path.stem


def test_a_result_under_another_runs_name_is_foreign(one_run):
    path = store.path_of(one_run.id)
    path.rename(path.with_name("resnet9-w64-e20-constant-s0-44136fa3.json"))
    with pytest.warns(files.DamagedResultWarning, match="it holds the run"):
        assert store.read_all() == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_whole_and_no_other(one_run, monkeypatch, call):
    path = store.path_of(one_run.id)
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), full)
    with pytest.raises(files.StoreError, match=r"could not be written: No space left on device.*Free some space"):
        store.write(one_run)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_after_a_full_disk_nothing_is_trained_twice(results, monkeypatch):
    config = SMOKE.with_(epochs=1)

    def full(result):
        raise files.StoreError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write", full)
        with pytest.raises(files.StoreError):
            runner.run(config)
    steps = []
    result = runner.run(config, on_step=lambda: steps.append(1))
    assert steps == []
    assert [sitting["after_epochs"] for sitting in result.provenance["sittings"]] == [0, 1]
    assert result.provenance["wall_seconds"] > result.provenance["training_seconds"]
    assert store.read(config.id) == result


def test_what_was_kept_of_an_earlier_run_does_not_pass_for_the_new_ones(one_run, results):
    kept = [results / "predictions" / f"{one_run.id}.npz", results / "predictions" / f"{one_run.id}.mirror.npz",
            results / "models" / f"{one_run.id}.pt"]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"of the earlier run")
    store.path_of(one_run.id).unlink()
    with pytest.warns(files.DamagedResultWarning, match="is of an earlier run of this configuration"):
        runner.run(SMOKE.with_(epochs=1))
    assert not any(path.exists() for path in kept)
    assert store.set_aside() == sorted(f"{path.name}.damaged" for path in kept)


def test_what_a_kill_after_the_result_was_written_left_is_tidied_up(one_run):
    leftovers = scratch.checkpoint_path(one_run.id), scratch.progress_path(one_run.id)
    for leftover in leftovers:
        leftover.write_text("left")
    assert runner.run(SMOKE.with_(epochs=1)) == one_run
    assert not any(leftover.exists() for leftover in leftovers)


@pytest.mark.parametrize("threads", [0, -1, "two", 1.5, True])
def test_a_wrong_number_of_threads_is_refused(results, threads):
    with pytest.raises(ConfigError, match=rf"threads: {threads!r} is refused: it must be a whole number from 1"):
        runner.run(SMOKE, threads=threads)


def test_a_run_whose_last_step_spoiled_it_has_diverged_though_no_image_is_held_out(results):
    config = SMOKE.with_(optimizer="sgd", learning_rate=10.0, weight_decay=1.0, val_images=0)
    result = runner.run(config)
    assert result.final.train_loss is not None
    assert result.final.fit_loss is None
    assert result.final.diverged


def test_a_diverged_run_is_recorded_as_such(results):
    config = SMOKE.with_(optimizer="sgd", learning_rate=10.0, weight_decay=1.0, norm="none", epochs=8)
    result = runner.run(config)
    assert result.final.diverged
    text = store.path_of(config.id).read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert store.read(config.id) == result


def test_two_processes_that_ask_for_the_same_run_train_it_once(results):
    code = (
        "from cifarlab import runner; from cifarlab.config import RunConfig; import sys\n"
        "steps = []\n"
        "runner.run(RunConfig.of(**__import__('json').loads(sys.argv[1])), on_step=lambda: steps.append(1))\n"
        "print(len(steps))"
    )
    config = SMOKE.with_(epochs=20)
    both = [
        subprocess.Popen([sys.executable, "-c", code, config.model_dump_json()], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    steps = sorted(int(process.communicate(timeout=120)[0]) for process in both)
    assert steps[0] == 0
    assert steps[1] > 0


def test_a_gpu_asked_for_where_there_is_none(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(runner.DeviceError, match=r"device: 'cuda' was asked for.*Use device auto or cpu"):
        LAB.choose_device("cuda")
    with pytest.raises(runner.DeviceError, match=r"'gpu' is not known\. Allowed: auto, cpu, cuda"):
        LAB.choose_device("gpu")
    assert LAB.choose_device("auto").type == "cpu"


@pytest.mark.parametrize(
    ("asked", "units", "chosen", "line"),
    [
        ("auto", True, "bfloat16", "precision bfloat16: this processor has bfloat16 units"),
        ("auto", False, "bfloat16", "precision bfloat16: this processor has no bfloat16 units; "
                                    "rounded numbers are multiplied in float32"),
        ("bfloat16", True, "bfloat16", "precision bfloat16, as asked"),
        ("bfloat16", False, "bfloat16", "precision bfloat16, as asked: this processor has no bfloat16 units; "
                                        "rounded numbers are multiplied in float32"),
        ("float32", False, "float32", "precision float32, as asked"),
    ],
)  # fmt: skip
def test_precision_becomes_concrete_and_says_why(monkeypatch, asked, units, chosen, line):
    import torch

    monkeypatch.setattr(runner.precision, "has_fast_bfloat16", lambda: units)
    config, why = LAB.resolve(RunConfig.of(precision=asked), torch.device("cpu"))
    assert (config.precision, why) == (chosen, line)


def test_a_gpu_without_units_computes_in_float32(monkeypatch):
    import torch

    # Asked without an argument, PyTorch counts emulation.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "An old card")
    config, why = LAB.resolve(RunConfig.of(precision="auto"), torch.device("cuda"))
    assert (config.precision, why) == ("float32", "precision float32: An old card has no bfloat16 units")
