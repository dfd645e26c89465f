"""One run from its configuration to its file: killed and resumed to the same bits, written whole, cleared up after."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys

import pytest
import torch
from cifarlab import training
from cifarlab.config import PRESETS, RunConfig
from cifarlab.lab import LAB
from cifarlab.schedules import steps_per_epoch
from labbook.errors import ConfigError
from labbook.paths import results_in
from labbook.runs import checkpoints, files, runner, scratch, store

SMOKE = RunConfig.of(**PRESETS["smoke"], learning_rate=0.003)
ONE_EPOCH = SMOKE.with_(epochs=1)
MEASURED = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate")


@pytest.fixture(autouse=True)
def threads():
    """The number of this process's threads is what it was before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def numbers(result: store.Result) -> list:
    """What the run computed, without times and places."""
    return [
        [[getattr(row, name) for name in MEASURED] for row in result.history],
        result.final.model_dump(), [row.model_dump() for row in result.gradients],
        torch.load(scratch.weights_path(result.id), weights_only=True),
    ]


def same(one: list, other: list) -> bool:
    return one[:-1] == other[:-1] and one[-1].keys() == other[-1].keys() and all(
        torch.equal(value, other[-1][name]) for name, value in one[-1].items())


def stop_after(epochs: int):
    """For ``on_epoch``: as Ctrl-C after so many epochs."""
    def stop(history):
        if len(history) == epochs:
            raise KeyboardInterrupt

    return stop


def test_a_run_writes_the_designs_schema_and_leaves_nothing_over_but_its_weights(results):
    result = runner.run(ONE_EPOCH)
    written = json.loads(store.path_of(result.id).read_text())
    assert set(written) == {"schema_version", "id", "config", "history", "final", "gradients", "provenance"}
    assert set(written["provenance"]) >= {
        "date", "device", "cpu", "threads", "precision", "versions", "dataset_md5", "git_commit", "git_clean",
        "code_digest", "wall_seconds", "training_seconds", "images_per_second", "peak_memory_bytes", "sittings",
    }
    assert written["config"] == ONE_EPOCH.model_dump()
    assert written["final"]["fit_loss"] > 0
    assert [row["step"] for row in written["gradients"]] == [0, 1, 3]
    assert {"prep.conv", "stage3.1.conv2.conv", "classifier"} <= set(written["gradients"][0]["norms"])
    assert store.read(result.id) == result
    left = [path.suffix for path in (results / ".scratch").rglob("*") if path.is_file()]
    assert sorted(left) == [".lock", ".pt"]
    # What is there is read, and not trained again.
    assert runner.run(ONE_EPOCH, on_step=lambda: pytest.fail("trained again")) == result


WAITS_AFTER_EACH_STEP = """
import json, sys
from cifarlab.config import RunConfig
from labbook.runs import runner
runner.run(RunConfig.of(**json.loads(sys.argv[1])), threads=1,
           on_step=lambda: (print("step", flush=True), sys.stdin.readline()))
"""


