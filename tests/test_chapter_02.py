"""The chapter from CNN to ResNet: its network and its training step are the library's, its arithmetic the model's."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from cifarbook import networks, three_layers
from cifarlab import training
from cifarlab.config import RunConfig
from cifarlab.models import PlainCNN
from labbook.studies.study import load
from torch import nn

CHAPTER = Path(__file__).resolve().parents[1] / "notebooks" / "02-networks.ipynb"


def prose() -> str:
    cells = nbformat.read(CHAPTER, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


@pytest.fixture(scope="module")
def shown() -> dict:
    """What the chapter's code defines."""
    names = {"torch": torch, "nn": nn, "F": F}
    for code in re.findall(r"```python\n(.*?)```", prose(), flags=re.S):
        exec(code, names)
    return names


def test_the_ten_lines_are_the_librarys_three_layer_network(shown):
    ours, theirs = copy.deepcopy(shown["network"]), PlainCNN(32)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours(x), theirs(x))


def test_the_training_step_is_the_librarys(shown):
    config = RunConfig.of(width=4, precision="float32")
    ours = PlainCNN(4, norm="batch")
    theirs = copy.deepcopy(ours)
    batches = [(torch.randn(8, 3, 32, 32), torch.arange(8)) for _ in range(2)]

    shown["train"](ours, batches, torch.optim.Adam(ours.parameters(), lr=0.01))
    optimizer = torch.optim.Adam(theirs.parameters(), lr=0.01)
    constant = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1)
    for inputs, labels in batches:
        training.forward_backward(theirs.train(), inputs, labels, config)
        training.update([optimizer], [constant], torch.device("cpu"))
        theirs.zero_grad(set_to_none=True)
    for mine, its in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(mine, its)


def test_the_optimizer_is_that_of_the_study_and_the_validation_counts_what_is_right(shown):
    start = load("baseline").config("starting point", 0)
    made = shown["optimizer"]
    assert (start.optimizer, start.schedule) == ("adam", "constant")
    assert made.param_groups[0]["lr"] == start.learning_rate
    batches = [(torch.eye(10)[:4], torch.arange(4)), (torch.eye(10), torch.zeros(10, dtype=torch.long))]
    assert shown["validate"](nn.Identity(), batches).item() == pytest.approx(5 / 14)


def test_the_arithmetic_of_the_exercise():
    found = networks.of(RunConfig())
    last = sum(row["parameters"] for row in found["layers"] if row["layer"].startswith("stage3.1."))
    block, share, whole = re.search(r"= (\d+)\$, which is (\d+) % of (\d+)", prose()).groups()
    assert (int(block), int(whole)) == (last, found["parameters"])
    assert int(share) == round(100 * last / found["parameters"])


def test_the_drawing_shows_what_there_is():
    some = pd.Series([74.0, 75.0])
    (axis,) = three_layers.reached({"one": {"a": some, "b": some[:0]}, "two": {"c": some + 9}}, 65, 75, 80).axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ["a", "b", "c"]
