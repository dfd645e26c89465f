"""Train one configuration in a process of its own: how fast it is, and how much memory that takes."""

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
from labbook.runs import provenance
from torch import nn

from benchmarks.common import settle

# Trains on the first so many images, in the epoch of that number, and returns the seconds that it took.
Passes = Callable[[int, int], float]


def measure(
    config: dict[str, Any], images: int = 0, epochs: int = 1, seconds: float = 4.0, threads: int | None = None,
    keep_freed: bool = True, loop: Literal["ours", "original"] = "ours",
) -> dict[str, Any]:
    """Train ``config`` for about ``seconds``, or on ``images`` for ``epochs``, and return what it took.

    ``images_per_second``, ``seconds_per_epoch`` of what was trained, ``peak_memory_bytes`` of the process since the
    data was read, and ``memory_before_bytes``, what it held by then: PyTorch, the images, what reading them left.

    Args:
        keep_freed: whether our loop keeps the memory that it frees, as a run does.
        loop: ours, or one written as the original's, which does what PyTorch does.
    """
    if threads:
        torch.set_num_threads(threads)
    base, device, _ = settle(**config)
    passes = our_passes(base, data.load(base).to(device)) if loop == "ours" else original_passes(base, device)
    # Importing and reading take more than much of what is measured here.
    provenance.forget_peak_memory()
    before = provenance.peak_memory(device)["peak_memory_bytes"]
    if keep_freed and loop == "ours":
        keep_freed_memory()
    warm = 2 * base.batch_size
    passes(warm, 0)
    if not images:
        images = min(40_000, max(4, round(warm / passes(warm, 0) * seconds / base.batch_size)) * base.batch_size)
    taken = [passes(images, epoch) for epoch in range(epochs)]
    return {
        "device": device.type, "images": images,
        "seconds_per_epoch": sum(taken) / epochs, "images_per_second": images * epochs / sum(taken),
        "memory_before_bytes": before, **provenance.peak_memory(device),
    }


def our_passes(config: RunConfig, pool: data.Images) -> Passes:
    """The lab's loop, on the device that holds ``pool``."""
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


def original_passes(config: RunConfig, device: torch.device) -> Passes:
    """A loop written as the original's: DataLoader, PIL and ToTensor for every image, float32, NCHW, a fresh network.

    Reading the files and building the network are not timed.
    """
    from torch.utils.data import DataLoader, Subset
    from torchvision import transforms  # our loop's memory is measured without it
    from torchvision.datasets import CIFAR10

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])
    dataset = CIFAR10(data.cifar10_root(), train=True, transform=transform)

    def train(count: int, _: int) -> float:
        loader = DataLoader(Subset(dataset, range(count)), batch_size=config.batch_size, shuffle=True)
        model = models.build(config).to(device)
        criterion = nn.CrossEntropyLoss()
        optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
        model.train()
        started = time.perf_counter()
        for batch in loader:
            inputs, labels = (tensor.to(device) for tensor in batch)
            optimizer.zero_grad()
            loss = criterion(model(inputs), labels)
            loss.backward()
            optimizer.step()
            loss.item()
        return time.perf_counter() - started

    return train


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
