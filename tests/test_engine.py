"""Carrying runs out: every failure is recorded under its run's name, and the others go on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from types import SimpleNamespace

import papermill
import pytest
from cifarlab import data
from cifarlab.config import PRESETS, RunConfig
from cifarlab.lab import PACKED_WIDTH
from labbook import machine
from labbook.lab import the_lab
from labbook.paths import scratch_folder
from labbook.runs import engine, files, scratch, store

from tests import made

SMOKE = RunConfig.of(**PRESETS["smoke"])
CONFIGS = [SMOKE.with_(seed=seed) for seed in range(4)]


@pytest.fixture
def carried(results, monkeypatch) -> list[int]:
    """Every run succeeds at once; the seeds of those that were started."""
    seeds = []

    def execute_one(config, device="auto", threads=None):
        seeds.append(config.seed)
        made.put(config)
        return config.id

    monkeypatch.setattr(engine, "execute_one", execute_one)
    return seeds


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("Kernel didn't respond")])
def test_whatever_goes_wrong_is_a_failure_of_that_run_and_the_others_go_on(results, monkeypatch, capsys, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(papermill, "execute_notebook", fails)
    failures = engine.execute(CONFIGS, workers=1)
    assert failures == [f"{config.id}: {type(error).__name__}: {error}" for config in CONFIGS]
    said = capsys.readouterr().err
    assert all(failure in said for failure in failures)


def test_a_kernel_that_dies_is_said_to_want_memory(results, monkeypatch):
    from nbclient.exceptions import DeadKernelError

    def dies(*_, **__):
        raise DeadKernelError("Kernel died")

    monkeypatch.setattr(papermill, "execute_notebook", dies)
    (failure,) = engine.execute(CONFIGS[:1])
    assert failure.startswith(f"{CONFIGS[0].id}: its kernel died, most likely for want of memory. Try a smaller width")


def test_a_run_in_a_kernel_of_its_own_ends_in_the_store_and_its_error_is_the_notebooks(results):
    """``train.ipynb`` through papermill, as every run of the book."""
    assert engine.execute([SMOKE.with_(epochs=1)]) == []
    result = store.read(SMOKE.with_(epochs=1).id)
    assert result.config == SMOKE.with_(epochs=1).model_dump()
    assert (scratch_folder() / "executed" / f"{result.id}.ipynb").is_file()


def test_a_notebooks_own_error_is_the_failure(results, monkeypatch):
    def fails(*_, **__):
        raise papermill.PapermillExecutionError(0, 1, "x", "ConfigError", "threads: 0 is refused", [])

    monkeypatch.setattr(papermill, "execute_notebook", fails)
    assert engine.execute(CONFIGS[:1]) == [f"{CONFIGS[0].id}: ConfigError: threads: 0 is refused"]


def test_an_interrupt_stops_all(results, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(papermill, "execute_notebook", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.execute(CONFIGS, workers=1)


def test_only_what_is_missing_is_carried_out_each_run_once(carried):
    made.put(CONFIGS[1])
    assert engine.execute([*CONFIGS, *CONFIGS], workers=1) == []
    assert carried == [0, 2, 3]
    assert engine.missing(CONFIGS) == []
    store.path_of(CONFIGS[2].id).write_text("{")
    with pytest.warns(files.DamagedResultWarning):
        assert engine.missing(CONFIGS) == [CONFIGS[2]]


def test_two_calls_share_the_work_and_the_one_that_finds_a_run_done_skips_it(carried, monkeypatch):
    scratch_folder().mkdir(parents=True)
    with scratch.lock(CONFIGS[0].id):   # another process trains it
        take = engine.take

        def taken(todo):
            config, claim = take(todo)
            if config.seed == 2:   # the other call has just finished it
                made.put(config)
            return config, claim

        monkeypatch.setattr(engine, "take", taken)
        assert engine.execute(CONFIGS, workers=1) == []
    assert carried == [1, 3, 0]   # what is under way elsewhere comes last, and is waited for


def test_what_another_call_has_claimed_comes_last_and_claims_end_with_their_run(carried):
    scratch_folder().mkdir(parents=True)
    _, claim = engine.take(deque(CONFIGS))
    assert engine.execute(CONFIGS, workers=1) == []
    assert carried == [1, 2, 3, 0]
    claim.release()
    assert engine.take(deque(CONFIGS[1:]))[0] == CONFIGS[1]


def dies(config, device="auto", threads=None):
    """A worker that the system kills for its memory; the first run fails before that."""
    if config.seed == 0:
        raise engine.RunFailedError(f"{config.id}: it failed")
    os._exit(1)


def test_a_worker_that_dies_does_not_take_the_failures_with_it(results, monkeypatch):
    monkeypatch.setattr(engine, "execute_one", dies)
    with ProcessPoolExecutor(1) as pool:
        failures = engine.execute(CONFIGS, executor=pool)
    failures.remove(f"{CONFIGS[0].id}: it failed")
    # The others broke with the pool, or were not submitted any more.
    assert failures
    assert all("BrokenProcessPool" in line or "runs were not started" in line for line in failures)
    # All claims are given back.
    assert [engine.take(deque([config]))[1] is not None for config in CONFIGS] == [True] * 4


def test_a_pool_that_is_broken_is_said_once(results):
    class Broken(ThreadPoolExecutor):
        def submit(self, *_):
            from concurrent.futures import BrokenExecutor

            raise BrokenExecutor("all workers are gone")

    with Broken(1) as pool:
        (failure,) = engine.execute(CONFIGS, executor=pool)
    assert failure == "4 runs were not started: all workers are gone. The next call tries them again."


def test_a_missing_dataset_is_said_once(carried, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR10_ROOT", str(tmp_path))
    with pytest.raises(data.DatasetError, match="CIFAR-10 is not complete"):
        engine.execute([RunConfig.of(precision="float32")])
    assert carried == []


# --- how many at once -------------------------------------------------------------------------------------------------


@pytest.fixture
def four_cores(monkeypatch):
    """A machine of four cores; returns what sets its free memory in GB."""
    monkeypatch.setattr(machine, "cores", lambda: 4)

    def has(gigabytes):
        monkeypatch.setattr(machine, "free_memory", lambda: gigabytes)

    has(64.0)
    return has


CPU = SimpleNamespace(type="cpu")


@pytest.mark.parametrize(("gigabytes", "width", "expected"), [(64, 64, 4), (8.5, 64, 2), (8.5, 16, 4), (1, 64, 1)])
def test_runs_are_packed_as_far_as_cores_and_memory_go(four_cores, gigabytes, width, expected):
    four_cores(gigabytes)
    configs = [*(RunConfig.of(width=8, seed=seed) for seed in range(4)), RunConfig.of(width=width)]
    assert engine.groups(configs, None, CPU) == [(configs, expected)]
    assert engine.groups(configs, 7, CPU) == [(configs, 5)]   # as asked, but no more than there are


def test_narrow_runs_are_packed_and_wide_ones_get_all_cores(four_cores):
    narrow, wide = RunConfig.of(width=16), RunConfig.of(width=2 * PACKED_WIDTH)
    several = [narrow.with_(seed=seed) for seed in range(5)]
    assert engine.groups([wide, *several], None, CPU) == [(several, 4), ([wide], 1)]
    assert engine.groups([wide, narrow], None, CPU) == [([narrow], 1), ([wide], 1)]   # all cores for a lone one
    assert engine.groups([wide], None, CPU) == [([wide], 1)]
    assert engine.groups([wide, narrow], 3, CPU) == [([wide, narrow], 2)]


@pytest.mark.parametrize(("gigabytes", "on_the_card", "expected"), [(64, 4, 4), (9, 4, 2), (1, 4, 1), (64, 2, 2)])
def test_on_a_gpu_the_hosts_memory_and_the_cards_decide(four_cores, monkeypatch, gigabytes, on_the_card, expected):
    four_cores(gigabytes)
    monkeypatch.setattr(the_lab(), "at_once", lambda configs, device, most: min(most, on_the_card))
    configs = [RunConfig.of(width=256, seed=seed) for seed in range(4)]
    assert engine.groups(configs, None, SimpleNamespace(type="cuda")) == [(configs, expected)]


def test_what_a_call_lacks_is_trained_packed_the_wide_ones_after(results, four_cores, monkeypatch):
    groups = []
    monkeypatch.setattr(engine, "_carry_out", lambda runs, end, device, at_once, threads: groups.append(
        ([config.width for config in runs.todo], device, at_once)))
    configs = [SMOKE, SMOKE.with_(width=2 * PACKED_WIDTH), SMOKE.with_(seed=1)]
    assert engine.execute(configs, "cpu") == []
    assert groups == [([4, 4], "cpu", 2), ([2 * PACKED_WIDTH], "cpu", 1)]


# --- budgets and executors --------------------------------------------------------------------------------------------


def test_the_budget_starts_no_further_run(carried):
    assert engine.execute(CONFIGS, stop_after_seconds=-1) == []
    assert carried == []


@pytest.mark.parametrize("pooled", [False, True])
def test_a_budget_that_runs_out_lets_the_run_under_way_finish(results, monkeypatch, pooled):
    clock, carried = [0.0], []

    def execute_one(config, *_):
        carried.append(config.seed)
        clock[0] += 60   # each takes a minute of the test's clock

    monkeypatch.setattr(engine, "execute_one", execute_one)
    monkeypatch.setattr(engine, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    if pooled:
        pool = AtOnce()
        monkeypatch.setattr("loky.ProcessPoolExecutor", lambda *_, **__: pool)
        monkeypatch.setattr(engine, "groups", lambda todo, *_: [(todo, 2)])
    assert engine.execute(CONFIGS, stop_after_seconds=100, workers=None if pooled else 1) == []
    assert carried == [0, 1]   # the second began after a minute


class AtOnce:
    """An executor that carries a call out while it is submitted."""

    def submit(self, call, *arguments):
        from concurrent.futures import Future

        future = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(call(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, **_):
        pass


def test_an_executor_carries_the_runs_and_the_budget_takes_back_what_waits(results, monkeypatch):
    started, over = [], threading.Event()
    clock = [0.0]
    monkeypatch.setattr(engine, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def execute_one(config, *_):
        started.append(config.seed)
        clock[0] = 100.0   # the budget is over while the first run is under way
        assert over.wait(600)

    monkeypatch.setattr(engine, "execute_one", execute_one)
    real = engine.wait

    def wait(pending, timeout, *more):
        if len(pending) == 1:   # the three that waited were taken back
            over.set()
        return real(pending, timeout, *more)

    monkeypatch.setattr(engine, "wait", wait)
    with ThreadPoolExecutor(1) as pool:
        assert engine.execute(CONFIGS, executor=pool, stop_after_seconds=1) == []
    assert started == [0]


def test_runs_on_an_executor_have_so_many_threads(results, monkeypatch):
    threads = []
    monkeypatch.setattr(engine, "execute_one", lambda config, device, number: threads.append(number))
    assert engine.execute(CONFIGS, executor=AtOnce(), threads=3) == []
    assert threads == [3] * 4


def test_a_failure_among_packed_runs_is_reported_and_the_others_go_on(results, monkeypatch):
    def execute_one(config, *_):
        if config.seed == 1:
            raise engine.RunFailedError(f"{config.id}: out of memory")
        made.put(config)

    monkeypatch.setattr(engine, "execute_one", execute_one)
    assert engine.execute(CONFIGS, executor=AtOnce()) == [f"{CONFIGS[1].id}: out of memory"]
    assert len(store.read_all()) == 3


PARENT = """
import os, time
from loky import ProcessPoolExecutor
from labbook.runs.engine import end_with_parent

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, initializer=end_with_parent)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 100_000).result()
"""


def test_a_worker_ends_when_its_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True) as parent:
        worker = int(parent.stdout.readline())
        os.kill(worker, 0)   # it is there
        parent.kill()
        parent.wait()
        # The worker has the same pipe: it is at its end when both have ended.
        assert parent.stdout.read() == ""
