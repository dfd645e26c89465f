"""Where a training step's time goes, by kind of operation, in the plain loop and in ours."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from cifarlab import data, models, runner
from cifarlab.config import RunConfig
from cifarlab.optimizers import make_optimizers
from cifarlab.precision import autocast

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


def kind_of(operation: str) -> str:
    """The kind under which an operation's time is counted."""
    name = operation.lower()
    return next((kind for kind, words in KINDS if any(word in name for word in words)), OTHER)


def step_shares(config: RunConfig, plain: bool, steps: int = 4) -> dict[str, float]:
    """Milliseconds a step of each kind of operation.

    ``plain``: float32, NCHW, no autocast, as the original's loop computes; else as :mod:`cifarlab.training` does.
    """
    pool = data.load_cifar10(train=True).take(torch.arange((steps + 1) * config.batch_size))
    if plain:
        config = config.with_(precision="float32")
    config = config.with_(train_images=len(pool), val_images=0)
    model = models.build(config)
    if not plain:
        model = model.to(memory_format=torch.channels_last)
    optimizers = make_optimizers(config, model)
    model.train()
    device = torch.device("cpu")

    def step(inputs: torch.Tensor, labels: torch.Tensor) -> None:
        if plain:
            inputs = inputs.contiguous()
        with autocast(config, device):
            logits = model(inputs)
        F.cross_entropy(logits.float(), labels).backward()
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad(set_to_none=True)

    generator = torch.Generator().manual_seed(0)
    cut = data.batches(pool, config, generator, generator)
    step(*next(cut))
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for inputs, labels in cut:
            step(inputs, labels)
    shares: dict[str, float] = {}
    for event in found.key_averages():
        kind = kind_of(event.key)
        shares[kind] = shares.get(kind, 0.0) + event.self_cpu_time_total / 1e3 / steps
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def measure(widths: tuple[int, ...] = (16, 64)) -> dict[str, Any]:
    """Both loops at each width: milliseconds a step by kind."""
    config, why = runner.resolve_precision(RunConfig.of(precision="auto"), torch.device("cpu"))
    return {
        "precision": why, "batch_size": config.batch_size,
        "milliseconds": {
            str(width): {
                "as the original": step_shares(config.with_(width=width), plain=True),
                "ours": step_shares(config.with_(width=width), plain=False),
            }
            for width in widths
        },
    }
