"""Results that no training made: a committed run's record with another configuration."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from labbook.runs import store

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
