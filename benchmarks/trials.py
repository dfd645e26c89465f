"""Each speed-up alone, measured: our training step, or evaluation, with one thing about it changed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from cifarlab import data, models, precision, training
from cifarlab.config import RunConfig
from labbook import machine as processor
from labbook.runs import runner

from benchmarks.measuring import alternate, ratios, trainer
from benchmarks.steps import TRIED, WITHOUT, Step, applies, stepper

# Evaluation in batches of another size than ours; images.
EVALUATED = {"evaluation in batches of 2,000": 2_000, "evaluation in batches of 125": 125}
# Epochs of training and their evaluations, against an evaluation after each.
EVERY_SECOND = "evaluation after every second epoch"

# Why each might matter, in a line.
WHY = {
    "NCHW instead of channels_last": "Convolutions read a pixel's channels side by side; NCHW is put in order first.",
    "float32 instead of bfloat16": "Half the bytes to move, and more products at once where there are units for it.",
    "every convolution by its definition": "Winograd's algorithm takes fewer multiplications.",
    "optimizer not fused": "One pass over weights, gradients and moments, not one for each operation.",
    "ReLU not in place": "One array less to write for each layer.",
    "images decoded and stacked one by one": "All images lie in memory as bytes; a batch is cut from them in one go.",
    "loss read every step": "A GPU would wait at each reading; a processor has computed it anyway.",
    "weights in bfloat16 too": "No casting of weights; but an update below a weight's rounding is lost.",
    "images normalised beforehand, in bfloat16": "Nothing to compute for a batch but its cut; twice the bytes to keep.",
    "first layer's inputs padded from 3 to 8 channels": "A vector of the processor holds eight values or more, not 3.",
    "pooling before ReLU": "The largest of rectified values is the largest, rectified: a quarter of the ReLUs.",
    "norm and ReLU computed again in backward":
        "Their result need not be kept for backward; but the next convolution keeps it as its input.",
    "float32, rounded to bfloat16 within oneDNN": "bfloat16's units without casts of their own.",
    "optimizer by foreach": "Each operation once over a list of tensors: fewer calls, but as many passes over memory.",
    "batch of 256": "Fewer and larger operations; but it changes what is learnt.",
    "batch of 512": "Fewer and larger operations; but it changes what is learnt.",
    "torch.compile": "Joins neighbouring operations, such as norm and ReLU, into one pass over memory.",
    "gradient of the filters by matrix products": "The slowest part of most convolutions, at a matrix product's rate.",
    "gradient of the last block's filters by matrix products": "By these layers' shapes, it is slowest there.",
    "the way of processors without bfloat16 units":
        "Rounded products in float32, large convolutions by Winograd's algorithm: fewer multiplications.",
    "first half of the convolutions frozen":
        "Backward ends early; but it changes what is learnt, and can begin only late in a run.",
    EVERY_SECOND: "Less time away from training; but half of the points of every curve are lost.",
    "evaluation in batches of 2,000": "Fewer and larger operations.",
    "evaluation in batches of 125": "Less memory at once, which the processor's cache may hold.",
    "freed memory given back": "The system clears every page of an array that it hands out anew.",
    "nothing": "It should not: how far this row is from 1 says how far any may be by chance.",
    "huge pages": "Fewer entries in the processor's table of pages.",
    "each thread bound to a core": "A thread keeps the caches that it has filled.",
}


def compared(ours: Callable[[], object], variant: Callable[[], object], images: int, rounds: int) -> dict[str, Any]:
    """The speed of ``variant`` over ``ours``, alternating, ``images`` a call: :func:`benchmarks.measuring.ratios`.
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


def two_epochs(width: int, pool: data.Images, held_out: data.Images, evaluations: int) -> Callable[[], object]:
    """Return a function that trains on all of ``pool`` twice and evaluates ``held_out`` so often."""
    config, _ = runner.resolve_precision(RunConfig.of(width=width, precision="auto"), torch.device("cpu"))
    train, evaluate = trainer(config, pool), evaluator(width, held_out)

    def both() -> None:
        for _ in range(2):
            train()
        for _ in range(evaluations):
            evaluate()

    return both


def measure(widths: tuple[int, ...] = (16, 64), images: int = 512, rounds: int = 3) -> dict[str, Any]:
    """Each variant's speed over ours, images a second, alternating; by kind, width and variant, one ratio a round.

    ``without`` and ``tried`` are of training steps, ``evaluation`` of an evaluation, and its last of two epochs with
    theirs, a held-out image for every four.
    """
    everything = data.load_cifar10(train=True)
    pool, held_out, evaluated = (
        everything.take(torch.arange(count)) for count in (images, images // 4, max(EVALUATED.values())))
    _, why = runner.resolve_precision(RunConfig.of(precision="auto"), torch.device("cpu"))
    units, compiler = precision.has_fast_bfloat16(), processor.has_compiler()

    def steps(variants: Mapping[str, Step], width: int) -> dict[str, Any]:
        return {
            name: compared(stepper(Step(), width, pool), stepper(step, width, pool), images, rounds)
            for name, step in variants.items() if applies(step, units, compiler)
        }

    def evaluations(width: int) -> dict[str, Any]:
        return {
            name: compared(evaluator(width, evaluated), evaluator(width, evaluated, size), len(evaluated), rounds)
            for name, size in EVALUATED.items()
        } | {
            EVERY_SECOND: compared(
                two_epochs(width, pool, held_out, 2), two_epochs(width, pool, held_out, 1), 2 * images, rounds)
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
    """An answer of :func:`measure`, or of :mod:`benchmarks.processes`, as it is shown: one row a variant; at each
    width its speed over ours, median (lowest to highest round), and on a line of their own both speeds. An answer of
    earlier code may lack kinds, variants and speeds.
    """
    widths = list(dict.fromkeys(width for kind in KINDS for width in trials.get(kind, {})))
    rows = []
    for kind, word in KINDS.items():
        found = trials.get(kind, {})
        for name in dict.fromkeys(name for variants in found.values() for name in variants):
            row = {"change": name, "": word}
            for width in widths:
                place = f"at width {width}" if width.isdigit() else f"of {width}"
                answer = found.get(width, {}).get(name)
                cell = spread(answer["ratio"]) if answer else "–"
                if speeds := (answer or {}).get("images_per_second"):
                    ours, changed = (statistics.median(speeds[who]) for who in ("ours", "variant"))
                    cell += f"\n{ours:,.0f} → {changed:,.0f}"
                row[f"speed {place}"] = cell
            rows.append(row | {"why it might matter": WHY.get(name, "")})
    return rows


def spread(ratios: Sequence[float]) -> str:
    """The median of ratios, and the lowest and highest."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
