"""The book's networks as committed data: layers, parameters and arithmetic, so that reading them needs no PyTorch.

``python -m cifarbook networks`` writes ``results/networks.json`` from the models; a test makes it again and compares.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from cifarlab import summary
from cifarlab.config import RunConfig
from labbook.errors import LabError
from labbook.paths import project_root
from labbook.runs import files
from labbook.studies import study as studies
from labbook.studies.results import StudyResults

from cifarbook import bench

COLUMNS = ("layer", "detail", "kind", "output", "parameters", "macs")
# A side at which the speedrun's chapter shows its network's arithmetic, beside the whole image's.
SMALL = 24


def path() -> Path:
    """The networks are a part of the project, whatever folder the runs go to."""
    return project_root() / "results" / "networks.json"


def key(config: RunConfig) -> str:
    """The name of a network in the file: the fields that shape it, where they differ from the defaults."""
    own = RunConfig().model_dump()
    changed = [f"{name}={value}" for name, value in summary.shape(config).items() if value != own[name]]
    return " ".join(changed) or "default"


@functools.cache
def committed() -> Mapping[str, Any]:
    """The file's content: ``constants``, and ``networks`` by :func:`key`.

    Raises:
        LabError: the file is missing or damaged.
    """
    try:
        return json.loads(path().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LabError(
            f"{path()} cannot be read ({error}). Restore it from git, or write it again: "
            "`python -m cifarbook networks`."
        ) from None


def constants() -> Mapping[str, Any]:
    """Numbers that the lab's code holds and the book's prose says: see :func:`compute`."""
    return committed()["constants"]


def of(config: RunConfig, *also: int) -> dict[str, Any]:
    """The network of ``config``, as :func:`cifarlab.summary.describe` says it; ``also`` are further sides of images.

    One that no study has is built, which needs PyTorch.

    Raises:
        LabError: it is not among the committed networks and PyTorch is not here.
    """
    needed = {side for side, _ in summary.sides(config)} | set(also)
    found = committed()["networks"].get(key(config))
    if not found or not needed <= {int(side) for side in found["macs"]}:
        try:
            return summary.describe(config, also)
        except ModuleNotFoundError as error:
            raise LabError(
                f"The network {key(config)!r} is not in results/networks.json. Describing it builds it, which needs "
                f"{error.name}: `make train` installs it."
            ) from None
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in found["layers"]]
    weighted = [row["layer"] for row in rows if row["macs"]]
    return {
        "parameters": found["parameters"], "layers": rows, "first_trained": found["first_trained"],
        "macs": {int(side): dict(zip(weighted, macs, strict=True)) for side, macs in found["macs"].items()},
    }


def training_flops(config: RunConfig) -> float:
    """As :func:`cifarlab.summary.training_flops`, from the committed networks."""
    return summary.training_flops(config, of(config))


def whole_image_flops(config: RunConfig) -> float:
    """As :func:`cifarlab.summary.whole_image_flops`, from the committed networks."""
    return summary.whole_image_flops(of(config))


def costs(results: StudyResults) -> pd.DataFrame:
    """What each level costs: trainable values, multiply-accumulates an image, seconds an epoch.

    Seconds come from the benchmark, where all levels were timed in turn on a quiet machine: those of the runs
    themselves depend on what else it did that hour. NaN where a level was not timed.
    """
    timed = bench.read_if_there("costs") or {"kinds": {}}
    rows = []
    for level in results.trained:
        config = results.config_of(level)
        network = of(config)
        rows.append({
            "level": level, "parameters": network["parameters"],
            "macs": sum(network["macs"][summary.WHOLE].values()),
            "seconds": bench.seconds_per_epoch(config, timed) or math.nan,
        })
    return pd.DataFrame(rows, columns=["level", "parameters", "macs", "seconds"]).set_index("level")


def compute() -> dict[str, Any]:
    """Describe the network of every level of every study, and the original's, from the models; needs PyTorch."""
    from cifarlab import models, optimizers, speednet

    loaded = map(studies.load, studies.names())
    configs = [RunConfig(), *(study.config(level, study.seeds[0]) for study in loaded for level in study.levels)]
    sides: dict[str, set[int]] = {}
    first: dict[str, RunConfig] = {}
    for config in configs:
        first.setdefault(key(config), config)
        sides.setdefault(key(config), set()).update(side for side, _ in summary.sides(config))
        if config.model == "speednet":
            sides[key(config)].add(SMALL)
    networks = {}
    for name in sorted(first):
        found = summary.describe(first[name], sides[name])
        networks[name] = found | {
            "layers": [[list(row[column]) if column == "output" else row[column] for column in COLUMNS]
                       for row in found["layers"]],
            "macs": {str(side): [value for value in of_layer.values() if value]
                     for side, of_layer in found["macs"].items()},
        }
    speedrun = RunConfig.of(model="speednet", width=1, optimizer="muon")
    muon, _ = optimizers.make_optimizers(speedrun, models.build(speedrun))
    return {
        "constants": {
            "newton_schulz_steps": muon.defaults["ns_steps"], "adam_rate_beside_muon": optimizers.ADAM_RATE,
            "whitening_side": speednet.WHITENING_SIDE,
        },
        "networks": networks,
    }


def as_text(content: Mapping[str, Any]) -> str:
    """The file's text: one network a line, so that a change shows which."""
    networks = ",\n".join(f"  {json.dumps(name)}: {json.dumps(found, ensure_ascii=False)}"
                          for name, found in content["networks"].items())
    return f'{{"constants": {json.dumps(content["constants"])},\n "networks": {{\n{networks}\n }}}}\n'


def write() -> Path:
    """Describe all networks anew and write the file."""

    files.write_text(path(), as_text(compute()))
    return path()


def receptive_field_sizes(layer_rows: Sequence[Mapping]) -> list[int]:
    """The side of the input square that one output of each convolution or pooling sees, by layer order.

    For a layer of kernel k after layers of total stride s: r grows by (k - 1) s (Dumoulin & Visin 2016, chapter 2).
    ``layer_rows`` have ``kind`` and ``detail`` ("3 × 3"); a residual block's longest path counts.
    """
    size, stride, sizes = 1, 1, []
    for row in layer_rows:
        if row["kind"] not in ("Conv2d", "MaxPool2d"):
            continue
        kernel = int(row["detail"].split(" × ")[0])
        size += (kernel - 1) * stride
        stride *= kernel if row["kind"] == "MaxPool2d" else 1
        sizes.append(size)
    return sizes
