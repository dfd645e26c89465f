"""Whose code made a run: of the committed ones, none of other numbers passes for today's."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import torch
from cifarlab import models, winograd
from cifarlab.config import RunConfig
from cifarlab.lab import LAB
from cifarlab.summary import SHAPE
from labbook.machine import cpu_description
from labbook.runs import digests, provenance
from torch import nn

RUNS = Path(__file__).resolve().parents[1] / "results" / "runs"
TODAY = provenance.code_digest()
KNOWN = digests.equivalences()
ACCEPTED = list(KNOWN["same_numbers"])   # oldest first


def facts(digest: str, *sittings: str) -> dict:
    return {"code_digest": digest, "sittings": [{"code_digest": each} for each in sittings]}


@pytest.mark.parametrize(("made", "expected"), [
    ({"code_digest": TODAY}, "today's"), (facts(TODAY, TODAY, TODAY), "today's"),
    (facts(TODAY, ACCEPTED[0], TODAY), "same numbers"), (facts(TODAY, "another", TODAY), "other"),
    (facts("another"), "other"),
])
def test_every_sitting_of_a_run_counts(made, expected):
    assert provenance.made_by(made) == expected
    assert provenance.made_by_todays_code(made) == (expected != "other")


def test_a_run_is_described_by_what_it_was_made_with(monkeypatch):
    asked = []
    monkeypatch.setattr(provenance, "_git", lambda *arguments: asked.append(arguments) or "")
    found = provenance.describe(LAB, RunConfig.of(dataset="synthetic"), torch.device("cpu"), 2)
    assert found["cpu"] == cpu_description()
    assert (found["threads"], found["device"], found["precision"]) == (2, "cpu", "float32")
    assert found["versions"].keys() == {"python", "torch", "torchvision", "numpy"}
    assert found["code_digest"] == TODAY
    assert found["git_clean"] is True
    # Results are data: writing one does not make the tree another.
    assert ":(exclude)results" in asked[0]
    assert provenance.peak_memory(LAB, torch.device("cpu"))["peak_memory_bytes"] > 10**7


def test_without_git_a_run_is_described_all_the_same(monkeypatch):
    monkeypatch.setattr(provenance, "project_root", lambda: Path("/"))
    assert provenance._git("rev-parse", "HEAD") is None
    assert provenance.describe(LAB, RunConfig.of(dataset="synthetic"), torch.device("cpu"), 1)["git_clean"] is None


@functools.cache
def large_convolutions(config: RunConfig) -> list[str]:
    """The names of the layers that are computed by Winograd's algorithm where there are no bfloat16 units."""
    model = models.build(config).eval()
    found = []

    def look(name: str, layer: nn.Conv2d):
        return lambda _, inputs: found.append(name) if winograd.pays(
            inputs[0], layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups
        ) else None

    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(look(name, layer))
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    return found


def changed_since(run: dict) -> str | None:
    """Why the committed run's accepted digest does not hold for it, as far as that can be computed; else None."""
    made = run["provenance"]
    units = {"avx512_bf16", "amx_bf16"} & set(made["cpu"]["instructions"])
    if made["device"] != "cpu" or units or run["config"]["precision"] != "bfloat16":
        return None
    if provenance.digests_of(made) & set(ACCEPTED[: ACCEPTED.index("20b69931ffc6")]):
        return "PyTorch's own bfloat16 multiplied it"
    if "20b69931ffc6" in provenance.digests_of(made) and large_convolutions(network_of(run)):
        return "its large convolutions are computed another way today"
    if "avx512f" in made["cpu"]["instructions"] and large_convolutions(network_of(run)) and (
        provenance.digests_of(made) & set(ACCEPTED[: ACCEPTED.index("cef6fe4e58c6") + 1])
    ):
        return "its large convolutions are computed by the definition today"
    return None



def network_of(run: dict) -> RunConfig:
    """The run's configuration as far as it decides the layers: few differ in that."""
    config = RunConfig.of(**run["config"])
    return RunConfig.of(**{name: getattr(config, name) for name in SHAPE}, precision="bfloat16")


def test_no_committed_run_of_other_numbers_passes_for_todays():
    paths = sorted(RUNS.glob("*.json"))
    assert len(paths) > 700
    for path in paths:
        run = json.loads(path.read_text(encoding="utf-8"))
        if provenance.made_by_todays_code(run["provenance"], run["id"]):
            assert changed_since(run) is None, run["id"]


def test_every_listed_run_is_committed_and_its_numbers_are_others():
    for run_id in KNOWN["other_numbers"]:
        assert changed_since(json.loads((RUNS / f"{run_id}.json").read_text(encoding="utf-8"))), run_id


@pytest.mark.parametrize(("width", "expected"), [(16, False), (32, True)])
def test_only_wide_networks_have_convolutions_for_winograd(width, expected):
    assert bool(large_convolutions(RunConfig(width=width))) == expected
