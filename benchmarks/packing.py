"""Is it one run on all cores, or a run a core, that finishes more; and what does a run take beside its training?"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import torch
from cifarbook.bench import spread
from cifarlab.config import PRESETS, RunConfig
from labbook.runs import engine, store

from benchmarks.common import points


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


def overhead(seed: int, **fields: Any) -> dict[str, float]:
    """Seconds that one run through papermill takes beyond its training: kernel, imports, data, saving.

    Meant for a process of its own with an empty results folder.
    """
    small = {"dataset": "cifar10", "train_images": 1_000, "val_images": 1_000, "epochs": 1, "seed": seed} | fields
    started = time.perf_counter()
    run_id = engine.execute_one(RunConfig.of(**(PRESETS["smoke"] | small)))
    wall = time.perf_counter() - started
    (row,) = store.read(run_id).history
    return {"overhead_seconds": wall - row.seconds - row.val_seconds}


def measure(widths: tuple[int, ...] = (8, 16, 32, 64), rounds: int = 3) -> dict[str, Any]:
    """Both ways at each width, and what a run takes beside its training."""
    cores = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        beside = [points([{"seed": seed}], "packing", LABBOOK_RESULTS=folder)[0]["overhead_seconds"]
                  for seed in range(rounds)]
    return {"packing": [one_or_many(width, cores) for width in widths], "overhead": {"seconds": beside}}


def lines(answer: Mapping[str, Any]) -> list[str]:
    """What a run a core gains at each width, and a run's overhead."""
    gains = {row["width"]: [b / a for a, b in zip(row["one_run"], row["a_run_a_core"], strict=True)]
             for row in answer["packing"]}
    return [f"a run takes {spread(answer['overhead']['seconds'])} s beside its training"] + [
        f"width {width}: a run a core finishes {spread(gain)} times the images" for width, gain in gains.items()]


if __name__ == "__main__":
    print(json.dumps(overhead(**json.loads(sys.argv[1]))))
