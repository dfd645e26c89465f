"""Carrying runs out: every failure is recorded under its run's name, and the others go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import papermill
import pytest
import torch
from cifarlab import data
from cifarlab.config import PRESETS, RunConfig
from cifarlab.lab import PACKED_WIDTH
from filelock import FileLock
from labbook.runs import engine, runner, scratch, store
from labbook.studies import study as studies
from labbook.studies.results import ensure

from tests.test_studies import GOOD, written

SMOKE = RunConfig.of(**PRESETS["smoke"])
CONFIGS = [SMOKE.with_(seed=seed) for seed in range(4)]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("Kernel didn't respond")])
def test_whatever_goes_wrong_is_a_failure_of_that_run_and_the_others_go_on(results, monkeypatch, capsys, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(papermill, "execute_notebook", fails)
    failures = engine.execute_all(CONFIGS)
    assert failures == [f"{config.id}: {type(error).__name__}: {error}" for config in CONFIGS]
    said = capsys.readouterr().err
    assert all(failure in said for failure in failures)


def test_an_interrupt_stops_all(results, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(papermill, "execute_notebook", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.execute_all(CONFIGS)


def test_two_calls_share_the_work_and_the_one_that_finds_a_run_done_skips_it(results, monkeypatch):
    carried = []
    monkeypatch.setattr(execution, "execute", lambda config, *_: carried.append(config.seed))
    execution.scratch_folder().mkdir(parents=True)
    with FileLock(scratch.lock_path(CONFIGS[0].id)):
        assert [execution.under_way(config.id) for config in CONFIGS] == [True, False, False, False]
        real = execution.take

        def take(todo):
            config, claim = real(todo)
            if config.seed == 2:  # the other call has just finished it
                execution.files.write_text(execution.store.path_of(config.id), "{}")
            return config, claim

        monkeypatch.setattr(execution, "take", take)
        assert engine.execute_all(CONFIGS) == []
    assert carried == [1, 3, 0]


def test_a_run_whose_kernel_only_starts_is_left_to_the_call_that_took_it(results, monkeypatch):
    """It holds no lock of its own yet."""
    carried = []
    monkeypatch.setattr(execution, "execute", lambda config, *_: carried.append(config.seed))
    execution.scratch_folder().mkdir(parents=True)
    others = deque(CONFIGS)
    taken, claim = execution.take(others)
    assert taken == CONFIGS[0]
    assert execution.take(deque(CONFIGS))[0] == CONFIGS[1]
    claim.release()
    assert execution.take(deque(CONFIGS))[0] == CONFIGS[0]
    _, claim = execution.take(deque(CONFIGS))
    # What the other call is at comes last, and is waited for.
    assert engine.execute_all(CONFIGS) == []
    assert carried == [1, 2, 3, 0]
    claim.release()
    # Claims end with their run.
    assert execution.take(deque(CONFIGS[1:]))[0] == CONFIGS[1]


def test_what_a_kill_left_half_written_is_cleared_with_the_run(results):
    scratch = execution.scratch_folder()
    weights, runs = scratch.weights_path("x").parent, execution.store.path_of("x").parent
    for folder in (weights, runs):
        folder.mkdir(parents=True)
    mine, others = (scratch / f".{config.id}.checkpoint.123.part" for config in CONFIGS[:2])
    of_weights, of_result = (folder / f".{CONFIGS[0].id}.x.123.part" for folder in (weights, runs))
    for path in (mine, others, of_weights, of_result, scratch.checkpoint_path(CONFIGS[0].id)):
        path.touch()
    scratch.clear(CONFIGS[0].id)
    assert [path for folder in (scratch, weights, runs) for path in folder.glob(".*")] == [others]
    assert not scratch.checkpoint_path(CONFIGS[0].id).exists()


def test_a_run_that_goes_on_keeps_its_number_of_threads(results, monkeypatch):
    def stopped(history):
        raise KeyboardInterrupt

    def stopped_before_the_first_epoch_was_told(*_):
        # A kill between the first checkpoint and what is told of it.
        scratch.checkpoint_path(SMOKE.with_(seed=8).id).touch()
        raise KeyboardInterrupt

    before = torch.get_num_threads()
    try:
        with pytest.raises(KeyboardInterrupt):
            runner.run(SMOKE, threads=1, on_epoch=stopped)
        assert scratch.checkpoint_path(SMOKE.id).exists()
        assert runner.run(SMOKE, threads=2).provenance["threads"] == 1
        assert runner.run(SMOKE.with_(seed=9), threads=2).provenance["threads"] == 2
        # Where the note of it was lost, the checkpoint says it.
        with pytest.raises(KeyboardInterrupt):
            runner.run(SMOKE.with_(seed=7), threads=1, on_epoch=stopped)
        scratch.progress_path(SMOKE.with_(seed=7).id).write_text("cut sho")
        result = runner.run(SMOKE.with_(seed=7), threads=2)
        assert [sitting["threads"] for sitting in result.provenance["sittings"]] == [1, 1]
        assert all(sitting["cpu"] == result.provenance["cpu"] for sitting in result.provenance["sittings"])
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(runner.training, "train", stopped_before_the_first_epoch_was_told)
            runner.run(SMOKE.with_(seed=8), threads=1)
        assert scratch.progress()[SMOKE.with_(seed=8).id] == {"epochs": 0, "of": 2, "threads": 1, "alive": False}
        with pytest.warns(UserWarning, match="is damaged"):
            assert runner.run(SMOKE.with_(seed=8), threads=2).provenance["threads"] == 1
    finally:
        torch.set_num_threads(before)


def dies(config, device="auto", threads=None):
    """A worker that the system kills for its memory; the first run fails before that."""
    if config.seed == 0:
        raise engine.RunFailedError(f"{config.id}: it failed")
    os._exit(1)


def test_a_worker_that_dies_does_not_take_the_failures_with_it(results, monkeypatch):
    monkeypatch.setattr(execution, "execute", dies)
    with ProcessPoolExecutor(1) as pool:
        failures = engine.execute_all(CONFIGS, pool, at_once=1)
    assert failures[:1] == [f"{CONFIGS[0].id}: it failed"]
    assert failures[1].startswith(f"{CONFIGS[1].id}: BrokenProcessPool")
    assert failures[2].startswith("2 runs were not started: ")
    assert len(failures) == 3


def test_a_missing_dataset_is_said_once(results, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR10_ROOT", str(tmp_path))
    monkeypatch.setattr(execution, "execute", lambda *_: pytest.fail("a run was started without its data"))
    with pytest.raises(data.DatasetError, match="CIFAR-10 is not complete"):
        engine.execute_all([RunConfig.of(precision="float32")])


def test_progress_that_is_empty_or_gone_is_passed_over(results, monkeypatch):
    scratch = results / ".scratch"
    scratch.mkdir(parents=True)
    (scratch / "whole.progress.json").write_text(json.dumps({"epochs": 1, "of": 5}))
    (scratch / "empty.progress.json").touch()
    (scratch / "gone.progress.json").symlink_to("nowhere")
    assert scratch.progress() == {"whole": {"epochs": 1, "of": 5, "alive": False}}
    with FileLock(scratch.lock_path("whole")):
        assert scratch.progress()["whole"]["alive"]


@pytest.mark.parametrize(("gigabytes", "width", "expected"), [(64, 64, 4), (8.5, 64, 2), (8.5, 16, 4), (1, 64, 1)])
def test_runs_are_packed_as_far_as_cores_and_memory_go(monkeypatch, gigabytes, width, expected):
    from types import SimpleNamespace

    import psutil

    monkeypatch.setattr(packing, "cores", lambda: 4)
    monkeypatch.setattr(packing, "granted", lambda *_: [])
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=gigabytes * 1e9))
    configs = [*(RunConfig.of(width=8, seed=seed) for seed in range(4)), RunConfig.of(width=width)]
    assert packing.shared_out(configs, None, "cpu") == [(configs, expected)]
    assert packing.shared_out(configs, 7, "cpu") == [(configs, 7)]


@pytest.mark.parametrize(("gigabytes", "card", "expected"),
                         [(64, 80, 4), (9, 80, 2), (1, 80, 1), (64, 30, 2), (64, 8, 1)])
def test_on_a_gpu_wide_runs_are_packed_too(monkeypatch, gigabytes, card, expected):
    """As far as the host's memory and the card's hold them."""
    from types import SimpleNamespace

    import psutil
    from labbook.runs import runner

    monkeypatch.setattr(runner, "choose_device", lambda name: SimpleNamespace(type="cuda"))
    monkeypatch.setattr(packing, "cores", lambda: 4)
    monkeypatch.setattr(packing, "granted", lambda *_: [])
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=gigabytes * 1e9))
    monkeypatch.setattr(packing, "memory_on", lambda device: card)
    configs = [RunConfig.of(width=width, seed=seed) for width in (16, 256) for seed in range(4)]
    assert packing.shared_out(configs, None, "cuda") == [(configs, expected)]
    assert packing.shared_out(configs[:1], None, "cuda") == [(configs[:1], 1)]


def test_a_container_is_packed_with_what_it_is_granted(monkeypatch, tmp_path):
    import psutil

    granted = packing.granted
    monkeypatch.setattr(packing, "granted", lambda name, pattern: granted(name, pattern, tmp_path))
    monkeypatch.setattr(packing, "cores", lambda: 64)
    free = psutil.virtual_memory().available / 1e9
    assert packing.cores_here() == 64
    assert packing.memory_here() == pytest.approx(free, rel=0.2)
    for name, content in (("cpu.max", "250000 100000"), ("memory.max", "800000000"), ("memory.current", "300000000")):
        (tmp_path / name).write_text(f"{content}\n")
    assert packing.cores_here() == 2
    assert packing.memory_here() == pytest.approx(0.5)
    (tmp_path / "memory.stat").write_text("file 250000000\ninactive_file 200000000\nanon 1\n")
    assert packing.memory_here() == pytest.approx(0.7)
    for name, content in (("cpu.max", "max 100000"), ("memory.max", "max")):
        (tmp_path / name).write_text(f"{content}\n")
    assert packing.cores_here() == 64
    assert packing.memory_here() == pytest.approx(free, rel=0.2)


def test_larger_batches_are_reckoned_with_more_memory():
    usual, large = (packing.memory(RunConfig.of(width=64, batch_size=images)) for images in (128, 8000))
    assert (usual, large) == (4, 13)


PARENT = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from labbook.runs import engine

if __name__ == "__main__":
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawned, initializer=packing.end_with_parent) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600).result()
"""


