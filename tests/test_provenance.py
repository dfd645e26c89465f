"""Whose code made a run: today's, earlier code that gives the same numbers, or other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cifarlab import models, winograd
from cifarlab.config import RunConfig
from labbook.runs import provenance
from torch import nn

RUNS = Path(__file__).resolve().parents[1] / "results" / "runs"
TODAY = provenance.code_digest()
ACCEPTED = list(provenance.SAME_NUMBERS)
LISTED = next(iter(provenance.OTHER_NUMBERS))


def facts(digest: str, *sittings: str) -> dict:
    return {"code_digest": digest, "sittings": [{"code_digest": each} for each in sittings]}


@pytest.mark.parametrize(
    ("made", "run_id", "expected"),
    [
        ({"code_digest": TODAY}, "", "today's"),
        (facts(TODAY, TODAY, TODAY), "", "today's"),
        (facts(TODAY, ACCEPTED[0], TODAY), "", "same numbers"),
        (facts(ACCEPTED[-1], ACCEPTED[0]), "", "same numbers"),
        (facts(TODAY, "another", TODAY), "", "other"),
        (facts("another"), "", "other"),
        (facts(ACCEPTED[0]), LISTED, "other"),
        (facts(TODAY), LISTED, "today's"),  # trained again
    ],
)
def test_a_run_counts_as_the_code_of_all_its_sittings_says(made, run_id, expected):
    assert provenance.made_by(made, run_id) == expected
    assert provenance.made_by_todays_code(made, run_id) == (expected != "other")


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
    if provenance.digests(made) & set(ACCEPTED[: ACCEPTED.index("20b69931ffc6")]):
        return "PyTorch's own bfloat16 multiplied it"
    if "20b69931ffc6" in provenance.digests(made) and large_convolutions(RunConfig.of(**run["config"])):
        return "its large convolutions are computed another way today"
    if "avx512f" in made["cpu"]["instructions"] and large_convolutions(RunConfig.of(**run["config"])) and (
        provenance.digests(made) & set(ACCEPTED[: ACCEPTED.index("cef6fe4e58c6") + 1])
    ):
        return "its large convolutions are computed by the definition today"
    return None


def test_the_digest_sees_every_module_that_training_imports():
    seen = provenance.reached("training", lambda name: name not in provenance.NOT_NUMERIC)
    assert seen == set(provenance.NUMERIC_MODULES)


def test_a_digest_that_was_computed_in_an_earlier_way_is_of_the_same_code(monkeypatch):
    monkeypatch.setitem(provenance.COMPUTED_ANEW, "old", TODAY)
    assert provenance.made_by(facts("old", TODAY, "old")) == "today's"
    monkeypatch.setitem(provenance.COMPUTED_ANEW, "old", "another")
    assert provenance.made_by(facts("old", TODAY)) == "other"


def test_a_digest_is_the_same_under_every_python(tmp_path):
    code = tmp_path / "code.py"
    code.write_text("""
def f(x, *, y: int = 1) -> str:
    '''Says what.'''
    return f"a{x!r:>{y}}b" 'c' f"{y}{{}}" "" + f'{x["k"]} "q" {1.5}' + f""  # and why
""")
    assert provenance.digest_of([code]) == "7977eabf957b"   # of 3.10, 3.11, 3.12 and 3.13
    code.write_text(code.read_text().replace("Says what", "Says more").replace("# and why", ""))
    assert provenance.digest_of([code]) == "7977eabf957b"
    code.write_text(code.read_text().replace('"a{x', '"b{x'))
    assert provenance.digest_of([code]) != "7977eabf957b"


def test_no_committed_run_of_other_numbers_passes_for_todays():
    for path in RUNS.glob("*.json"):
        run = json.loads(path.read_text(encoding="utf-8"))
        if provenance.made_by_todays_code(run["provenance"], run["id"]):
            assert changed_since(run) is None, run["id"]


def test_every_listed_run_is_committed_and_its_numbers_are_others():
    for run_id in provenance.OTHER_NUMBERS:
        assert changed_since(json.loads((RUNS / f"{run_id}.json").read_text(encoding="utf-8"))), run_id


@pytest.mark.parametrize(("width", "expected"), [(16, False), (32, True)])
def test_only_wide_networks_have_convolutions_for_winograd(width, expected):
    assert bool(large_convolutions(RunConfig(width=width))) == expected
