"""How long an epoch of each level of each study takes, against the studies' common reference, alternating."""

from __future__ import annotations

import statistics
from typing import Any

import torch
from cifarlab import data
from cifarlab.config import PRESETS, RunConfig
from labbook.studies import study as studies

from benchmarks.measuring import alternate, trainer


def kind_of_run(config: RunConfig) -> RunConfig:
    """``config`` without what does not change the time of an image: seed, rates, length, the dropout's rate."""
    return config.with_(
        seed=0, split_seed=0, epochs=1, train_images=40_000, val_images=10_000, schedule="constant",
        learning_rate=0.01, momentum=0.9, weight_decay=0.0, label_smoothing=0.0, input_norm="half",
        dropout=0.5 if config.dropout else 0.0,
    )


REFERENCE = kind_of_run(RunConfig.of(**PRESETS["laptop"]))


def measure(images: int = 512, rounds: int = 3) -> dict[str, Any]:
    """Seconds an image of every kind of run in the narrow studies, and its ratio to the reference's, one a round."""
    pool = data.load_cifar10(train=True).take(torch.arange(images))
    kinds = {}
    for name in studies.names():
        study = studies.load(name)
        if study.preset == "laptop":
            for level in study.levels:
                kind = kind_of_run(study.config(level, study.seeds[0]))
                kinds[kind.id] = kind
    answers = {}
    for kind_id, kind in kinds.items():
        taken = alternate({"reference": trainer(REFERENCE, pool), "kind": trainer(kind, pool)}, rounds)
        answers[kind_id] = {
            "seconds_per_image": statistics.median(taken["kind"]) / images,
            "ratio": [other / own for own, other in zip(taken["reference"], taken["kind"], strict=True)],
        }
    return {"reference": REFERENCE.id, "images": images, "kinds": answers}


def seconds_per_epoch(config: RunConfig, answers: dict[str, Any]) -> float | None:
    """Seconds of one epoch of ``config``, from the answers of :func:`measure`; None where its kind was not measured.

    The kind's ratio to the reference, which was timed in turn with it, times the reference's seconds: the median over
    all the kinds that it was timed beside, since a machine's speed differs from minute to minute.
    """
    kind = kind_of_run(config).id
    if not (found := answers["kinds"].get(kind)):
        return None
    ratio = 1.0 if kind == answers["reference"] else statistics.median(found["ratio"])
    reference = statistics.median(
        other["seconds_per_image"] / statistics.median(other["ratio"]) for other in answers["kinds"].values())
    return config.train_images * ratio * reference
