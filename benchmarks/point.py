"""One measured point in a process of its own: how fast a configuration trains, and how much memory that takes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, Literal

import torch
from cifarlab import data, models, training
from cifarlab.allocator import keep_freed_memory
from cifarlab.config import RunConfig
from cifarlab.optimizers import make_optimizers
from labbook.runs import provenance, runner


def measure(
    config: dict[str, Any], images: int = 0, epochs: int = 1, seconds: float = 4.0, threads: int | None = None,
    keep_freed: bool = True, loop: Literal["ours", "original"] = "ours",
) -> dict[str, Any]:
    """Train ``config`` on real images for about ``seconds`` (or on ``images`` for ``epochs``) and return what it took.

    ``images_per_second``, ``seconds_per_epoch`` of what was trained, ``peak_memory_bytes`` of the process since the
    data was read, and ``memory_before_bytes``, what it held of it by then: PyTorch, the images, what reading them left.
    ``loop``: ours, which keeps the memory that it frees unless ``keep_freed`` is False, or one written as the
    original's, which does what PyTorch does.
    """
    if threads:
        torch.set_num_threads(threads)
    device = runner.choose_device()
    base, _ = runner.resolve_precision(RunConfig.of(**({"precision": "auto"} | config)), device)
    if loop == "ours":
        train = our_passes(base, data.load_cifar10(train=True).to(device))
    else:
        train = original_passes(base, device)
    # Importing and reading take more than much of what is measured here.
    provenance.forget_peak_memory()
    before = provenance.peak_memory(device)["peak_memory_bytes"]
    if keep_freed and loop == "ours":
        keep_freed_memory()
    warm = 2 * base.batch_size
    train(warm, 0)
    if not images:
        images = min(40_000, max(4, round(warm / train(warm, 0) * seconds / base.batch_size)) * base.batch_size)
    taken = [train(images, epoch) for epoch in range(epochs)]
    return {
        "device": device.type, "images": images,
        "seconds_per_epoch": sum(taken) / epochs, "images_per_second": images * epochs / sum(taken),
        "memory_before_bytes": before, **provenance.peak_memory(device),
    }


def original_passes(config: RunConfig, device: torch.device) -> Callable[[int, int], float]:
    """Return a function that trains on so many images, as the original does, and says the seconds that it took."""
    from benchmarks.textbook import original_loop  # of what it imports our loop needs nothing

    return lambda images, _: images / original_loop(config, images, device)


def our_passes(config: RunConfig, pool: data.Images) -> Callable[[int, int], float]:
    """Return a function that trains on so many images of ``pool``, in the epoch that it is told, and says the seconds.

    On the device that holds them.
    """
    device = pool.pixels.device
    model = models.build(config).to(device, memory_format=torch.channels_last)
    optimizers = make_optimizers(config, model)

    def train(count: int, epoch: int) -> float:
        part = pool if count == len(pool) else pool.take(torch.arange(count, device=device))
        some = config.with_(train_images=count, val_images=0, epochs=epoch + 1)
        schedulers = training.make_schedulers(some, optimizers)
        with training.reproducible(device):
            started = time.perf_counter()
            training.train_epoch(model, optimizers, schedulers, part, some, epoch)  # ends by reading from the device
            return time.perf_counter() - started

    return train


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
