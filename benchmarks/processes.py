"""What is it worth that a training process keeps the memory that it frees?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cifarbook.bench import spread
from labbook.studies import study as studies

from benchmarks.common import points, ratios

GIVEN_BACK = "freed memory given back"
# Besides ResNet-9 at two widths: arrays are much larger there.
SPEEDRUN = "the speedrun's network"


def measure(widths: tuple[int, ...] = (16, 64), rounds: int = 3, seconds: float = 3.0) -> dict[str, Any]:
    """Speed without it over ours, by network (a width, or ``SPEEDRUN`` on whole images), each in processes of its own.

    ``networks`` is what was trained. Every second round begins with ours, so that neither always follows the other.
    """
    study = studies.load("speedrun")
    whole = study.config(study.reference, 0).with_(low_resolution=0, low_resolution_epochs=0)
    networks = {str(width): {"width": width} for width in widths}
    networks[SPEEDRUN] = whole.model_dump(exclude={"precision"})
    found = {}
    for network, config in networks.items():
        speeds: dict[bool, list[float]] = {True: [], False: []}
        for number in range(rounds):
            for keep in (True, False) if number % 2 == 0 else (False, True):
                (point,) = points([{"config": config, "seconds": seconds, "keep_freed": keep}])
                speeds[keep].append(point["images_per_second"])
        found[network] = {GIVEN_BACK: ratios(speeds[True], speeds[False])}
    return {"networks": networks, "without": found}


def lines(answer: Mapping[str, Any]) -> list[str]:
    """The speed without it, network by network."""
    return [f"{network}, {change}: {spread(row['ratio'])} times our speed"
            for network, rows in answer["without"].items() for change, row in rows.items()]
