"""What does a GPU gain, and what keeps it waiting: both loops, larger batches, several runs at once?

A process takes longer to start than all that is measured of it. So all start together, each trains a little, and then
they wait: one at a time is told to train, or several together where that is the question.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cifarbook.bench import BenchmarkError, spread
from cifarlab import data
from cifarlab.summary import training_flops

from benchmarks.ceiling import matmul_rates
from benchmarks.common import ratios, settle, start
from benchmarks.point import original_passes, our_passes

WIDTHS = (16, 32, 64)
# The batch of a run's default, and one that keeps a large card busy longer than the host takes to hand it a step.
BATCHES = (128, 1024)
AT_ONCE = (1, 2, 4, 8, 12)


class Trainer:
    """A process of its own that has a network ready, and trains it when it is told."""

    def __init__(self, loop: str, width: int, batch_size: int) -> None:
        self.what = {"loop": loop, "width": width, "batch_size": batch_size}
        self.process = start("gpu", self.what, OMP_NUM_THREADS="1")

    def answer(self) -> dict[str, Any]:
        """What it says next."""
        if not (line := self.process.stdout.readline()):
            raise BenchmarkError(f"the benchmark of {self.what} failed with exit status {self.process.wait()}")
        return json.loads(line)

    def tell(self, seconds: float) -> None:
        """Have it train for about so long; :meth:`answer` then says how fast it was."""
        print(seconds, file=self.process.stdin, flush=True)

    def rate(self, seconds: float) -> float:
        """Images a second over about so many seconds."""
        self.tell(seconds)
        return self.answer()["images_per_second"]


def measure(
    rounds: int = 3, seconds: float = 1.0, widths: Sequence[int] = WIDTHS, batches: Sequence[int] = BATCHES,
    at_once: Sequence[int] = AT_ONCE,
) -> dict[str, Any]:
    """Images a second of everything, each ``rounds`` times in turn, on a GPU where there is one.

    Raises:
        BenchmarkError: a process failed.
    """
    base, device, why = settle()
    originals = {width: Trainer("original", width, base.batch_size) for width in widths}
    keys = dict.fromkeys([(width, base.batch_size) for width in widths] + [(max(widths), batch) for batch in batches])
    ours = {key: Trainer("ours", *key) for key in keys}
    alike = [ours[min(widths), base.batch_size], *(
        Trainer("ours", min(widths), base.batch_size) for _ in range(max(at_once) - 1))]
    trainers = [*originals.values(), *ours.values(), *alike[1:]]
    try:
        ready = {trainer: trainer.answer() for trainer in trainers}
        slow: dict[int, list[float]] = {width: [] for width in widths}
        fast: dict[tuple[int, int], list[float]] = {key: [] for key in ours}
        together: dict[int, list[float]] = {count: [] for count in at_once}
        for _ in range(rounds):
            for width, trainer in originals.items():
                slow[width].append(trainer.rate(seconds))
            for key, trainer in ours.items():
                fast[key].append(trainer.rate(seconds))
            for count in at_once:
                for trainer in alike[:count]:
                    trainer.tell(seconds)
                together[count].append(sum(trainer.answer()["images_per_second"] for trainer in alike[:count]))
    finally:
        for trainer in trainers:
            trainer.process.kill()

    def flops(width: int) -> float:
        return training_flops(base.with_(width=width, train_images=1, val_images=0, epochs=1))

    return {
        "device": device.type, "precision": why, "matmul_flops": matmul_rates(device), "rounds": rounds,
        "loops": [
            {"width": width, "original_images_per_second": slow[width],
             "our_images_per_second": fast[width, base.batch_size],
             "ratio": ratios(slow[width], fast[width, base.batch_size])["ratio"]} for width in widths
        ],
        "ours": [
            {"width": width, "batch_size": batch, "flops_per_image": flops(width), "images_per_second": rates,
             **ready[ours[width, batch]]} for (width, batch), rates in fast.items()
        ],
        "at_once": {"width": min(widths), "images_per_second": {str(count): together[count] for count in at_once}},
    }


def lines(answer: Mapping[str, Any]) -> list[str]:
    """Times the original's speed at each width, and what several runs at once finish."""
    at_once = answer["at_once"]["images_per_second"]
    gains = {count: [many / one for many, one in zip(speeds, at_once["1"], strict=True)]
             for count, speeds in at_once.items()}
    return [f"width {row['width']}: {spread(row['ratio'])} times the original's speed" for row in answer["loops"]] + [
        f"{count} at once: {spread(gain)} times the images of one" for count, gain in gains.items()]


def train_when_told(loop: str, width: int, batch_size: int) -> None:
    """The program of a :class:`Trainer`: say when it is ready, and then for each line how fast the training was."""
    started = time.perf_counter()
    config, device, _ = settle(width=width, batch_size=batch_size)
    if loop == "original":
        images, passes = 16 * batch_size, original_passes(config, device)
    else:
        images = 10_240
        pool = data.load(config).to(device)
        passes = our_passes(config, pool)
    begun = time.perf_counter()
    for _ in range(3):  # choosing how to compute takes the first few
        passes(images, 0)
    print(json.dumps({"preparing_seconds": begun - started, "first_steps_seconds": time.perf_counter() - begun}),
          flush=True)
    for line in sys.stdin:
        done, taken = 0, 0.0
        while taken < float(line):
            taken += passes(images, 0)
            done += images
        print(json.dumps({"images_per_second": done / taken}), flush=True)


if __name__ == "__main__":
    train_when_told(**json.loads(sys.argv[1]))
