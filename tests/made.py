"""Results that no training made: a committed run's record with another configuration."""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path
from typing import Any

from labbook.runs import provenance, store

ROOT = Path(__file__).resolve().parents[1]


@functools.cache
def _record() -> str:
    return next((ROOT / "results" / "runs").glob("resnet9-w16-e5-*.json")).read_text(encoding="utf-8")


def result(config: Any, accuracy: float = 0.5, diverged: bool = False, **facts: Any) -> store.Result:
    """The record of ``config`` with this final validation ``accuracy``; ``facts`` replace parts of its provenance."""
    record = json.loads(_record())
    record |= {"id": config.id, "config": config.model_dump()}
    record["provenance"] |= {"precision": config.precision} | facts
    figures = {"train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 1.0, "val_accuracy": accuracy}
    record["history"] = [
        record["history"][0] | figures | {"epoch": epoch} for epoch in range(1, config.epochs + 1)]
    record["final"] |= figures | {"diverged": diverged}
    if diverged:
        for row in (record["history"][-1], record["final"]):
            row |= {"train_loss": None, "val_loss": None}
    return store.Result.model_validate(record)


def put(config: Any, accuracy: float = 0.5, diverged: bool = False, **facts: Any) -> store.Result:
    """Write the record of ``config`` into the store, and return it."""
    made = result(config, accuracy, diverged, **facts)
    store.write(made)
    return made


@functools.cache
def _layers(model: str, depth: int, block_convolutions: int) -> list[str]:
    """The names of a network's layers that have gradients."""
    from cifarlab import models
    from cifarlab.config import RunConfig

    network = models.build(RunConfig.of(model=model, depth=depth, block_convolutions=block_convolutions, width=4))
    return [name.removesuffix(".weight") for name, value in network.named_parameters()
            if value.dim() > 1 and value.requires_grad]


def plausible(config: Any, diverged: bool = False) -> store.Result:
    """The record of ``config`` with curves as a run has them, the same each time: losses fall, accuracies rise."""
    made = result(config, diverged=diverged).model_dump(exclude_unset=True)
    chance = random.Random(config.id)
    level = chance.uniform(0.8, 1.2)
    for row in made["history"]:
        left = 0.8 ** row["epoch"] * level
        row |= {"train_loss": 2.3 * left, "train_accuracy": 0.9 - 0.7 * left, "val_loss": 2.4 * left + 0.1,
                "val_accuracy": 0.85 - 0.6 * left + chance.uniform(-0.01, 0.01), "learning_rate": config.learning_rate}
    if diverged:
        made["history"][-1] |= {"train_loss": None, "val_loss": None}
    last = made["history"][-1]
    made["final"] |= {name: last[name] for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy")}
    made["final"] |= {"fit_loss": None if diverged else 2.2 * left, "fit_accuracy": 0.9 - 0.6 * left}
    made["gradients"] = [
        {"step": step, "norms": {name: chance.uniform(0.1, 1) for name in _layers(
            config.model, config.depth, config.block_convolutions)}} for step in (0, 1, 3)]
    made["provenance"] |= {"code_digest": provenance.code_digest(), "sittings": []}
    return store.Result.model_validate(made)
