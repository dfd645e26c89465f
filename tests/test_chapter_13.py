"""The chapter on the speedrun: its code is the lab's, its studies fit together, its figures take the records."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cifarbook import bench, card, published, speed
from cifarlab import models, summary
from cifarlab.config import RunConfig
from cifarlab.speednet import SpeedNet
from labbook.studies import stats
from labbook.studies import study as studies

CHAPTER = Path(__file__).resolve().parents[1] / "notebooks" / "13-speedrun.ipynb"


def shown(name: str):
    """The function of this name, from the block of code that defines it in the chapter's prose."""
    text = "\n".join(cell.source for cell in nbformat.read(CHAPTER, as_version=4).cells if cell.cell_type == "markdown")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", text, flags=re.S) if f"def {name}(" in block)
    names = {"torch": torch, "F": F}
    exec(code, names)
    return names[name]


def test_the_whitening_of_the_chapter_is_the_networks_first_layer():
    images = torch.randn(20, 3, 32, 32).cumsum(3)
    network = SpeedNet(width=2)
    network.prepare(images)
    torch.testing.assert_close(shown("whiten")(images.double()).float(), network.whitening.weight)


@pytest.mark.parametrize("shape", [(6, 6), (5, 20)])
def test_the_orthogonal_matrix_of_the_chapter_is_muons_step(shape):
    gradient = torch.randn(shape)
    view = torch.nn.Parameter(torch.zeros(shape))
    view.grad = gradient.clone()
    torch.optim.Muon([view], lr=1.0, momentum=0.0, weight_decay=0.0, ns_steps=3).step()
    found = shown("orthogonalize")(gradient)
    torch.testing.assert_close(found, -view.data, atol=0.05, rtol=0)   # PyTorch's is in bfloat16
    assert torch.linalg.svdvals(found).max() < 1.3


def test_the_directions_that_are_drawn_are_orthogonal_and_their_shares_add_up():
    directions, shares = speed.whitening(card.samples().reshape(-1, 32, 32, 3).astype(float))
    assert np.allclose(directions.reshape(12, 12) @ directions.reshape(12, 12).T, np.eye(12))
    assert shares.sum() == pytest.approx(1) and list(shares) == sorted(shares, reverse=True)
    # The first direction is brightness: every value has the same sign.
    assert abs(np.sign(directions[0]).sum()) == 12


def test_the_waterfall_leads_from_the_programs_time_to_ours():
    race = {"theirs": [{"seconds": 100.0}], "theirs_keeping_memory": [{"seconds": 80.0}], "ours": [{"seconds": 60.0}]}
    steps = speed.race_steps(race, 0.5)
    assert steps == pytest.approx({"program": 100, "memory": 80, "arithmetic": 40, "ours": 60})
    names = ("program", "memory", "arithmetic", "operations", "ours")
    figure = speed.race_figure(speed.race_steps(bench.read("race"), 0.85), {name: name for name in names})
    assert len(figure.axes[0].patches) == 5


def test_the_records_names_stay_inside_the_frame():
    found = {"one": stats.accuracy_interval(np.random.default_rng(0).random((3, 200)) < 0.94)}
    records = published.speedruns()["records"]
    figure = speed.tradeoff_figure(found, {"one": [94.0]}, {"one": 0.3}, records, (94, 95))
    figure.draw_without_rendering()
    (axis,) = figure.axes
    frame = axis.get_window_extent()
    for text in axis.texts:
        box = text.get_window_extent()
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1, text.get_text()


def test_what_was_known_when_the_recipe_was_chosen_is_counted():
    def run(minute: int, seconds: float) -> dict:
        return {"date": f"2026-01-01T10:{minute:02}:00+00:00", "wall_seconds": seconds}

    searched = [run(0, 600.0), run(11, 60.0), run(11, 61.0)]
    assert speed.finished_before([run(20, 9.0), run(12, 9.0)], searched) == 2
    # A run that was interrupted began when its first part did, where that is known.
    went_on = run(59, 9.0) | {"sittings": [{"date": run(12, 9.0)["date"]}, {}]}
    assert speed.finished_before([went_on], searched) == 2


def test_the_search_and_the_quoted_runs_differ_in_the_images_held_out_only():
    search, quoted = studies.load("speedrun-search"), studies.load("speedrun")
    free = {"train_images", "val_images", "epochs"}
    fixed = [{name: value for name, value in study.fixed.items() if name not in free} for study in (search, quoted)]
    assert fixed[0] == fixed[1]
    assert search.preset == quoted.preset
    for study in (search, quoted):
        assert study.fixed["train_images"] + study.fixed["val_images"] == 50_000
    assert quoted.fixed["val_images"] == 0
    # The epochs that a preset would give are meant nowhere.
    assert all("epochs" in quoted.levels[level] for level in quoted.levels)
    # What is quoted was searched, under the same name: else held-out images chose nothing.
    on_all = search.config(quoted.reference, 0).with_(train_images=50_000, val_images=0)
    assert quoted.config(quoted.reference, 0) == on_all


def test_the_recipes_on_all_images_differ_in_the_images_held_out_only():
    quoted, searched = studies.load("recipe-all"), [studies.load(name) for name in ("recipe", "recipe-search")]
    held_out = [study.config(level, 0) for study in searched for level in study.levels]
    on_all = [config.with_(train_images=50_000, val_images=0) for config in held_out]
    for level in quoted.levels:
        assert quoted.config(level, 0) in on_all
    # The one that is compared with itself has its name in both.
    same = searched[0].config(quoted.reference, 0)
    assert quoted.config(quoted.reference, 0) == same.with_(train_images=50_000, val_images=0)


def test_the_recipe_that_is_searched_further_is_the_one_with_augmentation():
    search, recipe = studies.load("recipe-search"), studies.load("recipe")
    assert search.config(search.reference, 0) == recipe.config("with Muon and augmentation", 0)


def test_what_the_closing_recipe_takes_from_the_speedrun_was_tried_on_held_out_images():
    recipe = studies.load("recipe").levels["with Muon and augmentation"]
    tried = studies.load("speedrun-parts").levels.values()
    for part in (("optimizer", "learning_rate", "momentum"), ("label_smoothing",)):
        assert any(all(level.get(name) == recipe[name] for name in part) for level in tried), part


def test_the_parts_that_decay_differently_warm_up_alike():
    configs = [studies.load("speedrun-parts").config(level, 0) for level in ("as in the studies", "linear decay")]
    assert [config.schedule for config in configs] == ["warmup_cosine", "one_cycle"]
    assert configs[0].warmup_epochs == configs[1].warmup_epochs == 1


def test_arithmetic_counts_each_epochs_images_and_no_gradient_that_nobody_needs():
    config = RunConfig.of(model="speednet", width=8, train_images=1000, val_images=0, batch_size=100, epochs=4)
    rows = {side: summary.layer_table(models.build(config), side) for side in (16, 24, 32)}
    macs = {side: sum(row["macs"] for row in of_side) for side, of_side in rows.items()}
    assert summary.training_flops(config) == 6 * 1000 * 4 * macs[32]
    growing = config.with_(low_resolution=16, low_resolution_epochs=2.0, low_resolution_stages=2)
    assert summary.training_flops(growing) == 6 * 1000 * (macs[16] + macs[24] + 2 * macs[32])
    first_trained = next(row["macs"] for row in rows[32] if row["layer"] == "features.1.0")
    held = summary.training_flops(growing.with_(whitening_bias_epochs=3.0))
    assert held == summary.training_flops(growing) - 2 * 1000 * first_trained
