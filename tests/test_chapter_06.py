"""The chapter on the learning rate: its ten lines are the library's schedule, its solutions are right."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from cifarlab import schedules
from cifarlab.config import RunConfig

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "06-learning-rate.ipynb"


@pytest.fixture(scope="module")
def prose() -> str:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


@pytest.fixture(scope="module")
def shown(prose) -> dict:
    block, = re.findall(r"^```python\n(from math import cos, pi\n.*?)^```", prose, re.M | re.S)
    names: dict = {}
    exec(block, names)
    return names


@pytest.mark.parametrize(("total", "warmup"), [(1565, 313), (6260, 626), (100, 0), (7, 3), (5, 5)])
def test_its_schedule_is_the_librarys_at_every_step(shown, total, warmup):
    assert [shown["factor"](step, total, warmup) for step in range(total)] == [
        schedules.warmup_cosine(step, total, warmup) for step in range(total)]


def test_its_rate_is_that_of_a_run_at_every_step(shown):
    config = RunConfig.of(schedule="warmup_cosine", warmup_epochs=2, epochs=4, train_images=1024)
    total = config.epochs * schedules.steps_per_epoch(config)
    optimizer = SimpleNamespace(param_groups=[{}, {}])
    for step in range(total):
        shown["set_rate"](optimizer, config.learning_rate, step, total, schedules.warmup_steps(config))
        assert [group["lr"] for group in optimizer.param_groups] == [schedules.learning_rate(config, step)] * 2


def test_its_solutions_are_right(shown, prose):
    for rate, loss, steps in ((0.2, "0.056", "10"), (0.1, "0.026", "22")):
        assert f"{rate / (2 * (2 - rate)):.3f}" == loss
        assert f"{math.log(0.1) / math.log(1 - rate):.0f}" == steps
        assert loss in prose
    assert f"{shown['factor'](625, 6260, 626):.3f}" == "1.008"
    assert shown["factor"](626, 6260, 626) == 1
