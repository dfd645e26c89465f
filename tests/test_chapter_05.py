"""The code that the chapter on normalization shows does what PyTorch's layers do."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
import torch
from torch import nn

CHAPTER = Path(__file__).resolve().parents[1] / "notebooks" / "05-normalization.ipynb"


def shown(name: str):
    """The function of this name, from the block of code that defines it in the chapter's prose."""
    text = "\n".join(cell.source for cell in nbformat.read(CHAPTER, as_version=4).cells if cell.cell_type == "markdown")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", text, flags=re.S) if f"def {name}(" in block)
    names = {"torch": torch}
    exec(code, names)
    return names[name]


@pytest.fixture
def layer() -> nn.BatchNorm2d:
    """A layer whose scale and shift are not those that it starts with."""
    layer = nn.BatchNorm2d(6)
    with torch.no_grad():
        layer.weight.uniform_(0.5, 2)
        layer.bias.normal_()
    return layer


def test_batch_norm_is_that_of_the_library_in_training_and_in_evaluation(layer):
    batch_norm = shown("batch_norm")
    mean, var = layer.running_mean.clone(), layer.running_var.clone()
    for _ in range(3):  # running averages that moved more than once
        x = 3 * torch.randn(4, 6, 5, 7) + 2
        ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        out = batch_norm(ours, layer.weight, layer.bias, mean, var, training=True)
        expected = layer.train()(theirs)
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(mean, layer.running_mean)
        torch.testing.assert_close(var, layer.running_var)
        # The mean and the variance are part of what is differentiated.
        weights = torch.randn_like(out)
        (out * weights).sum().backward()
        (expected * weights).sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad)
    x, before = torch.randn(1, 6, 5, 7), mean.clone()
    out = batch_norm(x, layer.weight, layer.bias, mean, var, training=False)
    torch.testing.assert_close(out, layer.eval()(x))
    assert torch.equal(mean, before)


def test_the_solution_is_layer_normalization_as_the_lab_has_it(layer):
    x = 3 * torch.randn(4, 6, 5, 7) + 2
    expected = nn.functional.group_norm(x, 1, layer.weight, layer.bias)
    torch.testing.assert_close(shown("layer_norm")(x, layer.weight, layer.bias), expected)
