"""Read the benchmarks' committed answers, what an epoch takes by them, and the ideas that they speak against."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NotRequired

import yaml
from labbook.errors import LabError
from labbook.paths import project_root
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

OURS = "results/bench"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
Rounds = Annotated[list[Positive], Field(min_length=1)]
Rates = Annotated[dict[str, Positive], Field(min_length=1)]


class Provenance(TypedDict):
    date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d")]
    cpu: dict[str, Any]
    threads: Count
    versions: dict[str, str]


class Ratio(TypedDict):
    """Speed of a changed step over ours, one value a round."""

    ratio: Rounds
    images_per_second: NotRequired[dict[str, Rounds]]


class Loop(TypedDict):
    width: Count
    original_images_per_second: Rounds
    our_images_per_second: Rounds
    ratio: Rounds
    our_flops: NotRequired[Positive]


class Convolution(TypedDict):
    layer: str
    flops: Positive
    input: list[Count]
    milliseconds: Rates


class Kind(TypedDict):
    seconds_per_image: Positive
    ratio: Rounds


class Point(TypedDict):
    images_per_second: Positive
    peak_memory_bytes: Positive


class Packed(TypedDict):
    width: Count
    cores: Count
    one_run: Rounds
    a_run_a_core: Rounds


class ByWay(TypedDict):
    width: Count
    images_per_second: dict[str, Rounds]


class Ours(TypedDict):
    width: Count
    batch_size: Count
    flops_per_image: Positive
    images_per_second: Rounds
    first_steps_seconds: Positive


class Run(TypedDict):
    seconds: Positive
    test_accuracy: Annotated[float, Field(ge=0, le=1)]


# What a chapter takes from each answer: field to type.
FIELDS: dict[str, dict[str, Any]] = {
    "ceiling": {"matmul_flops": Rates, "convolutions": dict[str, list[Convolution]]},
    "costs": {"reference": str, "kinds": dict[str, Kind]},
    "gpu": {"rounds": Count, "matmul_flops": Rates, "loops": list[Loop], "ours": list[Ours], "at_once": ByWay},
    "growth": {"rows": list[Point]},
    "loops": {"precision": str, "matmul_flops": Rates, "rows": list[Loop]},
    "operations": {"batch_size": Count, "milliseconds": dict[str, dict[str, Rates]]},
    "packing": {"packing": list[Packed], "overhead": dict[str, Rounds]},
    "processes": {"without": dict[str, dict[str, Ratio]]},
    "products": {"rows": list[ByWay]},
    "race": {"level": str, "theirs": list[Run], "ours": list[Run], "ratio": Rounds},
    "trials": {"images": Count, "without": dict[str, dict[str, Ratio]]},
}


class BenchmarkError(LabError):
    """A benchmark's answer is missing, cannot be read, or holds something else than it should."""


def path_of(name: str, folder: str | None = None) -> Path:
    """Where the answer of the benchmark ``name`` lies; ``folder`` (from the project's root) is another machine's."""
    return project_root() / str(folder or OURS) / f"{name}.json"


