"""Each speed-up alone: our training step with one thing about it changed, what was kept and what was not."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from cifarlab import data, models, processor, runner
from cifarlab.bench.measuring import alternate
from cifarlab.config import RunConfig
from cifarlab.optimizers import make_optimizers
from cifarlab.precision import RoundedProducts


@dataclass(frozen=True)
class Step:
    """A way to make one training step. The defaults are what :mod:`cifarlab.training` does."""

    channels_last: bool = True
    bfloat16: bool = True
    fast_convolutions: bool = True
    fused: bool = True
    whole_bfloat16: bool = False
    inplace: bool = True
    compiled: bool = False
    read_loss: bool = False
    batch_size: int = 128


# Left out one at a time: what each part of our step is worth.
WITHOUT = {
    "NCHW instead of channels_last": Step(channels_last=False),
    "float32 instead of bfloat16": Step(bfloat16=False),
    "every convolution by its definition": Step(fast_convolutions=False),
    "optimizer not fused": Step(fused=False),
    "ReLU not in place": Step(inplace=False),
    "loss read every step": Step(read_loss=True),
}
# Tried and not kept.
TRIED = {
    "weights in bfloat16 too": Step(whole_bfloat16=True),
    "batch of 256": Step(batch_size=256),
    "batch of 512": Step(batch_size=512),
    "torch.compile": Step(compiled=True),
}


def stepper(step: Step, width: int, pool: data.Images) -> Callable[[], None]:
    """Return a function that trains on the same images at each call, cut into batches as ``step`` says."""
    config = RunConfig.of(width=width, batch_size=step.batch_size)
    model = models.build(config)
    if step.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if step.whole_bfloat16:
        model = model.bfloat16()
    if not step.inplace:
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False
    if step.fused:
        (optimizer,) = make_optimizers(config, model)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, foreach=False)
    model.train()
    units = processor.has_fast_bfloat16()
    network = torch.compile(model) if step.compiled else model

    def train() -> None:
        for start in range(0, len(pool), step.batch_size):
            inputs = data.normalise(pool.pixels[start : start + step.batch_size], config.input_norm)
            labels = pool.labels[start : start + step.batch_size]
            if not step.channels_last:
                inputs = inputs.contiguous()
            if step.whole_bfloat16:
                inputs = inputs.bfloat16()
            rounds = torch.autocast("cpu", dtype=torch.bfloat16, enabled=step.bfloat16 and not step.whole_bfloat16)
            with rounds, nullcontext() if units else RoundedProducts(step.fast_convolutions):
                logits = network(inputs)
            loss = F.cross_entropy(logits.float(), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if step.read_loss:
                loss.item()

    return train


def measure(widths: tuple[int, ...] = (16, 64), images: int = 512, rounds: int = 3) -> dict[str, Any]:
    """Each variant's speed over ours, images a second, alternating; by width and variant, one ratio a round.

    ``torch.compile`` is left out without a C++ compiler, and without bfloat16 units: it would compile around the
    products that are rounded there. What is changed only there is left out where there are units.
    """
    pool = data.load_cifar10(train=True).take(torch.arange(images))
    _, why = runner.resolve_precision(RunConfig.of(precision="auto"), torch.device("cpu"))
    units = processor.has_fast_bfloat16()
    answers: dict[str, Any] = {"precision": why, "images": images, "without": {}, "tried": {}}
    for kind, variants in (("without", WITHOUT), ("tried", TRIED)):
        for width in widths:
            found = answers[kind].setdefault(str(width), {})
            for name, step in variants.items():
                if step.compiled and not (units and shutil.which("g++")):
                    continue
                if units and not step.fast_convolutions:
                    continue
                taken = alternate({"ours": stepper(Step(), width, pool), "variant": stepper(step, width, pool)}, rounds)
                ratios = [ours / variant for ours, variant in zip(taken["ours"], taken["variant"], strict=True)]
                found[name] = {"ratio": ratios, "median": statistics.median(ratios)}
    return answers
