"""What is set for a whole process, and what that is worth: training in processes of their own, in turn with ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labbook.studies import study as studies

from benchmarks.measuring import points, ratios

# Arguments of benchmarks.measuring.points. What our processes do, taken away:
KEPT = "freed memory given back"
WITHOUT = {KEPT: {"keep_freed": False}}
# Tried and not kept: variables that PyTorch's allocator and its threads read. And ours once more, to see the noise.
TRIED = {
    "nothing": {},
    "huge pages": {"environment": {"THP_MEM_ALLOC_ENABLE": "1"}},
    "each thread bound to a core": {"environment": {"OMP_PROC_BIND": "close", "OMP_PLACES": "cores"}},
}
# Besides ResNet-9 at two widths: arrays are much larger there.
SPEEDRUN = "the speedrun's network"


def compared(
    changes: Mapping[str, Mapping[str, Any]], config: Mapping[str, Any], rounds: int, seconds: float = 3.0
) -> dict[str, Any]:
    """The speed of training ``config`` with each of ``changes`` over ours: see :func:`benchmarks.measuring.ratios`.

    Each round begins with another of them, so that none always follows the same one.
    """
    speeds: dict[str, list[float]] = {name: [] for name in ("ours", *changes)}
    names = list(speeds)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            point = {"config": dict(config), "seconds": seconds} | changes.get(name, {})
            speeds[name].append(points([point])[0]["images_per_second"])
    ours = speeds.pop("ours")
    return {name: ratios(ours, found) for name, found in speeds.items()}


def measure(widths: tuple[int, ...] = (16, 64), rounds: int = 3) -> dict[str, Any]:
    """By kind (``without``, ``tried``), network (a width, or ``SPEEDRUN``) and change, as :func:`compared` says.

    ``networks`` is what was trained: the speedrun's on whole images, whatever its first epochs see.
    """
    study = studies.load("speedrun")
    whole = study.config(study.reference, 0).with_(low_resolution=0, low_resolution_epochs=0)
    networks = {str(width): {"width": width} for width in widths}
    networks[SPEEDRUN] = whole.model_dump(exclude={"precision"})
    answer: dict[str, Any] = {"networks": networks, "without": {}, "tried": {}}
    for network, config in networks.items():
        found = compared(WITHOUT | TRIED, config, rounds)
        for kind, changes in (("without", WITHOUT), ("tried", TRIED)):
            answer[kind][network] = {name: found[name] for name in changes}
    return answer
