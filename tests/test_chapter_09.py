"""The chapters of the test and of the limits: ten lines that are the library's, exercises that run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from labbook.studies import results, stats, study
from scipy import stats as scipy_stats

ROOT = Path(__file__).resolve().parents[1]


def prose() -> str:
    cells = json.loads((ROOT / "notebooks" / "09-test.ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


@pytest.mark.parametrize("shape", [(2, 50), (5, 400)])
def test_the_ten_lines_are_the_librarys_interval(shape):
    (code,) = re.findall(r"```python\n([^`]*?def accuracy_interval.*?)```", prose(), re.S)
    names = {"np": np, "stats": scipy_stats}
    exec(code, names)
    correct = np.random.default_rng(0).random(shape) < np.linspace(0.5, 1, shape[1])
    mean, half = names["accuracy_interval"](correct)
    found = stats.accuracy_interval(correct)
    assert (mean, half) == pytest.approx((found.mean, found.both))


def test_the_best_of_ten_equal_recipes_is_about_half_a_point_ahead(capsys):
    code = "\n".join(line.strip() for line in re.search(r"    import numpy.*?\n\n", prose(), re.S)[0].splitlines())
    exec(code, {})
    assert 0.4 < float(capsys.readouterr().out) < 0.6


def test_the_study_of_the_exercise_can_be_loaded(tmp_path):
    page = (ROOT / "book" / "11-limits.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    (tmp_path / "mine.yml").write_text(text, encoding="utf-8")
    configs = [config for _, config in study.load("mine", tmp_path).runs()]
    assert [(config.norm, config.shortcut) for config in configs] == [
        ("batch", True), ("none", True), ("batch", False), ("none", False)]
    assert {(config.depth, config.width, config.epochs) for config in configs} == {(17, 8, 2)}


def test_muon_and_augmentation_are_behind_at_half_time_and_ahead_at_the_end():
    history = results.ensure("recipe").history
    half, end = (history[history["epoch"] == epoch].groupby("level")["val_accuracy"].mean() for epoch in (10, 20))
    for level in ("with Muon", "with Muon and augmentation"):
        assert half[level] < half["studies alone"]
        assert end[level] > end["studies alone"]
