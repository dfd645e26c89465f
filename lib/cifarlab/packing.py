"""How many runs at once: on processors one a core, each on one thread, as far as that pays and memory allows."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from cifarlab import execution
from cifarlab.config import RunConfig
from cifarlab.processor import cores

# Up to this width, a run a core on one thread each finishes more runs an hour than one run on all threads
# (results/bench/packing.json, drawn in the chapter on speed).
PACKED_WIDTH = 64


def memory(config: RunConfig) -> float:
    """How many GB to reckon with for one run's process: a little more than committed runs took, at every width."""
    return 1 + 3 * config.width / 64


def shared_out(
    configs: Sequence[RunConfig], workers: int | None, device: str
) -> list[tuple[Sequence[RunConfig], int]]:
    """Split runs into groups, each with how many of it are trained at once.

    On processors narrow ones come first, packed: one a core, or fewer where the memory that is free now is less than
    so many of the widest would take. A lone one has all cores.

    Raises:
        cifarlab.runner.DeviceError: the device is not known or not there.
    """
    import psutil  # needed by training only, as is torch

    from cifarlab.runner import choose_device

    on_gpu = choose_device(device).type == "cuda"  # refused here once, not by every run
    if workers is not None:
        return [(configs, workers)]
    if on_gpu:
        return [(configs, 1)]
    narrow = [config for config in configs if config.width <= PACKED_WIDTH]
    wide = [config for config in configs if config.width > PACKED_WIDTH]
    fit = int(psutil.virtual_memory().available / 1e9 / max(map(memory, narrow), default=1))
    packed = max(1, min(cores(), fit, len(narrow)))
    return [(group, count) for group, count in ((narrow, packed), (wide, 1)) if group]


def execute_packed(
    configs: Sequence[RunConfig], device: str = "auto", workers: int | None = None,
    stop_after_seconds: float | None = None,
) -> list[str]:
    """:func:`cifarlab.execution.execute_all` in as many processes as ``workers`` says, or as pay and fit (None).

    Several at once have one thread each, whose numbers do not depend on what runs beside; one alone has all cores.
    """
    todo = execution.missing(configs)
    if not todo:
        return []
    started, failures = time.monotonic(), []
    for group, at_once in shared_out(todo, workers, device):
        left = None if stop_after_seconds is None else stop_after_seconds - (time.monotonic() - started)
        if at_once == 1:
            failures += execution.execute_all(group, device=device, stop_after_seconds=left)
            continue
        # Fresh processes, not forks: this one may be a notebook's kernel, with threads and open sockets.
        spawned = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(at_once, mp_context=spawned, initializer=end_with_parent) as pool:
            failures += execution.execute_all(
                group, pool, device, threads=1, stop_after_seconds=left, at_once=at_once)
    return failures


def end_with_parent() -> None:
    """End this worker when the process that began it does, even by ``kill -9``; its run's kernel then ends too."""
    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
