"""What a GPU gains, and what keeps it waiting: both loops, larger batches, a compiled step, several runs at once.

A process takes longer to start and to compile than all that is measured of it. So all start together, each trains a
little, and then they wait: one at a time is told to train, or several together where that is the question.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from cifarlab import data, models, training
from cifarlab.arithmetic import training_flops
from cifarlab.config import RunConfig
from cifarlab.data import cifar10_root
from cifarlab.optimizers import make_optimizers
from labbook.runs import runner

from benchmarks.answers import BenchmarkError
from benchmarks.ceiling import matmul_rates
from benchmarks.measuring import ratios
from benchmarks.point import original_passes

WIDTHS = (16, 32, 64)
# The batch of a run's default, and one that keeps a large card busy longer than the host takes to hand it a step.
BATCHES = (128, 1024)
AT_ONCE = (1, 2, 4, 8, 12)


class Trainer:
    """A process of its own that has a network ready, and trains it when it is told."""

    def __init__(self, loop: str, width: int, batch_size: int, compiled: bool) -> None:
        self.what = {"loop": loop, "width": width, "batch_size": batch_size, "compiled": compiled}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu", json.dumps(self.what)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})

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
    at_once: Sequence[int] = AT_ONCE, compile_them: bool = True,
) -> dict[str, Any]:
    """Images a second of everything, each ``rounds`` times in turn, on a GPU where there is one.

    Raises:
        DatasetError: the loops run on real images, and the dataset is missing or damaged. BenchmarkError: a process
            failed.
    """
    data.check_files(cifar10_root())
    device = runner.choose_device()
    base, why = runner.resolve_precision(RunConfig.of(precision="auto"), device)
    compiled = (False, True) if compile_them else (False,)
    originals = {width: Trainer("original", width, base.batch_size, False) for width in widths}
    ours = {key: Trainer("ours", *key) for key in {
        **{(width, base.batch_size, compiles): None for width in widths for compiles in compiled},
        **{(max(widths), batch, compiles): None for batch in batches for compiles in compiled},
    }}
    alike = [ours[min(widths), base.batch_size, False], *(
        Trainer("ours", min(widths), base.batch_size, False) for _ in range(max(at_once) - 1))]
    trainers = [*originals.values(), *ours.values(), *alike[1:]]
    try:
        ready = {trainer: trainer.answer() for trainer in trainers}
        slow: dict[int, list[float]] = {width: [] for width in widths}
        fast: dict[tuple[int, int, bool], list[float]] = {key: [] for key in ours}
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
             "our_images_per_second": fast[width, base.batch_size, False],
             "ratio": ratios(slow[width], fast[width, base.batch_size, False])["ratio"]} for width in widths
        ],
        "ours": [
            {"width": width, "batch_size": batch, "compiled": compiles, "flops_per_image": flops(width),
             "images_per_second": rates, **ready[ours[width, batch, compiles]]}
            for (width, batch, compiles), rates in fast.items()
        ],
        "at_once": {"width": min(widths), "images_per_second": {str(count): together[count] for count in at_once}},
    }


def our_pass(config: RunConfig, images: data.Images) -> Callable[[], float]:
    """Return a function that trains on all of ``images`` once and says the seconds that it took."""
    device = images.pixels.device
    model = models.build(config).to(device, memory_format=torch.channels_last)
    optimizers = make_optimizers(config, model)
    if config.compiled:
        model.compile(mode="reduce-overhead" if device.type == "cuda" else "default", dynamic=False)  # as a run does
    some = config.with_(train_images=len(images), val_images=0, epochs=1)

    def train() -> float:
        schedulers = training.make_schedulers(some, optimizers)
        with training.reproducible(device):
            started = time.perf_counter()
            training.train_epoch(model, optimizers, schedulers, images, some, 0)  # ends by reading from the device
            return time.perf_counter() - started

    return train


def train_when_told(what: Mapping[str, Any]) -> None:
    """The program of a :class:`Trainer`: say when it is ready, and then for each line how fast the training was."""
    started = time.perf_counter()
    device = runner.choose_device()
    base = RunConfig.of(**{name: what[name] for name in ("width", "batch_size", "compiled")}, precision="auto")
    config, _ = runner.resolve_precision(base, device)
    if what["loop"] == "original":
        images, passes = 16 * config.batch_size, original_passes(config, device)

        def train() -> float:
            return passes(images, 0)
    else:
        images = 10_240
        train = our_pass(config, data.load_cifar10(train=True).take(torch.arange(images)).to(device))
    begun = time.perf_counter()
    for _ in range(3):  # compiling, and choosing how, takes the first few
        train()
    print(json.dumps({"preparing_seconds": begun - started, "first_steps_seconds": time.perf_counter() - begun}),
          flush=True)
    for line in sys.stdin:
        done, taken = 0, 0.0
        while taken < float(line):
            taken += train()
            done += images
        print(json.dumps({"images_per_second": done / taken}), flush=True)


if __name__ == "__main__":
    train_when_told(json.loads(sys.argv[1]))
