"""How do time and memory grow with batch, width, depth, kernel, images and epochs?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.common import points

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


def measure(seconds: float = 3.0) -> dict[str, Any]:
    """Rows of ``factor``, ``value`` and what :func:`benchmarks.point.measure` says."""
    asked = [(factor, value, {"config": BASE | {factor: value}, "seconds": seconds})
             for factor, values in FACTORS.items() for value in values]
    asked += [("train_images", value, {"config": BASE, "images": value}) for value in IMAGES]
    asked += [("epochs", value, {"config": BASE, "images": IMAGES[0], "epochs": value}) for value in EPOCHS]
    return {"rows": [{"factor": factor, "value": value, **points([point])[0]} for factor, value, point in asked]}


def lines(answer: Mapping[str, Any]) -> list[str]:
    """Each factor at its least and its greatest value."""
    ends: dict[str, list[Mapping[str, Any]]] = {}
    for row in answer["rows"]:
        ends.setdefault(row["factor"], []).append(row)
    return [f"{factor} {rows[0]['value']} to {rows[-1]['value']}: " + ", ".join(
        f"{1e3 / row['images_per_second']:.2f} ms an image and "
        f"{(row['peak_memory_bytes'] - row['memory_before_bytes']) / 2**20:.0f} MiB"
        for row in (rows[0], rows[-1])) for factor, rows in ends.items()]
