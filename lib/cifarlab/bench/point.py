"""One measured point in a process of its own: how fast a configuration trains, and how much memory that takes."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch

from cifarlab import data, models, provenance, runner, training
from cifarlab.allocator import keep_freed_memory
from cifarlab.config import RunConfig
from cifarlab.optimizers import make_optimizers


def measure(
    config: dict[str, Any], images: int = 0, epochs: int = 1, seconds: float = 4.0, threads: int | None = None,
    keep_freed: bool = True,
) -> dict[str, Any]:
    """Train ``config`` on real images for about ``seconds`` (or on ``images`` for ``epochs``) and return what it took.

    ``images_per_second``, ``seconds_per_epoch`` of what was trained, and ``peak_memory_bytes`` of the whole process.
    """
    if keep_freed:
        keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    base, _ = runner.resolve_precision(RunConfig.of(**({"precision": "auto"} | config)), torch.device("cpu"))
    pool = data.load_cifar10(train=True)
    model = models.build(base).to(memory_format=torch.channels_last)
    optimizers = make_optimizers(base, model)

    def train(count: int, epoch: int) -> float:
        part = pool.take(torch.arange(count))
        some = base.with_(train_images=count, val_images=0, epochs=epoch + 1)
        schedulers = training.make_schedulers(some, optimizers)
        started = time.perf_counter()
        training.train_epoch(model, optimizers, schedulers, part, some, epoch)
        return time.perf_counter() - started

    warm = 2 * base.batch_size
    train(warm, 0)
    if not images:
        images = min(40_000, max(4, round(warm / train(warm, 0) * seconds / base.batch_size)) * base.batch_size)
    taken = [train(images, epoch) for epoch in range(epochs)]
    return {
        "images": images, "seconds_per_epoch": sum(taken) / epochs, "images_per_second": images * epochs / sum(taken),
        **provenance.peak_memory(torch.device("cpu")),
    }


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
