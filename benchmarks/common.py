"""What the scripts share: measuring in turn or in processes of their own, and the file of an answer."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from cifarbook.bench import BenchmarkError, path_of
from cifarlab import data
from cifarlab.config import RunConfig
from cifarlab.lab import LAB
from labbook.runs import files, provenance

CPU = torch.device("cpu")


def settle(device: str = "auto", **fields: Any) -> tuple[RunConfig, torch.device, str]:
    """Return a configuration in the precision that this machine trains in, the device, and why that precision.

    Args:
        device: ``auto`` takes a GPU where there is one.
        fields: of the configuration; what is not named has its default.
    """
    chosen = LAB.choose_device(device)
    config, why = LAB.resolve(RunConfig.of(**({"precision": "auto"} | fields)), chosen)
    return config, chosen, why


def images(count: int) -> data.Images:
    """The first training images."""
    return data.load_cifar10(train=True).take(torch.arange(count))


def wait_for(device: torch.device) -> None:
    """Wait for what a GPU was given to do: it says nothing of its end, and a clock is about to be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def alternate(
    actions: Mapping[str, Callable[[], object]], rounds: int, device: torch.device = CPU
) -> dict[str, list[float]]:
    """Seconds of each action, ``rounds`` times in turn, after one round that warms up and is not counted."""
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
    """Speeds in images a second, their ratio (``variant`` over ``ours``) round by round, and its median."""
    found = [other / own for own, other in zip(ours, variant, strict=True)]
    return {
        "ratio": found, "median": statistics.median(found),
        "images_per_second": {"ours": ours, "variant": variant},
    }


def start(script: str, arguments: Mapping[str, Any], **environment: str) -> subprocess.Popen[str]:
    """Start a script of this folder as a process of its own: arguments and answers are lines of JSON."""
    return subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{script}", json.dumps(arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environment)


def points(values: Sequence[Mapping[str, Any]], script: str = "point", **environment: str) -> list[dict[str, Any]]:
    """Measure each value, the arguments of the ``measure`` of ``point`` or of another script, all at the same time.

    Each in a fresh process: its memory is its own, and so is what becomes of what it frees.

    Raises:
        BenchmarkError: a process failed; its own error is above.
    """
    processes = [
        start(script, value, **{"OMP_NUM_THREADS": str(value.get("threads", torch.get_num_threads()))} | environment)
        for value in values
    ]
    said = [process.communicate()[0] for process in processes]
    for value, process in zip(values, processes, strict=True):
        if process.returncode:
            raise BenchmarkError(f"the benchmark of {dict(value)} failed with exit status {process.returncode}")
    return [dict(value) | json.loads(out) for value, out in zip(values, said, strict=True)]


def write(name: str, answer: Mapping[str, Any], folder: str | None = None) -> Path:
    """Write a benchmark's answer, with the machine and the code that gave it, where chapters read it."""
    device = LAB.choose_device("cuda" if answer.get("device") == "cuda" else "cpu")
    facts = provenance.describe(device, torch.get_num_threads(), data.dataset_md5())
    path = path_of(name, folder)
    files.write_text(path, json.dumps({"name": name, **answer, "provenance": facts}, indent=1) + "\n")
    return path
