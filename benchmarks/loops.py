"""How fast our training loop is against one written as the original's: in turn, on real images.

Each measurement is a process of its own: ours keeps the memory that it frees (:mod:`cifarlab.allocator`), and a loop
beside it in the same process would profit.
"""

from __future__ import annotations

import statistics
from typing import Any

from cifarlab import data
from cifarlab.arithmetic import training_flops
from cifarlab.config import RunConfig
from cifarlab.data import cifar10_root
from labbook.runs import runner

from benchmarks.ceiling import matmul_rates
from benchmarks.measuring import points, ratios


def measure(widths: tuple[int, ...] = (16, 32, 64), rounds: int = 5, seconds: float = 4.0) -> dict[str, Any]:
    """Alternate the two loops ``rounds`` times at each width, each about ``seconds`` long at the slower's speed.

    On a GPU where there is one; the original's images are cut and decoded by the processor there too.

    Raises:
        DatasetError: the loops run on real images, and the dataset is missing or damaged.
    """
    data.check_files(cifar10_root())
    device = runner.choose_device()
    base, why = runner.resolve_precision(RunConfig.of(precision="auto"), device)
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
            "ratio": compared["ratio"],
            "ratio_median": compared["median"],
            "our_flops": an_image * statistics.median(ours),
        })
    return {"device": device.type, "precision": why, "matmul_flops": matmul_rates(device), "rows": rows}


def report(result: dict[str, Any]) -> str:
    """The comparison as a small table."""
    lines = [
        result["precision"],
        f"{'width':>5} {'original':>10} {'ours':>10} {'ratio (min-max)':>20} {'of matmul':>10}",
    ]
    for row in result["rows"]:
        theirs, ours = (statistics.median(row[f"{who}_images_per_second"]) for who in ("original", "our"))
        lines.append(
            f"{row['width']:>5} {theirs:>8.0f}/s {ours:>8.0f}/s "
            f"{row['ratio_median']:>8.2f} ({min(row['ratio']):.2f}-{max(row['ratio']):.2f})"
            f"{row['our_flops'] / max(result['matmul_flops'].values()):>10.0%}"
        )
    return "\n".join(lines)
