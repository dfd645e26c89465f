"""Each speed-up alone: our training step with one thing about it changed, what was kept and what was not."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cifarlab import data, models, processor, runner, training
from cifarlab.bench.measuring import alternate, ratios
from cifarlab.config import RunConfig
from cifarlab.optimizers import make_optimizers
from cifarlab.precision import bfloat16_products


@dataclass(frozen=True)
class Step:
    """A way to make one training step. The defaults are what :mod:`cifarlab.training` does."""

    channels_last: bool = True
    bfloat16: bool = True
    fast_convolutions: bool = True
    update: Literal["fused", "foreach", "one by one"] = "fused"
    whole_bfloat16: bool = False
    prepared: bool = False
    input_channels: int = 3
    inplace: bool = True
    recomputed: bool = False
    onednn_rounds: bool = False
    compiled: bool = False
    read_loss: bool = False
    batch_size: int = 128


# Left out one at a time: what each part of our step is worth.
WITHOUT = {
    "NCHW instead of channels_last": Step(channels_last=False),
    "float32 instead of bfloat16": Step(bfloat16=False),
    "every convolution by its definition": Step(fast_convolutions=False),
    "optimizer not fused": Step(update="one by one"),
    "ReLU not in place": Step(inplace=False),
    "loss read every step": Step(read_loss=True),
}
# Tried and not kept.
TRIED = {
    "weights in bfloat16 too": Step(whole_bfloat16=True),
    "images normalised beforehand, in bfloat16": Step(prepared=True),
    "first layer's inputs padded from 3 to 8 channels": Step(input_channels=8),
    "norm and ReLU computed again in backward": Step(recomputed=True),
    "float32, rounded to bfloat16 within oneDNN": Step(bfloat16=False, onednn_rounds=True),
    "optimizer by foreach": Step(update="foreach"),
    "batch of 256": Step(batch_size=256),
    "batch of 512": Step(batch_size=512),
    "torch.compile": Step(compiled=True),
}
# Evaluation in batches of another size than ours; images.
EVALUATED = {"evaluation in batches of 2,000": 2_000, "evaluation in batches of 125": 125}

# Why each might matter, in a line.
WHY = {
    "NCHW instead of channels_last": "Convolutions read a pixel's channels side by side; NCHW is put in order first.",
    "float32 instead of bfloat16": "Half the bytes to move, and more products at once where there are units for it.",
    "every convolution by its definition": "Winograd's algorithm takes fewer multiplications.",
    "optimizer not fused": "One pass over weights, gradients and moments, not one for each operation.",
    "ReLU not in place": "One array less to write for each layer.",
    "loss read every step": "A GPU would wait at each reading; a processor has computed it anyway.",
    "weights in bfloat16 too": "No casting of weights; but an update below a weight's rounding is lost.",
    "images normalised beforehand, in bfloat16": "Nothing to compute for a batch but its cut; twice the bytes to keep.",
    "first layer's inputs padded from 3 to 8 channels": "A vector of the processor holds eight values or more, not 3.",
    "norm and ReLU computed again in backward":
        "Their result need not be kept for backward; but the next convolution keeps it as its input.",
    "float32, rounded to bfloat16 within oneDNN": "bfloat16's units without casts of their own.",
    "optimizer by foreach": "Each operation once over a list of tensors: fewer calls, but as many passes over memory.",
    "batch of 256": "Fewer and larger operations; but it changes what is learnt.",
    "batch of 512": "Fewer and larger operations; but it changes what is learnt.",
    "torch.compile": "Joins neighbouring operations, such as norm and ReLU, into one pass over memory.",
    "evaluation in batches of 2,000": "Fewer and larger operations.",
    "evaluation in batches of 125": "Less memory at once, which the processor's cache may hold.",
    "freed memory given back": "The system clears every page of an array that it hands out anew.",
    "nothing": "It should not: how far this row is from 1 says how far any may be by chance.",
    "huge pages": "Fewer entries in the processor's table of pages.",
    "each thread bound to a core": "A thread keeps the caches that it has filled.",
}


class Recomputed(nn.Module):
    """A norm and its ReLU of which only the input is kept: they are computed again when backward needs them.

    The norm's running figures then follow each batch twice.
    """

    def __init__(self, norm: nn.Module, relu: nn.Module) -> None:
        super().__init__()
        self.norm, self.relu = norm, relu

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(lambda x: self.relu(self.norm(x)), x, use_reentrant=False, preserve_rng_state=False)


def padded(layer: nn.Conv2d, channels: int) -> nn.Conv2d:
    """The same convolution for inputs of ``channels`` channels, those that it did not have being ignored."""
    wide = nn.Conv2d(channels, layer.out_channels, layer.kernel_size, padding=layer.padding, bias=False)
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, : layer.in_channels] = layer.weight
    return wide


def network_of(step: Step, config: RunConfig) -> nn.Module:
    """The network of ``config``, in training mode, changed as ``step`` says."""
    model = models.build(config)
    if step.input_channels > 3:
        model.prep.conv = padded(model.prep.conv, step.input_channels)
    for module in list(model.modules()):
        if isinstance(module, nn.ReLU):
            module.inplace = step.inplace
        if isinstance(module, models.ConvBlock) and step.recomputed:
            module.norm, module.relu = Recomputed(module.norm, module.relu), nn.Identity()
    if step.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return (model.bfloat16() if step.whole_bfloat16 else model).train()


def stepper(step: Step, width: int, pool: data.Images) -> Callable[[], None]:
    """Return a function that trains on the same images at each call, cut into batches as ``step`` says."""
    config = RunConfig.of(width=width, batch_size=step.batch_size)
    model = network_of(step, config)
    if step.update == "fused":
        (optimizer,) = make_optimizers(config, model)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, foreach=step.update == "foreach")
    network = torch.compile(model) if step.compiled else model
    prepared = data.normalise(pool.pixels, config.input_norm).bfloat16() if step.prepared else None

    def train() -> None:
        for start in range(0, len(pool), step.batch_size):
            some = slice(start, start + step.batch_size)
            inputs = data.normalise(pool.pixels[some], config.input_norm) if prepared is None else prepared[some]
            if step.input_channels > 3:
                inputs = F.pad(inputs, (0, 0, 0, 0, 0, step.input_channels - 3))
            if not step.channels_last:
                inputs = inputs.contiguous()
            if step.whole_bfloat16:
                inputs = inputs.bfloat16()
            rounds = torch.autocast("cpu", dtype=torch.bfloat16, enabled=step.bfloat16 and not step.whole_bfloat16)
            with rounds, bfloat16_products(torch.device("cpu"), step.fast_convolutions):
                logits = network(inputs)
            loss = F.cross_entropy(logits.float(), pool.labels[some])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if step.read_loss:
                loss.item()

    def train_rounded_within_onednn() -> None:
        with torch.backends.mkldnn.flags(enabled=True, allow_tf32=None, fp32_precision="bf16"):
            train()

    return train_rounded_within_onednn if step.onednn_rounds else train


def applies(step: Step, units: bool, compiler: bool) -> bool:
    """Whether ``step`` says anything on a processor with or without bfloat16 ``units``, with or without ``compiler``.

    ``torch.compile`` would compile around the products that are rounded where there are no units.
    """
    needs_units = step.compiled or step.onednn_rounds
    return (units or not needs_units) and (compiler or not step.compiled) and (step.fast_convolutions or not units)


def compared(ours: Callable[[], object], variant: Callable[[], object], images: int, rounds: int) -> dict[str, Any]:
    """The speed of ``variant`` over ``ours``, alternating, ``images`` a call: :func:`cifarlab.bench.measuring.ratios`.
    """
    taken = alternate({"ours": ours, "variant": variant}, rounds)
    speeds = {name: [images / seconds for seconds in found] for name, found in taken.items()}
    return ratios(speeds["ours"], speeds["variant"])


def evaluator(width: int, pool: data.Images, batch_size: int | None = None) -> Callable[[], object]:
    """Return a function that evaluates all of ``pool``; without ``batch_size``, in batches as every run does."""
    config, _ = runner.resolve_precision(RunConfig.of(width=width, precision="auto"), torch.device("cpu"))
    model = models.build(config).to(memory_format=torch.channels_last)
    size = {} if batch_size is None else {"batch_size": batch_size}
    return lambda: training.predict(model, pool, config, **size)


def measure(widths: tuple[int, ...] = (16, 64), images: int = 512, rounds: int = 3) -> dict[str, Any]:
    """Each variant's speed over ours, images a second, alternating; by kind, width and variant, one ratio a round.

    ``without`` and ``tried`` are of training steps, ``evaluation`` of an evaluation.
    """
    everything = data.load_cifar10(train=True)
    pool, evaluated = (everything.take(torch.arange(count)) for count in (images, max(EVALUATED.values())))
    _, why = runner.resolve_precision(RunConfig.of(precision="auto"), torch.device("cpu"))
    units, compiler = processor.has_fast_bfloat16(), processor.has_compiler()

    def steps(variants: Mapping[str, Step], width: int) -> dict[str, Any]:
        return {
            name: compared(stepper(Step(), width, pool), stepper(step, width, pool), images, rounds)
            for name, step in variants.items() if applies(step, units, compiler)
        }

    def evaluations(width: int) -> dict[str, Any]:
        return {
            name: compared(evaluator(width, evaluated), evaluator(width, evaluated, size), len(evaluated), rounds)
            for name, size in EVALUATED.items()
        }

    return {"precision": why, "images": images} | {
        kind: {str(width): found(width) for width in widths}
        for kind, found in (
            ("without", lambda width: steps(WITHOUT, width)),
            ("tried", lambda width: steps(TRIED, width)),
            ("evaluation", evaluations),
        )
    }


KINDS = {"without": "taken away", "tried": "not kept", "evaluation": "not kept"}


def table(trials: Mapping[str, Any]) -> list[dict[str, str]]:
    """An answer of :func:`measure`, or of :mod:`cifarlab.bench.processes`, as it is shown: one row a variant; at each
    width its speed over ours, median (lowest to highest round), and both speeds. An answer of earlier code may lack
    kinds, variants and speeds.
    """
    widths = list(dict.fromkeys(width for kind in KINDS for width in trials.get(kind, {})))
    recorded = any(
        "images_per_second" in answer
        for kind in KINDS for variants in trials.get(kind, {}).values() for answer in variants.values())
    rows = []
    for kind, word in KINDS.items():
        found = trials.get(kind, {})
        for name in dict.fromkeys(name for variants in found.values() for name in variants):
            row = {"": word, "change": name}
            for width in widths:
                place = f"at width {width}" if width.isdigit() else f"of {width}"
                answer = found.get(width, {}).get(name)
                row[f"speed {place}"] = spread(answer["ratio"]) if answer else "–"
                if not recorded:
                    continue
                speeds = answer.get("images_per_second") if answer else None
                row[f"ours, changed {place} (images/s)"] = ", ".join(
                    f"{statistics.median(speeds[who]):,.0f}" for who in ("ours", "variant")) if speeds else "–"
            rows.append(row | {"why it might matter": WHY.get(name, "")})
    return rows


def spread(ratios: Sequence[float]) -> str:
    """The median of ratios, and the lowest and highest."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
