"""The original report's figures: quoted, never measured here."""

from __future__ import annotations

from typing import Any

import pandas as pd
import yaml
from labbook.paths import project_root

LEVELS = {"constant": "constant", "warmup_cosine": "warm-up cosine"}


def facts() -> dict[str, Any]:
    """What the report states; see ``results/original/facts.yml``."""
    return yaml.safe_load((project_root() / "results" / "original" / "facts.yml").read_text(encoding="utf-8"))


def histories() -> dict[str, pd.DataFrame]:
    """Its 20-epoch table, by level name: columns epoch, train_loss, val_loss (nats), val_accuracy (fraction)."""
    table = pd.read_csv(project_root() / "results" / "original" / "original_run.csv")
    return {
        LEVELS[schedule]: rows.drop(columns="schedule").reset_index(drop=True)
        for schedule, rows in table.groupby("schedule", sort=False)
    }


def history(level: str) -> pd.DataFrame:
    """One level's epochs in the shape of ours: with ``level`` and ``seed`` (0; there was one run)."""
    return histories()[level].assign(level=level, seed=0)
