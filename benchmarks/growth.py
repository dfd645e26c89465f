"""How time and memory grow: with batch, width, depth, kernel, images, epochs, processes, runs started and runs read."""

from __future__ import annotations

from typing import Any

from benchmarks import reading, starting
from benchmarks.measuring import points

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
PROCESSES = (1, 2, 4)


def measure(seconds: float = 3.0) -> dict[str, Any]:
    """Rows of ``factor``, ``value`` and what :func:`benchmarks.point.measure` says; what numbers of runs take."""
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
    return {
        "rows": rows, "processes": [together(count, seconds) for count in PROCESSES],
        "starting": starting.measure(), "reading": reading.measure(),
    }


def together(count: int, seconds: float) -> dict[str, Any]:
    """So many processes that train at once, one thread each: images a second and peak memory of all together."""
    found = points([{"config": BASE, "threads": 1, "seconds": seconds}] * count)
    sums = {name: sum(point[name] for point in found) for name in ("images_per_second", "peak_memory_bytes")}
    return {"processes": count, **sums}
