"""How the benchmarks measure: alternately, or each in a process of its own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from cifarlab import data
from cifarlab.config import RunConfig

from benchmarks.answers import BenchmarkError
from benchmarks.point import our_passes

CPU = torch.device("cpu")


def wait_for(device: torch.device) -> None:
    """A GPU is handed its work and told nothing of its end: wait for that before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def alternate(
    actions: Mapping[str, Callable[[], object]], rounds: int, device: torch.device = CPU
) -> dict[str, list[float]]:
    """Seconds of each action on ``device``, ``rounds`` times in turn after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for action in actions.values():
        action()
    wait_for(device)
    for _ in range(rounds):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            wait_for(device)
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratios(ours: list[float], variant: list[float]) -> dict[str, Any]:
    """Speeds in images a second, round by round; ``variant`` over ``ours``, one ratio a round; and their median."""
    found = [other / own for own, other in zip(ours, variant, strict=True)]
    return {
        "ratio": found, "median": statistics.median(found),
        "images_per_second": {"ours": ours, "variant": variant},
    }


def trainer(config: RunConfig, pool: data.Images) -> Callable[[], object]:
    """Return a function that trains on all of ``pool`` once at each call."""
    train = our_passes(config, pool)
    return lambda: train(len(pool), 0)


def points(values: Sequence[Mapping[str, Any]], module: str = "point") -> list[dict[str, Any]]:
    """Measure each point (arguments of :func:`benchmarks.point.measure`, or of another benchmark ``module`` that
    is a program and answers in JSON), all at the same time.

    Each in a fresh process, so that its memory is its own: the peak of it, and what becomes of what it frees. A
    point's ``environment`` holds variables that its process is started with.
    """
    processes = []
    for value in values:
        arguments = {name: given for name, given in value.items() if name != "environment"}
        threads = {"OMP_NUM_THREADS": str(value.get("threads", torch.get_num_threads()))}
        processes.append(subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{module}", json.dumps(arguments)],
            stdout=subprocess.PIPE, text=True, env=os.environ | threads | value.get("environment", {}),
        ))
    answers = []
    for value, process in zip(values, processes, strict=True):
        out, _ = process.communicate()
        if process.returncode:
            raise BenchmarkError(f"the benchmark of {dict(value)} failed with exit status {process.returncode}")
        answers.append(dict(value) | json.loads(out))
    return answers
