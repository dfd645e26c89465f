"""The benchmarks' answers: where they lie, with which code and on which machine they were measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cifarlab import data, provenance, runner, store
from cifarlab.errors import LabError
from cifarlab.paths import project_root

# Digests of earlier code that measures the same, and why.
SAME_MEASUREMENTS = {
    "d36c3143692a": "of the costs: since then only how an answer is read was changed",
}


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
    name: str, answer: Mapping[str, Any], folder: str | None = None, earlier: Mapping[str, Any] | None = None
) -> Path:
    """Write a benchmark's answer with the machine's description; the arguments are those of :func:`path_of`.

    The rounds of ``answer`` come after those of an ``earlier`` one, which :func:`to_continue` gave.
    """
    device = runner.choose_device() if on_a_gpu(answer) else torch.device("cpu")
    facts = provenance.describe(device, torch.get_num_threads(), data.dataset_md5())
    facts["bench_digest"] = bench_digest(name)
    if earlier:
        answer = _continued(earlier, answer, facts["date"][:10])
    path = path_of(name, folder)
    store.write_text(path, json.dumps({"name": name, **answer, "provenance": facts}, indent=1) + "\n")
    return path


def to_continue(name: str, folder: str | None = None) -> dict[str, Any]:
    """The answer to which rounds can be added: of today's code, on a processor as this one.

    Raises:
        BenchmarkError: there is none. DamagedAnswerError: its file cannot be read.
    """
    answer = read(name, folder)
    facts = answer["provenance"]
    if not made_by_todays_code(answer):
        raise BenchmarkError(f"{path_of(name, folder)} was measured by other code; measure it anew, without --add.")
    if (facts["cpu"], facts["threads"]) != (provenance.cpu_description(), torch.get_num_threads()):
        raise BenchmarkError(
            f"{path_of(name, folder)} was measured on another processor or number of threads; --folder names a place "
            "for this one.")
    return answer


def days_of(answer: Mapping[str, Any]) -> list[str]:
    """On which day each round was measured: that of the answer, where none was added."""
    return answer.get("days") or [answer["provenance"]["date"][:10]] * len(answer["ratio"])


def _continued(earlier: Mapping[str, Any], answer: Mapping[str, Any], day: str) -> dict[str, Any]:
    """Both answers' rounds: every list has one entry a round; ``days`` says when each was measured."""
    lists = {name: [*earlier[name], *values] for name, values in answer.items() if isinstance(values, list)}
    return {**answer, **lists, "days": [*days_of(earlier), *[day] * len(answer["ratio"])],
            "wall_seconds": earlier["wall_seconds"] + answer["wall_seconds"]}


def bench_digest(name: str) -> str:
    """Twelve hex digits of the code that measures ``name``: its module, what it imports of the benchmarks, and what a
    process does with its memory. What is measured is in the provenance's ``code_digest``.
    """
    def measures(module: str) -> bool:
        return module.startswith("bench.") and module != "bench.answers"

    modules = [*sorted(provenance.reached(f"bench.{name}", measures)), "allocator"]
    return provenance.digest_of(map(provenance.path_of, modules))


def made_by_todays_code(answer: Mapping[str, Any]) -> bool:
    """Whether today's code would measure the same thing: how it measures has not changed since, nor what is computed.

    Earlier code that measures the same (:data:`SAME_MEASUREMENTS`) or gives the same numbers
    (:data:`cifarlab.provenance.SAME_NUMBERS`) counts, as it does for a run.
    """
    facts = answer["provenance"]
    measured_by = facts.get("bench_digest")
    todays = provenance.as_computed_today(measured_by) == bench_digest(answer["name"])
    return provenance.made_by_todays_code(facts) and (todays or measured_by in SAME_MEASUREMENTS)


def when(answers: Sequence[Mapping[str, Any]]) -> str:
    """On which days answers were measured, and which of them by code that is not today's."""
    days = sorted({answer["provenance"]["date"][:10] for answer in answers})
    older = [f"`{answer['name']}`" for answer in answers if not made_by_todays_code(answer)]
    return f"measured {' to '.join(dict.fromkeys((days[0], days[-1])))}" + (
        f"; by earlier code: {', '.join(older)}" if older else "")


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


def if_measured(name: str, folder: str | None = None) -> dict[str, Any] | None:
    """As :func:`read`; None where it was not measured."""
    try:
        return read(name, folder)
    except BenchmarkError:
        return None
