"""How the benchmarks measure: alternately, or each in a process of its own; and where they write."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cifarlab import data, provenance, runner, store
from cifarlab.bench.point import our_passes
from cifarlab.config import RunConfig
from cifarlab.errors import LabError
from cifarlab.paths import project_root

CPU = torch.device("cpu")


class BenchmarkError(LabError):
    """A benchmark's answer is missing, or one of its processes failed."""


def wait_for(device: torch.device) -> None:
    """A GPU is handed its work and told nothing of its end: wait for that before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def alternate(
    actions: Mapping[str, Callable[[], object]], rounds: int, device: torch.device = CPU
) -> dict[str, list[float]]:
    """Seconds of each action on ``device``, ``rounds`` times in turn after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for action in actions.values():
        action()
    wait_for(device)
    for _ in range(rounds):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            wait_for(device)
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratios(ours: list[float], variant: list[float]) -> dict[str, Any]:
    """Speeds in images a second, round by round; ``variant`` over ``ours``, one ratio a round; and their median."""
    found = [other / own for own, other in zip(ours, variant, strict=True)]
    return {
        "ratio": found, "median": statistics.median(found),
        "images_per_second": {"ours": ours, "variant": variant},
    }


def trainer(config: RunConfig, pool: data.Images) -> Callable[[], object]:
    """Return a function that trains on all of ``pool`` once at each call."""
    train = our_passes(config, pool)
    return lambda: train(len(pool), 0)


def points(values: Sequence[Mapping[str, Any]], module: str = "point") -> list[dict[str, Any]]:
    """Measure each point (arguments of :func:`cifarlab.bench.point.measure`, or of another benchmark ``module`` that
    is a program and answers in JSON), all at the same time.

    Each in a fresh process, so that its memory is its own: the peak of it, and what becomes of what it frees. A
    point's ``environment`` holds variables that its process is started with.
    """
    processes = []
    for value in values:
        arguments = {name: given for name, given in value.items() if name != "environment"}
        threads = {"OMP_NUM_THREADS": str(value.get("threads", torch.get_num_threads()))}
        processes.append(subprocess.Popen(
            [sys.executable, "-m", f"cifarlab.bench.{module}", json.dumps(arguments)],
            stdout=subprocess.PIPE, text=True, env=os.environ | threads | value.get("environment", {}),
        ))
    answers = []
    for value, process in zip(values, processes, strict=True):
        out, _ = process.communicate()
        if process.returncode:
            raise BenchmarkError(f"the benchmark of {dict(value)} failed with exit status {process.returncode}")
        answers.append(dict(value) | json.loads(out))
    return answers


def path_of(name: str, folder: str | None = None) -> Path:
    """Where a benchmark's answer lies: in ``results/bench``, or in another folder, such as another machine's."""
    return (project_root() / (folder or "results/bench")) / f"{name}.json"


def folders(name: str = "loops") -> list[str]:
    """The folders beside ``results/bench``, and that itself, that hold the benchmark ``name``: one a machine."""
    places = sorted((project_root() / "results").glob(f"bench*/{name}.json"))
    return [str(place.parent.relative_to(project_root())) for place in places]


def on_a_gpu(answer: Any) -> bool:
    """Whether any part of an answer says that it was measured on a GPU."""
    if isinstance(answer, Mapping):
        return answer.get("device") == "cuda" or any(on_a_gpu(part) for part in answer.values())
    return isinstance(answer, list) and any(on_a_gpu(part) for part in answer)


def write(name: str, answer: Mapping[str, Any], folder: str | None = None) -> Path:
    """Write a benchmark's answer with the machine's description; the arguments are those of :func:`path_of`."""
    device = runner.choose_device() if on_a_gpu(answer) else CPU
    facts = provenance.describe(device, torch.get_num_threads(), data.dataset_md5())
    path = path_of(name, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    store.write_text(path, json.dumps({"name": name, **answer, "provenance": facts}, indent=1) + "\n")
    return path


def when(answers: Sequence[Mapping[str, Any]]) -> str:
    """On which days answers were measured, and which of them by numeric code that is not today's."""
    days = sorted({answer["provenance"]["date"][:10] for answer in answers})
    older = [
        f"`{answer['name']}`" for answer in answers if not provenance.made_by_todays_code(answer["provenance"])]
    return f"measured {' to '.join(dict.fromkeys((days[0], days[-1])))}" + (
        f"; by earlier code: {', '.join(older)}" if older else "")


class DamagedAnswerError(LabError):
    """A benchmark's file cannot be read."""


def read(name: str, folder: str | None = None) -> dict[str, Any]:
    """A benchmark's answer.

    Raises:
        BenchmarkError: it was not measured. DamagedAnswerError: its file cannot be read.
    """
    path = path_of(name, folder)
    remedy = f"python -m cifarlab bench --only {name}" + (f" --folder {folder}" if folder else "")
    if not path.is_file():
        raise BenchmarkError(f"{path} is not there. `{remedy}` measures it.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedAnswerError(
            f"{path} is damaged ({error}). Restore it from git, or measure again with `{remedy}`."
        ) from None
