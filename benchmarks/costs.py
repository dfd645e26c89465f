"""How long does an epoch of each level of each study take?"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

from cifarbook.bench import kind_of_run
from cifarlab.config import PRESETS, RunConfig
from labbook.studies import study as studies

from benchmarks.common import alternate, images
from benchmarks.point import our_passes


def measure(count: int = 512, rounds: int = 3) -> dict[str, Any]:
    """Seconds an image of every kind of run in the narrow studies, in turn with the studies' common reference.

    :func:`cifarbook.bench.seconds_per_epoch` reads it.
    """
    pool = images(count)
    reference = kind_of_run(RunConfig.of(**PRESETS["laptop"]))
    narrow = (study for study in map(studies.load, studies.names()) if study.preset == "laptop")
    levels = (kind_of_run(study.config(level, study.seeds[0])) for study in narrow for level in study.levels)
    answers = {}
    for kind_id, kind in {kind.id: kind for kind in levels}.items():
        taken = alternate({"reference": trainer(reference, pool), "kind": trainer(kind, pool)}, rounds)
        answers[kind_id] = {
            "seconds_per_image": statistics.median(taken["kind"]) / count,
            "ratio": [other / own for own, other in zip(taken["reference"], taken["kind"], strict=True)],
        }
    return {"reference": reference.id, "images": count, "kinds": answers}


def trainer(config: RunConfig, pool: Any) -> Callable[[], object]:
    """Return a function that trains on all of ``pool`` once at each call."""
    train = our_passes(config, pool)
    return lambda: train(len(pool), 0)


def lines(answer: Mapping[str, Any]) -> list[str]:
    """How many kinds there are, and what the cheapest and the dearest cost."""
    ratios = sorted(statistics.median(kind["ratio"]) for kind in answer["kinds"].values())
    return [f"{len(ratios)} kinds of run: {ratios[0]:.2f} to {ratios[-1]:.2f} times the reference's time"]