def read(name: str, folder: str | None = None) -> dict[str, Any]:
    """Return the answer of the benchmark ``name``.

    Raises:
        BenchmarkError: the file is missing, damaged, or a value in it has the wrong type; the message says which.
    """
    path = path_of(name, folder)
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
        fields = {"name": str, "provenance": Provenance} | FIELDS.get(name, {})
        TypeAdapter(TypedDict("Answer", fields)).validate_python(answer, strict=True)
    except FileNotFoundError:
        raise BenchmarkError(f"{path} is missing. {_remedy(name, folder)}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        found = repr(first["input"])[:60]
        raise BenchmarkError(
            f"{path}: {place}: {first['msg'].lower()}, found {found}. {_remedy(name, folder)}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BenchmarkError(f"{path} is damaged ({error}). {_remedy(name, folder)}") from None
    return answer


def read_if_there(name: str, folder: str | None = None) -> dict[str, Any] | None:
    """As :func:`read`, but None where there is no such file."""
    return read(name, folder) if path_of(name, folder).exists() else None


def _remedy(name: str, folder: str | None) -> str:
    restore = "Restore it from git"
    if not (project_root() / "benchmarks" / f"{name}.py").is_file():
        return f"{restore}."
    return f"{restore}, or measure it: `python -m benchmarks {name}{f' --folder {folder}' if folder else ''}`."


def machines(name: str = "loops") -> list[str]:
    """The folders ``results/bench*`` that hold an answer of the benchmark ``name``: one a machine, ours first."""
    places = sorted((project_root() / "results").glob(f"bench*/{name}.json"))
    return [str(place.parent.relative_to(project_root())) for place in places]


def spread(ratios: Sequence[float]) -> str:
    """The median, and in brackets the lowest and highest: ``2.54 (2.20 to 2.73)``."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def kind_of_run(config: Any) -> Any:
    """``config`` (a RunConfig) without what does not change an image's time: seed, rates, length, dropout's rate."""
    return config.with_(
        seed=0, split_seed=0, epochs=1, train_images=40_000, val_images=10_000, schedule="constant",
        learning_rate=0.01, momentum=0.9, weight_decay=0.0, label_smoothing=0.0, input_norm="half",
        dropout=0.5 if config.dropout else 0.0,
    )


def seconds_per_epoch(config: Any, answers: Mapping[str, Any]) -> float | None:
    """Seconds of one epoch of ``config`` (a RunConfig) by the answer ``costs``; None where its kind was not timed.

    A kind's ratio to the reference, timed in turn with it, times the reference's seconds: the median over all kinds,
    since a machine's speed differs from minute to minute.
    """
    kind = kind_of_run(config).id
    if not (found := answers["kinds"].get(kind)):
        return None
    ratio = 1.0 if kind == answers["reference"] else statistics.median(found["ratio"])
    reference = statistics.median(
        other["seconds_per_image"] / statistics.median(other["ratio"]) for other in answers["kinds"].values())
    return config.train_images * ratio * reference


def negatives() -> list[dict[str, Any]]:
    """The ideas that were measured and not kept: ``idea``, ``why_not``, ``answer``, ``provenance``, ``speed``.

    ``speed``: network (a width, or its name) to the speed with the idea over that without, one value a round.

    Raises:
        BenchmarkError: the table, an answer that it names, or a value there is missing.
    """
    rows = yaml.safe_load((project_root() / OURS / "negatives.yml").read_text(encoding="utf-8"))
    return [_measured(row) for row in rows]


def _measured(row: Mapping[str, Any]) -> dict[str, Any]:
    folder, _, file = row["answer"].rpartition("/")
    answer = read(file.removesuffix(".json"), f"results/{folder}")
    try:
        if "ratio" in row:
            speed = _found(answer, row["ratio"])
        else:
            new, old = (_found(answer, key) for key in row.get("speed") or reversed(row["seconds"]))
            speed = {network: [a / b for a, b in zip(new[network], old[network], strict=True)] for network in new}
    except (KeyError, TypeError) as error:
        raise BenchmarkError(f"results/{row['answer']} has nothing for {row['idea']!r}: {error}") from None
    return {name: row[name] for name in ("idea", "why_not", "answer")} | {
        "provenance": answer["provenance"], "speed": speed}


def _found(part: Any, key: Sequence[Any], network: str = "") -> dict[str, Any]:
    """What lies under ``key`` (see negatives.yml), by network."""
    if not key:
        return {network: part}
    first, *rest = key
    if first == "*":
        parts = part
    elif isinstance(first, Mapping):
        parts = {str(row["width"]): row for row in part if first.items() <= row.items()}
    else:
        return _found(part[first], rest, network)
    return {name: value for which, inner in parts.items() for name, value in _found(inner, rest, which).items()}
