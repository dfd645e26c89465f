"""The code that the chapter on kernel size shows does what PyTorch's convolution does; its arithmetic is right."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
import torch
from cifarbook import networks
from torch.nn import functional as F

CHAPTER = Path(__file__).resolve().parents[1] / "notebooks" / "07-kernel-size.ipynb"


def blocks() -> list[str]:
    """The blocks of Python that the chapter's prose shows, in order."""
    text = "\n".join(cell.source for cell in nbformat.read(CHAPTER, as_version=4).cells if cell.cell_type == "markdown")
    return re.findall(r"```python\n(.*?)```", text, flags=re.S)


@pytest.fixture
def names() -> dict:
    """What the chapter's ten lines define."""
    (code,) = (block for block in blocks() if "def conv2d(" in block)
    names = {"torch": torch, "F": F}
    exec(code, names)
    return names


@pytest.mark.parametrize(("k", "padding"), [(1, 0), (3, 1), (5, 2), (7, 3), (3, 0)])
def test_the_convolution_is_that_of_the_library(names, k, padding):
    x, weight, bias = torch.randn(2, 3, 9, 11), torch.randn(5, 3, k, k), torch.randn(5)
    out = names["conv2d"](x, weight, bias, padding)
    torch.testing.assert_close(out, F.conv2d(x, weight, bias, padding=padding), atol=1e-4, rtol=1e-4)


def test_the_solution_holds_a_small_kernel_in_a_large_one(names):
    (code,) = (block for block in blocks() if "F.pad(" in block)
    exec(code, names)


@pytest.mark.parametrize(("k", "sees"), [(3, [3, 4, 8, 12]), (5, [5, 6, 14, 22])])
def test_the_solution_counts_the_receptive_field(k, sees):
    conv, pool = {"kind": "Conv2d", "detail": f"{k} × {k}"}, {"kind": "MaxPool2d", "detail": "2 × 2"}
    assert networks.receptive_field_sizes([conv, pool, conv, conv]) == sees
