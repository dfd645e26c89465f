"""A small study with made-up runs, for the tests of claims and for the kernels of their website."""

from __future__ import annotations

import numpy as np
import pandas as pd
from labbook.page import claims
from labbook.page.book import BookStudy
from labbook.studies.results import StudyResults
from labbook.studies.study import Study

# What each level's accuracy is, in percent, and what a run's scatters by.
LEVELS = {"constant": (76.0, 0.3), "cosine": (81.0, 0.3), "linear": (81.1, 0.3), "one cycle": (84.0, 0.3)}


def plan(**fields) -> Study:
    """A study of four levels with five seeds, each a schedule of the lab."""
    schedules = ("constant", "warmup_cosine", "linear", "one_cycle")
    levels = {name: {"schedule": schedule} for name, schedule in zip(LEVELS, schedules, strict=True)}
    return Study.model_validate({
        "name": "made-up", "title": "Made up", "question": "Which?", "factor": "schedule", "preset": "laptop",
        "seeds": range(5), "reference": "constant", "levels": levels, **fields})


def runs(study: Study, seeds=range(5), changed=None, diverged=(), levels=tuple(LEVELS)) -> StudyResults:
    """Runs whose accuracies have exactly the levels' means and scatters."""
    rows = []
    for level in levels:
        mean, scatter = LEVELS[level]
        draws = np.random.default_rng(len(level)).normal(size=len(seeds))
        if len(seeds) > 1:
            draws = (draws - draws.mean()) / draws.std(ddof=1)
        for seed, draw in zip(seeds, draws, strict=True):
            accuracy = (mean + scatter * draw) / 100
            rows.append({"level": level, "main": level, "setting": "", "seed": seed, "id": f"{level}-s{seed}",
                         "val_accuracy": accuracy, "val_loss": 1 - accuracy, "train_loss": 0.5, "train_accuracy": 0.9,
                         "fit_loss": 0.4, "fit_accuracy": 0.95, "diverged": (level, seed) in diverged})
    configs = {row["id"]: study.config(row["level"], row["seed"]) for row in rows}
    empty = pd.DataFrame(columns=["level", "seed", "epoch"])
    return StudyResults(study, pd.DataFrame(rows), empty, configs, empty, {}, (), changed or {})


def book_study(claimed=(), comparisons=(), pool=(), **given) -> BookStudy:
    """What a chapter's author has in hand."""
    return BookStudy(runs(plan(claims=claimed, comparisons=comparisons), **given), pool)


__all__ = ["LEVELS", "book_study", "claims", "plan", "runs"]
