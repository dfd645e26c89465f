"""Which way of sharing the cores finishes most runs an hour; and what one run costs beside its training."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import torch
from cifarlab import data
from cifarlab.config import PRESETS, RunConfig
from labbook.runs import execution, runner, store

from benchmarks import together
from benchmarks.measuring import alternate, points


def one_or_many(width: int, cores: int, rounds: int = 3, seconds: float = 5.0) -> dict[str, Any]:
    """Images a second over all runs: one run on all threads, or as many runs as cores on one thread each, in turn."""
    together: list[float] = []
    alone: list[float] = []
    for _ in range(rounds):
        config = {"config": {"width": width}, "seconds": seconds}
        alone.append(points([config | {"threads": cores}])[0]["images_per_second"])
        many = points([config | {"threads": 1}] * cores)
        together.append(sum(point["images_per_second"] for point in many))
    return {"width": width, "cores": cores, "one_run": alone, "a_run_a_core": together}


def seeds_in_one_step(width: int, seeds: int = 4, images: int = 2_560, rounds: int = 3) -> dict[str, Any]:
    """Seconds of training ``seeds`` networks on so many images each: one after the other, or all in the same steps.

    In the same steps their convolutions are grouped, which is what vectorising over seeds comes to.
    """
    config, _ = runner.resolve_precision(RunConfig.of(width=width, precision="auto"), torch.device("cpu"))
    pool = data.load_cifar10(train=True).take(torch.arange(images))
    return {"width": width, "seeds": seeds, "images": images} | alternate({
        "one_by_one": together.trainer(config, pool, seeds=1, times=seeds),
        "at_once": together.trainer(config, pool, seeds=seeds),
    }, rounds)


# What a run's kernel imports and reads before it trains: each printed with the seconds that it took.
PREPARATION = """
import time
started = time.perf_counter()
from cifarlab import data
from labbook.page import figures
from labbook.runs import runner
imported = time.perf_counter()
data.load_cifar10(train=True)
print(imported - started, time.perf_counter() - imported)
"""


def preparation() -> tuple[float, float]:
    """Seconds that a fresh process takes to import what a run needs, and then to read and check the data."""
    done = subprocess.run([sys.executable, "-c", PREPARATION], capture_output=True, text=True, check=True)
    imports, reading = map(float, done.stdout.split())
    return imports, reading


def overhead(rounds: int = 3) -> dict[str, Any]:
    """Seconds that one run through papermill takes beyond its training: kernel, imports, data, saving.

    ``imports`` and ``reading`` are what two parts of that take, measured in turn with it.
    """
    taken, imports, reading = [], [], []
    before = os.environ.get("CIFARLAB_RESULTS")
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["CIFARLAB_RESULTS"] = folder
            try:
                config = RunConfig.of(**(PRESETS["smoke"] | {
                    "dataset": "cifar10", "train_images": 1_000, "val_images": 1_000, "epochs": 1, "seed": number}))
                started = time.perf_counter()
                run_id = execution.execute(config)
                wall = time.perf_counter() - started
                (row,) = store.read(run_id).history
            finally:
                if before is None:
                    del os.environ["CIFARLAB_RESULTS"]
                else:
                    os.environ["CIFARLAB_RESULTS"] = before
        taken.append(wall - row.seconds - row.val_seconds)
        for found, seconds in zip((imports, reading), preparation(), strict=True):
            found.append(seconds)
    return {"seconds": taken, "imports": imports, "reading": reading}


def measure(widths: tuple[int, ...] = (8, 16, 32, 64)) -> dict[str, Any]:
    """Packing at each width, seeds together at the narrowest two, and a run's overhead."""
    cores = torch.get_num_threads()
    return {
        "packing": [one_or_many(width, cores) for width in widths],
        "seeds_in_one_step": [seeds_in_one_step(width) for width in widths[:2]],
        "overhead": overhead(),
    }
