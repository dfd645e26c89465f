"""Runs carried out: ``train.ipynb`` through papermill, one after the other, one a core, or on any executor."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import Any

from filelock import FileLock, Timeout

from labbook import machine
from labbook.errors import LabError
from labbook.lab import Config, the_lab
from labbook.paths import project_root, scratch_folder
from labbook.runs import scratch, store
from labbook.runs.bar import RunsBar
from labbook.runs.files import make_folder
from labbook.runs.kernels import talk_through_files


class RunFailedError(LabError):
    """One or more runs of a study could not be executed; the others are in the store."""


def missing(configs: Iterable[Config]) -> list[Config]:
    """Those whose result is not in the store, each once, in order; a damaged result counts as missing."""
    unique = {config.id: config for config in configs}
    return [config for config in unique.values() if store.read(config.id) is None]


def execute(
    configs: Sequence[Config], device: str = "auto", workers: int | None = None, executor: Executor | None = None,
    threads: int | None = None, stop_after_seconds: float | None = None,
) -> list[str]:
    """Execute the runs that are missing, with a progress bar on stderr. Returns the failures, one line each.

    Runs are trained ``workers`` at a time (None: as many as pay and fit) in processes of one thread each; one alone has
    ``threads`` (None: all cores). Or ``executor`` (Dask's ``client.get_executor()``, a process pool) carries them, each
    on so many ``threads``. With ``stop_after_seconds`` no further run is started once they are over. A failure is
    printed as it happens, and the other runs go on.

    Raises:
        DeviceError: the device is not there. LabError: the lab's data are missing.
    """
    todo = missing(configs)
    if not todo or (stop_after_seconds is not None and stop_after_seconds <= 0):
        return []
    lab = the_lab()
    chosen = lab.choose_device(device)  # refused here once, not by every run
    lab.check_data(todo)
    make_folder(scratch_folder())
    end = math.inf if stop_after_seconds is None else time.monotonic() + stop_after_seconds
    with RunsBar(todo, scratch.progress) as bar:
        runs = Runs(todo, bar)
        if executor is not None:
            _side_by_side(runs, end, lambda config: executor.submit(execute_one, config, device, threads), None)
        else:
            for group, at_once in groups(todo, workers, chosen):
                runs.todo = deque(group)
                _carry_out(runs, end, device, at_once, threads)
    return runs.failures


def execute_one(config: Config, device: str = "auto", threads: int | None = None) -> str:
    """Run ``train.ipynb`` for one configuration through papermill, in a kernel of its own. Returns the run's id.

    A plain function of picklable values, so that any ``concurrent.futures.Executor`` can carry it.

    Raises:
        RunFailedError: whatever went wrong; the message begins with the id and ends with the notebook's own error.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    talk_through_files()
    template = project_root() / "notebooks" / "train.ipynb"
    executed = scratch_folder() / "executed" / f"{config.id}.ipynb"
    out_of_memory = (
        f"{config.id}: its kernel died, most likely for want of memory. Try a smaller width or batch_size, or "
        "fewer runs at once; it goes on from its last finished epoch.")
    try:
        executed.parent.mkdir(parents=True, exist_ok=True)
        papermill.execute_notebook(
            str(template), str(executed), cwd=str(template.parent), progress_bar=False,
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            # Its result is in the store by then: to let the interpreter take itself down costs more than two seconds.
            shutdown_kernel="immediate",
            parameters={**config.model_dump(), "device": device, "threads": threads},
        )
    except papermill.PapermillExecutionError as error:
        raise RunFailedError(f"{config.id}: {error.ename}: {error.evalue}") from None
    except DeadKernelError:
        raise RunFailedError(out_of_memory) from None
    except Exception as error:  # a full disk, a kernel that does not start: the other runs go on
        raise RunFailedError(
            f"{config.id}: {type(error).__name__}: {error}" if str(error) else out_of_memory) from error
    return config.id


def groups(configs: Sequence[Config], workers: int | None, device: Any) -> list[tuple[Sequence[Config], int]]:
    """Split runs into groups, each with how many of it are trained at once.

    One a core, or fewer where the lab says that more does not pay, or where the memory that is free now is less than
    so many of the largest would take.
    """
    if workers is not None:
        return [(configs, min(workers, len(configs)))]
    lab, cores = the_lab(), machine.cores()
    alone = [config for config in configs if lab.at_once([config], device, cores) == 1]
    packed = [config for config in configs if config not in alone]
    if not packed:
        return [(alone, 1)]
    largest = max(lab.memory(config, device) for config in packed)
    fit = min(lab.at_once(packed, device, cores), int(machine.free_memory() / largest), len(packed))
    return [(group, count) for group, count in ((packed, max(1, fit)), (alone, 1)) if group]


class Runs:
    """The runs of one call: those that are still to start, the claims to those that have, and what failed."""

    def __init__(self, todo: Iterable[Config], bar: RunsBar) -> None:
        self.todo, self.bar = deque(todo), bar
        self.claims: dict[str, FileLock | None] = {}
        self.failures: list[str] = []

    def next(self) -> Config | None:
        """The next run that no other call has finished by now."""
        while self.todo:
            config, claim = take(self.todo)
            self.claims[config.id] = claim
            if not store.path_of(config.id).exists():
                return config
            self.ended(config)
        return None

    def ended(self, config: Config, error: BaseException | None = None) -> None:
        """Count a run that is finished, or failed."""
        if error:
            # Of another kind only where the process that carried the run died.
            named = isinstance(error, RunFailedError)
            self.failed(str(error) if named else f"{config.id}: {type(error).__name__}: {error}")
        self.give_back(config)
        self.bar.finish(config.id)

    def give_back(self, config: Config) -> None:
        """Release the claim to a run."""
        if claim := self.claims.pop(config.id):
            claim.release()

    def failed(self, line: str) -> None:
        """Say what failed as it happens, and keep it."""
        self.failures.append(line)
        self.bar.say(line)


def take(todo: deque[Config]) -> tuple[Config, FileLock | None]:
    """Remove and return the first run that nobody trains, and the claim to it, which is released when it has ended.

    Two calls on one store then share the work: a claim holds from here on, and the run's own lock only once its kernel
    has started. Where all are under way elsewhere, it is the first of them without a claim, to be waited for.
    """
    for place, config in enumerate(todo):
        if scratch.under_way(config.id):
            continue
        claim = scratch.claim(config.id)
        try:
            claim.acquire(timeout=0)
        except Timeout:
            continue
        del todo[place]
        return config, claim
    return todo.popleft(), None


def _carry_out(runs: Runs, end: float, device: str, at_once: int, threads: int | None) -> None:
    """Carry out a group of runs: one after the other in this process, or several side by side in their own."""
    if at_once == 1:
        while time.monotonic() < end and (config := runs.next()):
            try:
                execute_one(config, device, threads)
            except RunFailedError as error:
                runs.ended(config, error)
            else:
                runs.ended(config)
        return
    from loky import ProcessPoolExecutor  # fresh processes, not forks: this one may be a notebook's kernel

    pool = ProcessPoolExecutor(at_once, initializer=end_with_parent)
    try:
        _side_by_side(runs, end, lambda config: pool.submit(execute_one, config, device, 1), at_once)
    except BaseException:  # Ctrl-C too: what is under way stops at once, and goes on from its last finished epoch
        pool.shutdown(wait=False, kill_workers=True)
        raise
    pool.shutdown()


def _side_by_side(runs: Runs, end: float, submit: Callable[[Config], Future], at_once: int | None) -> None:
    """Submit runs, so many at a time, and wait for them; after ``end`` what only waits is taken back."""
    pending: dict[Future, Config] = {}
    while runs.todo or pending:
        if time.monotonic() >= end:
            runs.todo.clear()
            for future in [future for future in pending if future.cancel()]:
                runs.give_back(pending.pop(future))
            end = math.inf  # what has started is finished
        try:
            while (at_once is None or len(pending) < at_once) and (config := runs.next()):
                pending[submit(config)] = config
        except BrokenExecutor as error:
            runs.failed(f"{len(runs.todo) + 1} runs were not started: {error}. The next call tries them again.")
            runs.todo.clear()
        done, _ = wait(pending, None if end == math.inf else max(0.0, end - time.monotonic()), FIRST_COMPLETED)
        for future in done:
            runs.ended(pending.pop(future), future.exception())


def end_with_parent() -> None:
    """End this worker when the process that began it does, even by ``kill -9``; its run's kernel then ends too."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process: the one that began the runs answers it
    parent = os.getppid()

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
