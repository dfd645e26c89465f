"""The chapter on speed: its loop trains as the lab's does, its figures take the committed answers."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
import torch
import torch.nn.functional as F
from cifarbook import bench, speed
from cifarlab import data, models, training
from cifarlab.config import RunConfig
from cifarlab.optimizers import make_optimizers
from cifarlab.precision import bfloat16_products

CHAPTER = Path(__file__).resolve().parents[1] / "notebooks" / "12-speed.ipynb"


def prose() -> str:
    cells = nbformat.read(CHAPTER, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


@pytest.mark.parametrize(("dtype", "precision"), [(torch.float32, "float32"), (torch.bfloat16, "bfloat16")])
def test_the_loop_of_the_chapter_trains_as_the_labs_does(dtype, precision):
    (code,) = re.findall(r"```python\n(def train_epoch.*?)```", prose(), re.S)
    names = {"torch": torch, "F": F}
    exec(code, names)
    config = RunConfig.of(width=2, precision=precision, schedule="constant")
    images = torch.randint(0, 256, (60, 32, 32, 3), dtype=torch.uint8)
    labels = torch.randint(0, 10, (60,))
    losses = []
    for way in ("the chapter's", "the lab's"):
        torch.manual_seed(0)
        model = models.build(config)
        (optimizer,) = make_optimizers(config, model)
        model.train()
        torch.manual_seed(1)
        if way == "the chapter's":
            with bfloat16_products(torch.device("cpu")):   # fast where the processor has no units
                losses.append(names["train_epoch"](model, optimizer, images, labels, 20, dtype))
            continue
        total = 0.0
        for rows in torch.randperm(len(images)).split(20):
            inputs = data.normalise(images[rows], config.input_norm)
            loss, _ = training.forward_backward(model, inputs, labels[rows], config)
            optimizer.step()
            model.zero_grad(set_to_none=True)
            total += loss.item() * len(rows)
        losses.append(total / len(images))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4 if precision == "float32" else 0.02)


def test_a_goal_is_met_where_every_round_meets_it():
    assert speed.outcome([2.0, 3.0], 2) == "met"
    assert speed.outcome([1.9, 3.0], 2) == "met in some rounds"
    assert speed.outcome([1.9, 1.0], 2) == "missed"
    assert speed.outcome([1.9, 1.0], 2, at_least=False) == "met"


def test_a_steps_parts_add_up_and_are_all_drawn():
    milliseconds = bench.read("operations")["milliseconds"]
    for loops in milliseconds.values():
        for kinds in loops.values():
            parts = speed.parts_of_a_step(kinds)
            assert sum(parts.values()) == pytest.approx(sum(kinds.values()))
            assert min(parts.values()) > 0
    figure = speed.step_figure(milliseconds)
    assert [axis.get_title("left") for axis in figure.axes] == ["width 16", "width 64"]
    assert all(len(axis.patches) == 2 * len(parts) for axis in figure.axes)