def test_a_worker_ends_when_its_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    os.kill(worker, 0)  # it is there
    parent.kill()
    parent.wait()
    assert _ended(worker, seconds=30)


def _ended(pid, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
            # One that nobody has waited for yet has ended too.
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.1)
    return False


def test_what_a_chapter_lacks_is_trained_packed(results, monkeypatch):
    groups = []

    def execute_all(configs, executor=None, device="auto", threads=None, stop_after_seconds=None, at_once=None):
        groups.append((len(configs), executor is not None, threads, at_once))
        return []

    monkeypatch.setattr(execution, "execute_all", execute_all)
    monkeypatch.setattr(packing, "cores_here", lambda: 2)
    monkeypatch.setattr(packing, "memory_here", lambda: 64.0)
    configs = [SMOKE, SMOKE.with_(seed=1), SMOKE.with_(width=2 * PACKED_WIDTH)]
    assert engine.execute(configs, "cpu") == []
    assert groups == [(2, True, 1, 2), (1, False, None, None)]
    runner.run(SMOKE)
    groups.clear()
    assert engine.execute([SMOKE], "cpu") == []
    assert groups == []


def test_a_run_that_fails_is_reported_and_the_others_go_on(results, tmp_path, monkeypatch):
    study = studies.load("mine", written(tmp_path, GOOD))

    def execute(config, device="auto", threads=None):
        if config.dropout:
            raise engine.RunFailedError(f"{config.id}: out of memory")
        from labbook.runs import runner

        runner.run(config)

    monkeypatch.setattr(execution, "execute", execute)
    failures = engine.execute_all([config for _, config in study.runs()])
    assert len(failures) == 2
    assert all("out of memory" in line for line in failures)
    assert len(store.read_all()) == 2


