"""What is each part of our training step worth?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cifarbook.bench import spread
from cifarlab import precision

from benchmarks.common import alternate, images, ratios, settle
from benchmarks.steps import WITHOUT, Step, stepper


def measure(widths: tuple[int, ...] = (16, 64), count: int = 512, rounds: int = 3) -> dict[str, Any]:
    """Take one part away at a time: the changed step's speed over ours, alternating, by width and part."""
    pool = images(count)
    # Winograd's algorithm serves processors without bfloat16 units only.
    parts = {name: step for name, step in WITHOUT.items()
             if step.fast_convolutions or not precision.has_fast_bfloat16()}

    def worth(step: Step, width: int) -> dict[str, Any]:
        taken = alternate({"ours": stepper(Step(), width, pool), "variant": stepper(step, width, pool)}, rounds)
        return ratios(*([count / seconds for seconds in found] for found in taken.values()))

    return {"precision": settle("cpu")[-1], "images": count, "without": {
        str(width): {name: worth(step, width) for name, step in parts.items()} for width in widths}}


def lines(answer: Mapping[str, Any]) -> list[str]:
    """The speed without each part, at each width."""
    return [f"width {width}, {name}: {spread(row['ratio'])} times our speed"
            for width, rows in answer["without"].items() for name, row in rows.items()]
