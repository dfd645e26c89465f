"""How time and memory grow: with batch, width, depth, kernel, images, epochs, and with the number of runs read."""

from __future__ import annotations

import time
from typing import Any

from cifarlab.bench.measuring import points

# One thing varied at a time, about a narrow ResNet-9.
BASE = {"width": 16}
FACTORS = {
    "batch_size": (32, 64, 128, 256, 512),
    "width": (8, 16, 32, 64),
    "depth": (5, 9, 13, 17, 29),
    "kernel_size": (1, 3, 5, 7),
}
IMAGES = (2_000, 4_000, 8_000, 16_000)
EPOCHS = (1, 2, 4, 8)
RUNS = (10, 30, 100)


def measure(seconds: float = 3.0) -> dict[str, Any]:
    """Rows of ``factor``, ``value`` and what :func:`cifarlab.bench.point.measure` says; and the time to read runs."""
    rows = []
    for factor, values in FACTORS.items():
        for value in values:
            (point,) = points([{"config": BASE | {factor: value}, "seconds": seconds}])
            rows.append({"factor": factor, "value": value, **point})
    for value in IMAGES:
        (point,) = points([{"config": BASE, "images": value}])
        rows.append({"factor": "train_images", "value": value, **point})
    for value in EPOCHS:
        (point,) = points([{"config": BASE, "images": 2_000, "epochs": value}])
        rows.append({"factor": "epochs", "value": value, **point})
    return {"rows": rows, "reading": reading()}


def reading() -> list[dict[str, Any]]:
    """Seconds to read so many results from the store, as a chapter does at its top."""
    from cifarlab import store

    ids = [result.id for result in store.read_all()]
    answers = []
    for count in (*(n for n in RUNS if n < len(ids)), len(ids)):
        started = time.perf_counter()
        found = [store.read(run_id) for run_id in ids[:count]]
        store.history_frame([result for result in found if result])
        answers.append({"runs": count, "seconds": time.perf_counter() - started})
    return answers