def test_the_budget_starts_no_further_run(results, tmp_path, monkeypatch):
    study = studies.load("mine", written(tmp_path, GOOD))
    monkeypatch.setattr(execution, "execute", lambda *_, **__: pytest.fail("a run was started after the budget"))
    configs = [config for _, config in study.runs()]
    assert engine.execute_all(configs, stop_after_seconds=-1) == []


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
        failures = engine.execute_all(
            configs, pool if pooled else None, stop_after_seconds=100, at_once=1 if pooled else None)
    assert failures == []
    assert carried == [config.id for config in configs[:2]]   # the second began after a minute


def test_an_executor_carries_the_runs_and_the_budget_takes_back_what_waits(results, tmp_path, monkeypatch):
    study = studies.load("mine", written(tmp_path, GOOD))
    started = []
    # The budget's clock starts before the runs are weighed, and a busy machine may keep it waiting.
    monkeypatch.setattr("labbook.runs.runs_bar.work", lambda configs: {config.id: 1.0 for config in configs})
    monkeypatch.setattr(execution, "execute", lambda config, *_: (started.append(config.id), time.sleep(3)))
    configs = [config for _, config in study.runs()]
    with ThreadPoolExecutor(1) as pool:
        assert engine.execute_all(configs, pool, stop_after_seconds=1) == []
    assert started == [configs[0].id]
    monkeypatch.setattr(execution, "execute", lambda config, *_: started.append(config.id))
    with ThreadPoolExecutor(4) as pool:
        assert engine.execute_all(configs, pool, at_once=2) == []
    assert sorted(started[1:]) == sorted(config.id for config in configs)


