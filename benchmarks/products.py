"""What does a training step cost by the way its products are computed, where there are no bfloat16 units?"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from cifarlab import data, models, precision
from cifarlab.config import RunConfig
from cifarlab.precision import RoundedProducts

from benchmarks.common import images

BY_DEFINITION = "bfloat16, rounded products in float32"
BY_WINOGRAD = "the same, large convolutions by Winograd's algorithm"
WAYS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "float32": lambda: torch.autocast("cpu", enabled=False),
    "bfloat16, PyTorch's own": nullcontext,
    BY_DEFINITION: lambda: RoundedProducts(fast_convolutions=False),
    BY_WINOGRAD: RoundedProducts,
}


def step_seconds(way: str, width: int, pool: data.Images, at_least: float) -> float:
    """Seconds a training step (forward and backward, one batch of all of ``pool``) takes, the mean over some."""
    config = RunConfig.of(width=width)
    model = models.build(config).to(memory_format=torch.channels_last).train()
    inputs = data.normalise(pool.pixels, config.input_norm)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16), WAYS[way]():
            logits = model(inputs)
        F.cross_entropy(logits.float(), pool.labels).backward()
        model.zero_grad(set_to_none=True)

    step()
    steps, started = 0, time.perf_counter()
    while not steps or time.perf_counter() - started < at_least:
        step()
        steps += 1
    return (time.perf_counter() - started) / steps


def measure(
    widths: tuple[int, ...] = (16, 64), count: int = 128, rounds: int = 3, seconds: float = 2.0
) -> dict[str, Any]:
    """Images a second of each way at each width, the ways in turn, one figure a round."""
    pool = images(count)
    rows = []
    for width in widths:
        speeds: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way, found in speeds.items():
                found.append(count / step_seconds(way, width, pool, seconds))
        rows.append({"width": width, "images_per_second": speeds})
    return {"units": precision.has_fast_bfloat16(), "images": count, "rows": rows}


def lines(answer: Mapping[str, Any]) -> list[str]:
    """The speed of each way, at each width."""
    return [f"width {row['width']}, {way}: {statistics.median(speeds):,.1f} images/s"
            for row in answer["rows"] for way, speeds in row["images_per_second"].items()]