def test_killed_at_a_random_step_a_run_resumes_to_the_same_bits(results, tmp_path):
    """By SIGKILL, in a process of its own, with everything on that draws random numbers."""
    config = SMOKE.with_(
        epochs=4, augment="flip_crop_cutout", dropout=0.3, dropout_at="blocks", schedule="warmup_cosine")
    an_epoch = steps_per_epoch(config)
    with results_in(tmp_path / "uninterrupted"):
        expected = numbers(runner.run(config, threads=1))
    kill_at = random.randrange(an_epoch + 1, 4 * an_epoch + 1)
    with subprocess.Popen([sys.executable, "-c", WAITS_AFTER_EACH_STEP, config.model_dump_json()],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        for step in range(1, kill_at + 1):
            assert process.stdout.readline() == "step\n"
            if step < kill_at:
                process.stdin.write("go on\n")
        # It waits after that step, before an epoch's checkpoint where that was its last.
        assert scratch.under_way(config.id)
        os.kill(process.pid, signal.SIGKILL)
    kept = (kill_at - 1) // an_epoch
    assert not scratch.under_way(config.id)
    assert scratch.progress_of(config.id) == scratch.Progress(epochs=kept, of=4)
    assert store.read(config.id) is None
    steps = []
    resumed = runner.run(config, threads=1, on_step=lambda: steps.append(1))
    assert len(steps) == 4 * an_epoch - kept * an_epoch, f"killed after step {kill_at}"
    assert same(numbers(resumed), expected), f"killed after step {kill_at}"
    assert [sitting.after_epochs for sitting in resumed.provenance.sittings] == [0, kept]
    assert [path.suffix for path in scratch.checkpoint_path("x").parent.iterdir() if path.is_file()] == [".lock"]


@pytest.mark.parametrize("damage", ["one bit", "cut short", "no epochs", "another network's"])
def test_from_a_checkpoint_that_cannot_be_used_the_run_starts_again_to_the_same_numbers(results, damage, tmp_path):
    with results_in(tmp_path / "uninterrupted"):
        expected = numbers(runner.run(SMOKE, threads=1))
    with pytest.raises(KeyboardInterrupt):
        runner.run(SMOKE, threads=1, on_epoch=stop_after(1))
    path = scratch.checkpoint_path(SMOKE.id)
    content = path.read_bytes()
    if damage == "one bit":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "cut short":
        path.write_bytes(content[:40_000])
    else:
        state = checkpoints.load(path, LAB)
        if damage == "no epochs":
            state["history"] = []
        else:
            state = training.Training(SMOKE.with_(width=6), *two_images()).state_dict() | {
                name: state[name] for name in ("history", "gradients", "sittings")}
        checkpoints.save(path, state, LAB)
    with pytest.warns(files.DamagedResultWarning, match=rf"The checkpoint {path.name} .* starts from its first epoch"):
        result = runner.run(SMOKE, threads=1)
    assert same(numbers(result), expected)
    assert [sitting.after_epochs for sitting in result.provenance.sittings] == [0]
    assert path.with_name(f"{path.name}.damaged").exists()


def two_images():
    from cifarlab import data

    return data.split(data.load(SMOKE), SMOKE)


def test_memory_that_ends_while_a_state_is_restored_says_nothing_of_the_checkpoint(results, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        runner.run(SMOKE, on_epoch=stop_after(1))

    def full(*_):
        raise torch.OutOfMemoryError("out of memory")

    with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        patch.setattr(torch.nn.Module, "load_state_dict", full)
        runner.run(SMOKE)
    assert scratch.checkpoint_path(SMOKE.id).exists()
    assert len(runner.run(SMOKE).provenance.sittings) == 2


def test_a_run_that_goes_on_keeps_its_number_of_threads(results):
    with pytest.raises(KeyboardInterrupt):
        runner.run(SMOKE, threads=1, on_epoch=stop_after(1))
    scratch.progress_path(SMOKE.id).write_text("cut sho")   # the checkpoint says it
    result = runner.run(SMOKE, threads=2)
    assert result.provenance.threads == 1
    assert [sitting.threads for sitting in result.provenance.sittings] == [1, 1]
    assert all(sitting.cpu == result.provenance.cpu for sitting in result.provenance.sittings)
    assert runner.run(ONE_EPOCH.with_(train_images=64, seed=9), threads=2).provenance.threads == 2


@pytest.mark.parametrize("state", [
    None, {}, {"sittings": []}, {"sittings": [{}]}, {"sittings": [{"threads": "x"}]}, {"sittings": [{"threads": True}]},
    {"sittings": [{"threads": 0}]}, {"sittings": [{"threads": 10**6}]}, {"sittings": [None]},
])
def test_a_state_that_does_not_say_its_threads_has_none(state):
    assert runner.threads_of(state) is None


@pytest.mark.parametrize("threads", [0, -1, "two", 1.5, True, 100_000, 10**300])
def test_a_wrong_number_of_threads_is_refused(results, threads):
    with pytest.raises(ConfigError, match=r"threads: .* is refused: it must be a whole number from 1 to 1024"):
        runner.run(SMOKE, threads=threads)


def test_after_a_full_disk_nothing_is_trained_twice(results, monkeypatch):
    def full(result):
        raise files.StoreError("no space")

    with monkeypatch.context() as patch, pytest.raises(files.StoreError):
        patch.setattr(store, "write", full)
        runner.run(ONE_EPOCH)
    steps = []
    result = runner.run(ONE_EPOCH, on_step=lambda: steps.append(1))
    assert steps == []
    assert [sitting.after_epochs for sitting in result.provenance.sittings] == [0, 1]
    assert result.provenance.wall_seconds > result.provenance.training_seconds
    assert store.read(ONE_EPOCH.id) == result


def test_what_was_kept_of_an_earlier_run_does_not_pass_for_the_new_ones(results):
    run_id = ONE_EPOCH.id
    kept = [results / "predictions" / f"{run_id}.npz", results / "predictions" / f"{run_id}.mirror.npz",
            results / "models" / f"{run_id}.pt"]
    for path in kept:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"of the earlier run")
    with pytest.warns(files.DamagedResultWarning, match="is of an earlier run of this configuration"):
        runner.run(ONE_EPOCH)
    assert not any(path.exists() for path in kept)
    assert store.set_aside() == sorted(f"{path.name}.damaged" for path in kept)


def test_what_a_kill_after_the_result_was_written_left_is_tidied_up(results, monkeypatch):
    result = runner.run(ONE_EPOCH)
    leftovers = scratch.checkpoint_path(result.id), scratch.progress_path(result.id)
    for leftover in leftovers:
        leftover.write_text("left")
    # It is another process's, which wrote the result while this one waited for the lock.
    monkeypatch.setattr(store, "read", waiting(store.read))
    assert runner.run(ONE_EPOCH, on_step=lambda: pytest.fail("trained again")) == result
    assert not any(leftover.exists() for leftover in leftovers)


def waiting(read):
    """``store.read`` as a process meets it that has to wait for another: nothing at first, then the result."""
    asked = []

    def reads(run_id):
        asked.append(run_id)
        return None if len(asked) == 1 else read(run_id)

    return reads


def test_a_run_whose_last_step_spoiled_it_has_diverged_though_no_image_is_held_out(results):
    result = runner.run(SMOKE.with_(optimizer="sgd", learning_rate=10.0, weight_decay=1.0, val_images=0))
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


def test_a_run_without_held_out_images_has_no_validation(results):
    result = runner.run(ONE_EPOCH.with_(val_images=0))
    assert result.final.val_accuracy is None
    assert result.final.train_loss > 0
    assert store.read(result.id) == result


def test_two_processes_that_ask_for_the_same_run_train_it_once(results):
    """The second waits for the first's lock, and reads."""
    with subprocess.Popen([sys.executable, "-c", WAITS_AFTER_EACH_STEP, ONE_EPOCH.model_dump_json()],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "step\n"
        assert scratch.under_way(ONE_EPOCH.id)
        process.stdin.close()   # it goes on without waiting
        result = runner.run(ONE_EPOCH, on_step=lambda: pytest.fail("trained by both"))
    assert process.returncode == 0
    assert len(result.history) == 1
