"""Which way of sharing the cores finishes most runs an hour; and what one run costs beside its training."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from cifarlab import execution, runner, store
from cifarlab.bench import ceiling
from cifarlab.bench.measuring import alternate, points
from cifarlab.config import PRESETS, RunConfig
from cifarlab.precision import multiplies_in


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


def seeds_in_one_step(width: int, seeds: int = 4, batch_size: int = 128, rounds: int = 3) -> dict[str, Any]:
    """Seconds of all convolutions of ``seeds`` networks, forward and backward: one network after the other, or at once.

    At once they are grouped convolutions, one group a network, which is what vectorising over seeds comes to.
    """
    config, _ = runner.resolve_precision(RunConfig.of(width=width, precision="auto"), torch.device("cpu"))
    dtype = multiplies_in(config.precision)

    def passes(groups: int, repeats: int) -> Callable[[], None]:
        tensors = []
        for layer, inputs, _ in ceiling.layer_shapes(config).values():
            outputs, channels, side, _ = layer.weight.shape
            x, w = (
                torch.randn(*shape).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
                for shape in ((batch_size, groups * channels, *inputs[2:]), (groups * outputs, channels, side, side))
            )
            tensors.append((x, w, layer.padding))

        def run() -> None:
            for _ in range(repeats):
                for x, w, padding in tensors:
                    F.conv2d(x, w, padding=padding, groups=groups).sum().backward()

        return run

    return {"width": width, "seeds": seeds} | alternate(
        {"one_by_one": passes(1, seeds), "at_once": passes(seeds, 1)}, rounds)


# What a run's kernel imports and reads before it trains: each printed with the seconds that it took.
PREPARATION = """
import time
started = time.perf_counter()
from cifarlab import data, figures, runner
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