def test_runs_that_an_executor_carries_side_by_side_have_one_thread_each(results, tmp_path, monkeypatch):
    study = studies.load("mine", written(tmp_path, GOOD))
    threads = []
    monkeypatch.setattr(execution, "execute", lambda config, device, number: threads.append(number))
    with ThreadPoolExecutor(1) as pool:
        ensure(study, train=True, executor=pool, required=False)
        ensure(study, train=True, executor=pool, threads=3, required=False)
    assert threads == [1] * 4 + [3] * 4


def test_narrow_runs_are_packed_and_wide_ones_get_all_cores(monkeypatch):
    monkeypatch.setattr(packing, "cores_here", lambda: 4)
    monkeypatch.setattr(packing, "memory_here", lambda: 64.0)
    narrow, wide = RunConfig.of(width=16), RunConfig.of(width=2 * PACKED_WIDTH)
    several = [narrow.with_(seed=seed) for seed in range(5)]
    assert packing.shared_out([wide, *several], None, "cpu") == [(several, 4), ([wide], 1)]
    assert packing.shared_out([wide, narrow], None, "cpu") == [([narrow], 1), ([wide], 1)]   # all cores for a lone one
    assert packing.shared_out([wide], None, "cpu") == [([wide], 1)]
    assert packing.shared_out([wide, narrow], 3, "cpu") == [([wide, narrow], 3)]
    assert packing.cores() >= 1
