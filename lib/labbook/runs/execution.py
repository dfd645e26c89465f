"""Runs carried out: ``train.ipynb`` through papermill, one after the other or on any executor; what is under way."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from pathlib import Path

from cifarlab.config import RunConfig
from filelock import FileLock, Timeout

from labbook.errors import LabError
from labbook.paths import project_root, scratch_folder
from labbook.runs import store
from labbook.runs.runs_bar import RunsBar


class RunFailedError(LabError):
    """One or more runs of a study could not be executed; the others are in the store."""


def execute(config: RunConfig, device: str = "auto", threads: int | None = None) -> str:
    """Run ``train.ipynb`` for one configuration through papermill, in a kernel of its own. Returns the run's id.

    A plain function of picklable values, so that any ``concurrent.futures.Executor`` can carry it.

    Raises:
        RunFailedError: whatever went wrong; the message begins with the id and ends with the notebook's own error.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    template = project_root() / "notebooks" / "train.ipynb"
    executed = scratch_folder() / "executed" / f"{config.id}.ipynb"
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
        raise RunFailedError(
            f"{config.id}: its kernel died, most likely for want of memory. Try a smaller width or batch_size, or "
            "fewer runs at once; it goes on from its last finished epoch."
        ) from None
    except Exception as error:  # a full disk, a kernel that does not start: the other runs go on
        raise RunFailedError(f"{config.id}: {type(error).__name__}: {error}") from error
    return config.id


def checkpoint_path(run_id: str) -> Path:
    """Where a run that is not finished keeps its state."""
    return scratch_folder() / f"{run_id}.checkpoint"


def progress_path(run_id: str) -> Path:
    """Where a run that is not finished says how far it is."""
    return scratch_folder() / f"{run_id}.progress.json"


def weights_path(run_id: str) -> Path:
    """Where a finished run's weights lie in the scratch folder, in half precision."""
    return scratch_folder() / "weights" / f"{run_id}.pt"


def lock_path(run_id: str) -> Path:
    """What the process that trains a run holds locked."""
    return scratch_folder() / f"{run_id}.lock"


def claim_path(run_id: str) -> Path:
    """What the process that has a run carried out holds locked."""
    return scratch_folder() / f"{run_id}.claim"


def clear(run_id: str) -> None:
    """Remove what a run needs no more once its result is in the store, also what a kill left half-written."""
    folders = (path.parent for path in (checkpoint_path(run_id), weights_path(run_id), store.path_of(run_id)))
    half_written = [path for folder in folders for path in folder.glob(f".{run_id}.*.part")]
    for path in (checkpoint_path(run_id), progress_path(run_id), *half_written):
        path.unlink(missing_ok=True)


def under_way(run_id: str) -> bool:
    """Whether another process trains this run now."""
    path = lock_path(run_id)
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def take(todo: deque[RunConfig]) -> tuple[RunConfig, FileLock | None]:
    """Remove and return the first run that nobody trains, and the claim to it, which is released when it has ended.

    Two calls on one store then share the work: a claim holds from here on, and the run's own lock only once its kernel
    has started. Where all are under way elsewhere, it is the first of them without a claim, to be waited for.
    """
    for place, config in enumerate(todo):
        if under_way(config.id):
            continue
        claim = FileLock(claim_path(config.id))
        try:
            claim.acquire(timeout=0)
        except Timeout:
            continue
        del todo[place]
        return config, claim
    return todo.popleft(), None


def missing(configs: Iterable[RunConfig]) -> list[RunConfig]:
    """Those whose result is not in the store, each once, in order; a damaged result counts as missing."""
    unique = {config.id: config for config in configs}
    return [config for config in unique.values() if store.read(config.id) is None]


class Runs:
    """The runs of one call: those that are still to start, the claims to those that have, and what failed."""

    def __init__(self, todo: Iterable[RunConfig], bar: RunsBar) -> None:
        self.todo, self.bar = deque(todo), bar
        self.claims: dict[str, FileLock | None] = {}
        self.failures: list[str] = []

    def next(self) -> RunConfig | None:
        """The next run that no other call has finished by now."""
        while self.todo:
            config, claim = take(self.todo)
            self.claims[config.id] = claim
            if not store.path_of(config.id).exists():
                return config
            self.ended(config)
        return None

    def ended(self, config: RunConfig, error: BaseException | None = None) -> None:
        """Count a run that is finished, or failed."""
        if error:
            # Of another kind only where the process that carried the run died.
            named = isinstance(error, RunFailedError)
            self.failed(str(error) if named else f"{config.id}: {type(error).__name__}: {error}")
        self.give_back(config)
        self.bar.finish(config.id)

    def give_back(self, config: RunConfig) -> None:
        """Release the claim to a run."""
        if claim := self.claims.pop(config.id):
            claim.release()

    def failed(self, line: str) -> None:
        """Say what failed as it happens, and keep it."""
        self.failures.append(line)
        self.bar.say(line)


def execute_all(
    configs: Sequence[RunConfig], executor: Executor | None = None, device: str = "auto", threads: int | None = None,
    stop_after_seconds: float | None = None, at_once: int | None = None,
) -> list[str]:
    """Execute the runs that are missing, with a progress bar on stderr. Returns the failures, one line each.

    Without ``executor``, one after the other; with one (a process pool, Dask's ``client.get_executor()``), as it
    schedules them, ``at_once`` handed to it at a time (None: all). With ``stop_after_seconds``, no further run is
    started once they are over. A failure is printed as it happens, and the other runs go on.

    Raises:
        DatasetError: a run needs CIFAR-10, and it is missing or damaged.
    """
    todo = missing(configs)
    if stop_after_seconds is not None and stop_after_seconds <= 0:
        return []
    if todo:
        store.make_folder(scratch_folder())
    if any(config.dataset == "cifar10" for config in todo):
        # Said once, not by each run.
        from cifarlab.data import check_files, cifar10_root

        check_files(cifar10_root())
    end = math.inf if stop_after_seconds is None else time.monotonic() + stop_after_seconds
    with RunsBar(todo, progress) as bar:
        runs = Runs(todo, bar)
        if executor is None:
            _one_by_one(runs, end, lambda config: execute(config, device, threads))
        else:
            _side_by_side(runs, end, lambda config: executor.submit(execute, config, device, threads), at_once)
    return runs.failures


def _one_by_one(runs: Runs, end: float, carry_out: Callable[[RunConfig], object]) -> None:
    """Carry out one run after the other; none is started after ``end`` (seconds of :func:`time.monotonic`)."""
    while time.monotonic() < end and (config := runs.next()):
        try:
            carry_out(config)
        except RunFailedError as error:
            runs.ended(config, error)
        else:
            runs.ended(config)


def _side_by_side(
    runs: Runs, end: float, submit: Callable[[RunConfig], Future], at_once: int | None
) -> None:
    """Submit runs, so many at a time, and wait for them; after ``end`` what only waits is taken back."""
    pending: dict[Future, RunConfig] = {}
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


def progress() -> dict[str, dict[str, int]]:
    """Runs under way or interrupted, by id: ``epochs`` finished ``of`` how many, on how many ``threads``, and whether
    a process is at it now (``alive``).
    """
    ids = sorted(path.name.removesuffix(".progress.json") for path in scratch_folder().glob("*.progress.json"))
    return {run_id: state for run_id in ids if (state := progress_of(run_id))}


def progress_of(run_id: str) -> dict[str, int] | None:
    """One run's entry of :func:`progress`; None where it has not begun, or has ended."""
    try:
        state = json.loads(progress_path(run_id).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None  # also where a crash of the machine cut the file short
    return state | {"alive": under_way(run_id)}
