"""How many runs at once: on processors one a core, each on one thread, as far as that pays and memory allows."""

from __future__ import annotations

import multiprocessing
import os
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from cifarlab.config import RunConfig

from labbook.machine import cores
from labbook.runs import execution

if TYPE_CHECKING:
    import torch

# Up to this width, a run a core on one thread each finishes more runs an hour than one run on all threads
# (results/bench/packing.json, drawn in the chapter on speed).
PACKED_WIDTH = 64
# How many GB to reckon with for one run's process beside a GPU: PyTorch, its library for the card, the images.
ON_A_GPU = 4


def memory(config: RunConfig) -> float:
    """How many GB to reckon with for one run's process: a little more than committed runs took, at every width.

    The widest of them have batches of 2,000; larger ones take more.
    """
    return 1 + 3 * config.width / 64 * max(1, config.batch_size / 2000)


def granted(name: str, pattern: str, folder: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """The numbers of ``pattern`` in a file of what a Linux container is granted and uses (cgroup v2).

    None where it is not there, or not limited (``max``).
    """
    try:
        found = re.search(rf"^{pattern}$", (folder / name).read_text(), re.M)
    except OSError:
        return []
    return [int(number) for number in found.groups()] if found else []


def cores_here() -> int:
    """The cores that this process may use, at most as many as its container is granted."""
    quota = granted("cpu.max", r"(\d+) (\d+)")  # microseconds of a processor in each period of so many
    return max(1, min(cores(), quota[0] // quota[1])) if quota else cores()


def memory_here() -> float:
    """The free memory in GB, at most what its container is granted and does not need."""
    import psutil  # needed by training only, as is torch

    free = psutil.virtual_memory().available
    if (limit := granted("memory.max", r"(\d+)")) and (used := granted("memory.current", r"(\d+)")):
        cached = granted("memory.stat", r"inactive_file (\d+)") or [0]  # of files, given back when asked for
        free = min(free, limit[0] - used[0] + cached[0])
    return free / 1e9


def memory_on(device: torch.device) -> float:
    """The free memory of a GPU in GB."""
    import torch

    return torch.cuda.mem_get_info(device)[0] / 1e9


def shared_out(
    configs: Sequence[RunConfig], workers: int | None, device: str
) -> list[tuple[Sequence[RunConfig], int]]:
    """Split runs into groups, each with how many of it are trained at once.

    One a core, or fewer where the memory that is free now is less than so many of the widest would take; beside a GPU
    also where the card's is. On processors only narrow ones are packed so, and come first; a lone one has all cores.

    Raises:
        labbook.runs.runner.DeviceError: the device is not known or not there.
    """
    from labbook.runs.runner import choose_device  # needs torch

    chosen = choose_device(device)  # refused here once, not by every run
    if workers is not None:
        return [(configs, workers)]
    if chosen.type == "cuda":
        # One alone leaves the card waiting for the host most of the time (results/bench-h200/gpu.json). What it holds
        # on the card, its library included, is reckoned with as what it would hold in a processor's memory.
        fit = min(int(memory_here() / ON_A_GPU), int(memory_on(chosen) / max(map(memory, configs), default=1)))
        return [(configs, max(1, min(cores_here(), fit, len(configs))))]
    narrow = [config for config in configs if config.width <= PACKED_WIDTH]
    wide = [config for config in configs if config.width > PACKED_WIDTH]
    fit = int(memory_here() / max(map(memory, narrow), default=1))
    packed = max(1, min(cores_here(), fit, len(narrow)))
    return [(group, count) for group, count in ((narrow, packed), (wide, 1)) if group]


def execute_packed(
    configs: Sequence[RunConfig], device: str = "auto", workers: int | None = None,
    stop_after_seconds: float | None = None,
) -> list[str]:
    """:func:`labbook.runs.execution.execute_all` in as many processes as ``workers`` says, or as pay and fit (None).

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
