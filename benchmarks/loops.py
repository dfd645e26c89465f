"""How fast is our training loop against one written as the original's?"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from cifarbook.bench import spread
from cifarlab.summary import training_flops

from benchmarks.ceiling import matmul_rates
from benchmarks.common import points, ratios, settle


def measure(widths: tuple[int, ...] = (16, 32, 64), rounds: int = 5, seconds: float = 4.0) -> dict[str, Any]:
    """Alternate the two loops ``rounds`` times at each width, each about ``seconds`` long at the slower's speed.

    Each time in a process of its own, since ours keeps the memory that it frees and a loop beside it would profit. On a
    GPU where there is one; the original's images are cut and decoded by the processor there too.
    """
    base, device, why = settle()
    rows = []
    for width in widths:
        config = {"width": width, "precision": base.precision}
        images, theirs, ours = 0, [], []
        for _ in range(rounds):
            (original,) = points([{"config": config, "loop": "original", "images": images, "seconds": seconds}])
            images = original["images"]
            theirs.append(original["images_per_second"])
            ours.append(points([{"config": config, "images": images}])[0]["images_per_second"])
        compared = ratios(theirs, ours)
        an_image = training_flops(base.with_(width=width, train_images=1, val_images=0, epochs=1))
        rows.append({
            "width": width, "images": images, "rounds": rounds,
            "original_images_per_second": theirs, "our_images_per_second": ours,
            "ratio": compared["ratio"], "ratio_median": compared["median"],
            "our_flops": an_image * statistics.median(ours),
        })
    return {"device": device.type, "precision": why, "matmul_flops": matmul_rates(device), "rows": rows}


def lines(answer: Mapping[str, Any]) -> list[str]:
    """Width by width: times the original's speed, and the share of one large matrix product's rate."""
    product = max(answer["matmul_flops"].values())
    return [answer["precision"]] + [
        f"width {row['width']}: {spread(row['ratio'])} times the original's speed, "
        f"{statistics.median(row['our_images_per_second']):,.0f} images/s, "
        f"{row['our_flops'] / product:.0%} of the matrix product's rate" for row in answer["rows"]
    ]
