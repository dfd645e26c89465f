"""Where does a training step's time go, in the original's loop and in ours?"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from cifarlab.allocator import keep_freed_memory
from torch.profiler import ProfilerActivity, profile

from benchmarks.common import images, points, settle
from benchmarks.steps import AS_THE_ORIGINAL, Step, stepper

# The first kind whose word is in an operation's name takes it.
KINDS = (
    ("convolution, backward", ("convolution_backward",)),
    ("convolution, forward", ("convolution", "conv2d")),
    ("normalization", ("batch_norm", "group_norm")),
    ("pooling", ("max_pool", "avg_pool")),
    ("ReLU", ("relu", "threshold", "clamp_min")),
    ("optimizer", ("adam", "sgd", "muon", "_foreach", "_fused", "optimizer")),
    ("copies and types", ("copy_", "_to_copy", "contiguous", "aten::to")),
    ("batch", ("index", "randperm", "aten::sub", "aten::div")),
)
OTHER = "other"

OURS = "ours"
LOOPS = {"as the original": AS_THE_ORIGINAL, OURS: Step()}
STEPS = 4


def kind_of(operation: str) -> str:
    """The kind under which an operation's time is counted."""
    name = operation.lower()
    return next((kind for kind, words in KINDS if any(word in name for word in words)), OTHER)


def step_shares(loop: str, width: int, steps: int = STEPS) -> dict[str, float]:
    """Milliseconds of each kind of operation in one training step of one of ``LOOPS``, the mean over so many.

    Ours keeps the memory that it frees, as a run does, for the rest of this process.
    """
    if loop == OURS:
        keep_freed_memory()
    step = LOOPS[loop]
    train = stepper(step, width, images(steps * step.batch_size))
    train()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        train()
    shares: dict[str, float] = {}
    for event in found.key_averages():
        kind = kind_of(event.key)
        shares[kind] = shares.get(kind, 0.0) + event.self_cpu_time_total / 1e3 / steps
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def measure(widths: tuple[int, ...] = (16, 64)) -> dict[str, Any]:
    """Both loops at each width, each in a process of its own: milliseconds a step by kind."""
    return {
        "precision": settle("cpu")[-1], "batch_size": Step.batch_size, "steps": STEPS,
        "milliseconds": {
            str(width): {
                loop: points([{"loop": loop, "width": width}], "operations")[0]["milliseconds"] for loop in LOOPS
            } for width in widths
        },
    }


def lines(answer: Mapping[str, Any]) -> list[str]:
    """Each loop's three dearest kinds, at each width."""
    return [
        f"width {width}, {loop}: " + ", ".join(f"{kind} {took:.0f} ms" for kind, took in list(kinds.items())[:3])
        for width, loops in answer["milliseconds"].items() for loop, kinds in loops.items()]


if __name__ == "__main__":
    print(json.dumps({"milliseconds": step_shares(**json.loads(sys.argv[1]))}))
