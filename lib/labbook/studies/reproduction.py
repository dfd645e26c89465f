"""Train a random sample of committed runs again, and say how far the numbers agree.

On the kind of processor that made a run (same instructions, same PyTorch) the new run should agree bit for bit. On
another kind sums are rounded in another order; there the final accuracy should lie where a further seed of the same
setting would: within the 95 % prediction interval of the committed seeds.
"""

from __future__ import annotations

import datetime
import json
import math
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from labbook.errors import LabError
from labbook.lab import the_lab
from labbook.paths import results_in, results_root, scratch_folder
from labbook.runs import files, provenance, store

# What is narrow and short enough to be trained again in minutes.
WIDEST, LONGEST = 16, 5
FIGURES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


class Reproduced(BaseModel):
    """One run beside its repetition. Accuracies are of the last epoch, on validation images, as fractions.

    ``identical``: every epoch's losses and accuracies and every gradient norm are the same number. ``low`` to ``high``:
    where a further seed would lie in 95 of 100 cases, None for fewer than two committed ``seeds``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    same_kind: bool
    identical: bool
    committed: float
    again: float
    low: float | None
    high: float | None
    seeds: int

    @property
    def verdict(self) -> Literal["bit for bit", "within the interval", "outside the interval", "no interval"]:
        """How far the two agree, in the words of the table."""
        if self.identical:
            return "bit for bit"
        if self.low is None or self.high is None:
            return "no interval"
        return "within the interval" if self.low <= self.again <= self.high else "outside the interval"


def candidates(results: Sequence[store.Result]) -> list[store.Result]:
    """The runs that are narrow and short, made on a processor by one thread, with held-out images, and not diverged."""
    return [
        result for result in results
        if result.config.get("width", 0) <= WIDEST and result.config["epochs"] <= LONGEST
        and result.provenance.device == "cpu" and result.provenance.threads == 1
        and result.final.val_accuracy is not None and not result.final.diverged
    ]


def sample(results: Sequence[store.Result], count: int, seed: int) -> list[store.Result]:
    """``count`` of the candidates by chance, the same ones for one ``seed``; a larger count only adds to them.

    Raises:
        LabError: there is none.
    """
    found = sorted(candidates(results), key=lambda result: result.id)
    if not found:
        raise LabError(f"{results_root() / 'runs'}: no run of width up to {WIDEST} and {LONGEST} epochs, made on a "
                       "processor by one thread, is there to train again.")
    random.Random(seed).shuffle(found)
    return found[:count]


def kind(facts: dict[str, Any]) -> tuple[Any, ...]:
    """What decides a run's rounding: the processor's instructions and PyTorch's version, in every sitting."""
    parts, computes = [facts, *facts.get("sittings", ())], the_lab().packages[0]
    return tuple(sorted({
        (*part["cpu"]["instructions"], part["cpu"].get("held_to", ""), part["versions"][computes])
        for part in parts if "cpu" in part and "versions" in part
    }))


def prediction_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Where the next value of a normal distribution lies in 95 of 100 cases; None for fewer than two values."""
    from scipy.stats import t

    if len(values) < 2:
        return None
    spread = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) * math.sqrt(1 + 1 / len(values))
    mean = float(np.mean(values))
    return mean - float(spread), mean + float(spread)


def same_numbers(one: store.Result, other: store.Result) -> bool:
    """Whether two runs have the same figures after every epoch and the same gradient norms, to the last bit."""
    def numbers(result: store.Result) -> Any:
        return [[getattr(row, name) for name in FIGURES] for row in result.history], result.gradients

    return numbers(one) == numbers(other)


def compared(committed: store.Result, again: store.Result, seeds: Sequence[float]) -> Reproduced:
    """Lay a run beside its repetition; ``seeds`` are the final accuracies of all committed seeds of that setting."""
    low, high = prediction_interval(seeds) or (None, None)
    return Reproduced(
        id=committed.id, same_kind=kind(committed.facts) == kind(again.facts),
        identical=same_numbers(committed, again), committed=committed.final.val_accuracy,
        again=again.final.val_accuracy, low=low, high=high, seeds=len(seeds),
    )


def siblings(result: store.Result, results: Sequence[store.Result]) -> list[float]:
    """The final accuracies of the runs that differ from this one by their seed at most, itself included."""
    def setting(one: store.Result) -> dict[str, Any]:
        return {name: value for name, value in one.config.items() if name != "seed"}

    return [other.final.val_accuracy for other in results
            if setting(other) == setting(result) and not other.final.diverged]


def reproduce(
    count: int, seed: int, train: Callable[[list[Any]], list[str]]
) -> tuple[list[Reproduced], list[str], Path]:
    """Train ``count`` runs again in a results folder of their own, compare them, and write what was found.

    ``train`` trains configurations and returns the failures, a line each. What an earlier call trained with the same
    code is not trained again. Returns the comparisons, the failures and the file that was written.

    Raises:
        LabError: there is nothing to train again, or every run failed.
    """
    results = store.read_all()
    chosen = sample(results, count, seed)
    folder = scratch_folder() / "reproduced" / provenance.code_digest()
    with results_in(folder):
        failures = train([the_lab().config.of(**result.config) for result in chosen])
        again = {result.id: store.read(result.id) for result in chosen}
    found = [compared(result, again[result.id], siblings(result, results)) for result in chosen if again[result.id]]
    if not found:
        raise LabError("no run could be trained again:\n" + "\n".join(failures))
    made = next(run.provenance.model_dump(exclude_unset=True) for run in again.values() if run)
    path = results_root() / "reproduced" / f"{slug(made)}.json"
    files.write_text(path, json.dumps({
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": made["cpu"], "versions": made["versions"], "code_digest": made["code_digest"],
        "count": count, "seed": seed, "candidates": len(candidates(results)),
        "runs": [one.model_dump() for one in found],
    }, indent=1) + "\n")
    return found, failures, path


def slug(facts: dict[str, Any]) -> str:
    """A file name for the kind of machine: its processor and the widest of its instructions."""
    text = " ".join([facts["cpu"]["model"], *facts["cpu"]["instructions"][-1:]])
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def read_all(folder: Path | None = None) -> dict[str, list[Reproduced]]:
    """What was found on each machine, by the name of its file: for a page that shows it."""
    folder = folder or results_root() / "reproduced"
    return {
        path.stem: [Reproduced(**run) for run in json.loads(path.read_text(encoding="utf-8"))["runs"]]
        for path in sorted(folder.glob("*.json"))
    }


def table(found: Sequence[Reproduced]) -> str:
    """The comparisons as lines of text, and how many agree in which way."""
    wide = max(len(one.id) for one in found)
    lines = [f"{'run':<{wide}}  {'committed':>9}  {'again':>7}  {'further seed':>15}  agreement"]
    for one in found:
        interval = "" if one.low is None or one.high is None else f"{100 * one.low:.2f} to {100 * one.high:.2f}"
        lines.append(f"{one.id:<{wide}}  {100 * one.committed:>9.2f}  {100 * one.again:>7.2f}  {interval:>15}  "
                     f"{one.verdict}{'' if one.same_kind else ' (another kind of processor)'}")
    counts = {verdict: sum(one.verdict == verdict for one in found) for verdict in
              ("bit for bit", "within the interval", "outside the interval", "no interval")}
    return "\n".join([*lines, ", ".join(f"{number} {verdict}" for verdict, number in counts.items() if number)])
