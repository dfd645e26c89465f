"""The benchmarks' answers: where they lie, with which code and on which machine they were measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from cifarlab import data
from labbook.errors import LabError
from labbook.paths import project_root
from labbook.runs import provenance, runner, store


class BenchmarkError(LabError):
    """A benchmark's answer is missing, or one of its processes failed."""


class DamagedAnswerError(LabError):
    """A benchmark's file cannot be read."""


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


def write(
    name: str, answer: Mapping[str, Any], folder: str | None = None
) -> Path:
    """Write a benchmark's answer with the machine's description; the arguments are those of :func:`path_of`."""
    device = runner.choose_device() if on_a_gpu(answer) else torch.device("cpu")
    facts = provenance.describe(device, torch.get_num_threads(), data.dataset_md5())
    path = path_of(name, folder)
    store.write_text(path, json.dumps({"name": name, **answer, "provenance": facts}, indent=1) + "\n")
    return path


def days_of(answer: Mapping[str, Any]) -> list[str]:
    """On which day each round was measured: that of the answer, where none was added."""
    return answer.get("days") or [answer["provenance"]["date"][:10]] * len(answer["ratio"])


def when(answers: Sequence[Mapping[str, Any]]) -> str:
    """On which days answers were measured, and which of them by code that is not today's."""
    days = sorted({answer["provenance"]["date"][:10] for answer in answers})
    return f"measured {' to '.join(dict.fromkeys((days[0], days[-1])))}"


def read(name: str, folder: str | None = None) -> dict[str, Any]:
    """A benchmark's answer.

    Raises:
        BenchmarkError: it was not measured. DamagedAnswerError: its file cannot be read.
    """
    path = path_of(name, folder)
    remedy = f"python -m benchmarks --only {name}" + (f" --folder {folder}" if folder else "")
    if not path.is_file():
        raise BenchmarkError(f"{path} is not there. `{remedy}` measures it.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedAnswerError(
            f"{path} is damaged ({error}). Restore it from git, or measure again with `{remedy}`."
        ) from None


def if_measured(name: str, folder: str | None = None) -> dict[str, Any] | None:
    """As :func:`read`; None where it was not measured."""
    try:
        return read(name, folder)
    except BenchmarkError:
        return None
