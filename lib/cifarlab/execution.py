"""Runs carried out: ``train.ipynb`` through papermill, one after the other or on any executor; what is under way."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from itertools import islice
from pathlib import Path

from cifarlab import store
from cifarlab.config import RunConfig
from cifarlab.errors import LabError
from cifarlab.paths import project_root, scratch_folder


class RunFailedError(LabError):
    """One or more runs of a study could not be executed; the others are in the store."""


def execute(config: RunConfig, device: str = "auto", threads: int | None = None) -> str:
    """Run ``train.ipynb`` for one configuration through papermill, in a kernel of its own. Returns the run's id.

    A plain function of picklable values, so that any ``concurrent.futures.Executor`` can carry it.

    Raises:
        RunFailedError: the notebook failed; the message ends with the notebook's own error.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    template = project_root() / "notebooks" / "train.ipynb"
    executed = scratch_folder() / "executed" / f"{config.id}.ipynb"
    executed.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            str(template), str(executed), cwd=str(template.parent), progress_bar=False,
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            parameters={**config.model_dump(), "device": device, "threads": threads},
        )
    except papermill.PapermillExecutionError as error:
        raise RunFailedError(f"{config.id}: {error.ename}: {error.evalue}") from None
    except DeadKernelError:
        raise RunFailedError(
            f"{config.id}: its kernel died, most likely for want of memory. Try a smaller width or batch_size, or "
            "fewer runs at once; it goes on from its last finished epoch."
        ) from None
    return config.id


def missing(configs: Iterable[RunConfig]) -> list[RunConfig]:
    """Those whose result is not in the store, each once, in order; a damaged result counts as missing."""
    unique = {config.id: config for config in configs}
    return [config for config in unique.values() if store.read(config.id) is None]


def execute_all(
    configs: Sequence[RunConfig], executor: Executor | None = None, device: str = "auto", threads: int | None = None,
    stop_after_seconds: float | None = None, at_once: int | None = None,
) -> list[str]:
    """Execute the runs that are missing, with a progress bar on stderr. Returns the failures, one line each.

    Without ``executor``, one after the other; with one (a process pool, Dask's ``client.get_executor()``), as it
    schedules them, ``at_once`` handed to it at a time (None: all). With ``stop_after_seconds``, no further run is
    started once they are over.
    """
    from tqdm import tqdm

    todo = missing(configs)
    failures: list[str] = []
    if stop_after_seconds is not None and stop_after_seconds <= 0:
        return failures
    started = time.monotonic()
    bar = tqdm(total=len(todo), unit="run", file=sys.stderr, disable=not todo, leave=False, dynamic_ncols=True)
    with bar:
        if executor is None:
            for config in todo:
                if stop_after_seconds is not None and time.monotonic() - started > stop_after_seconds:
                    break
                bar.set_postfix_str(config.id)
                try:
                    execute(config, device, threads)
                except RunFailedError as error:
                    failures.append(str(error))
                bar.update()
            return failures
        waiting = iter(todo)
        pending = {executor.submit(execute, config, device, threads) for config in islice(waiting, at_once)}
        while pending:
            left = None if stop_after_seconds is None else stop_after_seconds - (time.monotonic() - started)
            if left is not None and left <= 0:
                # What has started is finished; what only waits is taken back.
                pending, waiting = {future for future in pending if not future.cancel()}, iter(())
                left = None
            done, pending = wait(pending, timeout=left, return_when=FIRST_COMPLETED)
            pending |= {executor.submit(execute, config, device, threads) for config in islice(waiting, len(done))}
            for future in done:
                if error := future.exception():
                    failures.append(str(error))
                bar.update()
    return failures


def progress() -> dict[str, dict[str, int]]:
    """Runs under way or interrupted: id to the epochs finished and asked for."""
    found = {}
    for path in sorted(scratch_folder().glob("*.progress.json")):
        state = json.loads(path.read_text(encoding="utf-8"))
        state["alive"] = Path(f"/proc/{state['pid']}").exists() or _alive(state["pid"])
        found[path.name.removesuffix(".progress.json")] = state
    return found


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
