"""The depth chapter: its ten lines are the library's block, its arithmetic the model's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from cifarbook import networks
from cifarlab.config import RunConfig
from cifarlab.models import ResidualBlock
from labbook.studies import results
from torch import nn

PAGE = Path(__file__).resolve().parents[1] / "notebooks" / "08-depth.ipynb"


def prose() -> str:
    cells = json.loads(PAGE.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def test_the_ten_lines_are_the_librarys_residual_block():
    (code,) = re.findall(r"```python\n(class ResidualBlock.*?)```", prose(), re.S)
    names = {"nn": nn}
    exec(code, names)
    torch.manual_seed(0)
    theirs, ours = ResidualBlock(8, 3, "batch", shortcut=True), names["ResidualBlock"](8)
    pairs = list(zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    assert all(a.shape == b.shape for a, b in pairs)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.randn(4, 8, 6, 6)
    for train in (True, False):
        gradients = []
        for block in (ours.train(train), theirs.train(train)):
            image = x.clone().requires_grad_()
            y = block(image)
            y.square().sum().backward()
            gradients.append((y, image.grad))
        for mine, its in zip(*gradients, strict=True):
            torch.testing.assert_close(mine, its)


def test_the_gradient_has_the_identity_in_it():
    block = ResidualBlock(2, 3, "batch", shortcut=True).eval()
    x = torch.randn(1, 2, 3, 3)
    whole = torch.autograd.functional.jacobian(block, x).reshape(18, 18)
    block.shortcut = False
    part = torch.autograd.functional.jacobian(block, x).reshape(18, 18)
    torch.testing.assert_close(whole, torch.eye(18) + part)


def test_the_parameters_of_the_exercise():
    nine, thirteen = (networks.of(RunConfig.of(width=16, depth=depth))["parameters"] for depth in (9, 13))
    assert re.search(r"= (\d+)\$\.", prose())[1] == str(thirteen - nine)


def test_degradation_shows_early_and_the_gain_of_depth_late():
    history = results.ensure("depth").history
    second = history[history["epoch"] == 2].groupby("level")["val_accuracy"].mean()
    assert second[[f"plain {depth}" for depth in (5, 9, 13, 17)]].idxmax() == "plain 9"
    assert second["residual 17"] < second["residual 9"]
