"""The speedrun's studies and figure, and what is said of how its recipe was chosen."""

from __future__ import annotations

import pandas as pd
import pytest
from cifarbook import published, speed_figures, speedrun
from cifarlab import models, summary
from cifarlab.config import RunConfig
from labbook.studies import study as studies


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
    # What is quoted was searched: else held-out images chose nothing.
    assert speedrun.level_of(quoted, quoted.reference, search)


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


def study_of(levels: dict, train_images: int) -> studies.Study:
    return studies.Study(
        name="any", title="", question="", factor="", preset="smoke", seeds=(train_images,), reference="a",
        fixed={"train_images": train_images, "val_images": 10}, levels=levels,
    )


def test_the_quoted_recipe_is_found_in_the_search_whatever_it_is_called():
    search = study_of({"two": {"epochs": 2}, "three": {"epochs": 3}}, 40)
    quoted = study_of({"a": {"epochs": 3}, "b": {"epochs": 4}}, 50)
    assert speedrun.level_of(quoted, "a", search) == "three"
    assert speedrun.level_of(quoted, "b", search) is None


def test_what_was_known_when_the_recipe_was_chosen_is_counted():
    def run(minute: int, seconds: float) -> dict:
        return {"date": f"2026-01-01T10:{minute:02}:00+00:00", "wall_seconds": seconds}

    searched = {
        "chosen": [run(0, 600.0), run(5, 600.0), run(50, 60.0)], "other": [run(11, 60.0)], "late": [run(11, 61.0)]}
    assert speedrun.known_at_choice("chosen", [run(20, 9.0), run(12, 9.0)], searched) == (
        "When its runs on all images began, 1 of its 3 runs in the search had finished, and 2 of the 3 recipes had a "
        "finished run; what came later chose nothing.")
    # A quoted run that was interrupted began when its first sitting did, where that is known.
    went_on = run(59, 9.0) | {"sittings": [{"date": run(12, 9.0)["date"]}, {}]}
    assert "1 of its 3 runs" in speedrun.known_at_choice("chosen", [went_on], searched)
    assert "began, 0 of its 0 runs" in speedrun.known_at_choice("new", [run(0, 9.0)], searched)


def accuracies(*values: float) -> pd.Series:
    return pd.Series(dict(enumerate(values)))


FLOPS = {"long": 4.0, "short": 2.0, "shorter": 1.0}


@pytest.mark.parametrize(("level", "found", "expected"), [
    (None, {"long": accuracies(94.0)}, "none of those searched"),
    ("short", {"long": accuracies(94.0)}, "no finished run there"),
    ("short", {"short": accuracies(94.0), "long": accuracies(95.0)}, "not compared yet"),
    ("short", {"short": accuracies(94.0), "shorter": pd.Series({7: 95.0})}, "not compared yet"),
    ("long", {"long": accuracies(94.0, 94.1), "short": accuracies(93.9, 94.1), "shorter": accuracies(93.0)},
     "Of the 2 others with finished runs that take no more arithmetic, none has a higher mean on held-out images over "
     "the seeds that both have; the nearest, *short*, is 0.05 points lower (95 % interval -0.69 to +0.59, n = 2): the "
     "search does not tell the two apart."),
    ("long", {"long": accuracies(94.0, 94.1, 94.2), "short": accuracies(93.0, 93.1, 93.3)},
     "the nearest, *short*, is 0.97 points lower (95 % interval -1.11 to -0.82, n = 3)."),
    ("long", {"long": accuracies(94.0), "short": accuracies(94.5)},
     "*short*, with 0.50 times its arithmetic, is 0.50 points higher on held-out images (one seed, no interval): the "
     "search does not tell"),
    ("long", {"long": accuracies(94.0, 94.0), "short": accuracies(94.0, 94.4)},
     "is 0.20 points higher on held-out images (95 % interval -2.34 to +2.74, n = 2): the search does not tell the two "
     "apart"),
])
def test_the_choice_is_held_against_what_takes_no_more_arithmetic(level, found, expected):
    assert expected in speedrun.on_choice(level, found, FLOPS)


def test_a_choice_that_the_search_contradicts_is_said_without_reserve():
    found = {"long": accuracies(94.0, 94.1, 94.2), "short": accuracies(94.5, 94.6, 94.8)}
    sentence = speedrun.on_choice("long", found, FLOPS)
    assert "is 0.53 points higher on held-out images (95 % interval +0.39 to +0.68, n = 3)." in sentence
    assert "tell the two apart" not in sentence
    # Of several that were looked at, the best one is ahead by chance more often.
    several = found | {f"short {number}": accuracies(90.0) for number in range(9)}
    flops = FLOPS | {name: FLOPS["short"] for name in several if name != "long"}
    assert "the search does not tell the two apart" in speedrun.on_choice(
        "long", several | {"short": accuracies(94.2, 94.4, 94.3)}, flops)


def test_a_recipe_ahead_with_as_much_arithmetic_is_said_to_have_it():
    accuracies = {"one": pd.Series([93.0]), "other": pd.Series([94.0])}
    said = speedrun.on_choice("one", accuracies, {"one": 1.0, "other": 1.0})
    assert "*other*, with as much arithmetic, is 1.00 points higher" in said


def test_a_tie_at_less_arithmetic_is_said():
    sentence = speedrun.on_choice("long", {"long": accuracies(94.0), "short": accuracies(94.0)}, FLOPS)
    assert "*short* has the same mean on held-out images with 0." in sentence


@pytest.mark.parametrize("seconds", [[], [150.0, 160.0], [20_000.0]])
def test_the_records_names_stay_inside_the_frame(seconds):
    runs = {"ours": pd.DataFrame({"seconds": seconds, "test_accuracy": 0.94})} if seconds else {}
    records = published.speedruns()
    figure = speed_figures.time_against_accuracy(runs, records["records"], records["machine"])
    figure.draw_without_rendering()
    (axis,) = figure.axes
    frame = axis.get_window_extent()
    assert [text.get_text() for text in axis.texts] == [record["name"] for record in records["records"]]
    for text in axis.texts:
        box = text.get_window_extent()
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1, text.get_text()
        assert frame.y0 <= box.y0 and box.y1 <= frame.y1, text.get_text()


def test_long_names_of_recipes_stay_inside_the_figure():
    names = [*studies.load("speedrun").levels, 2 * "a very long name of a recipe, "]
    runs = {name: pd.DataFrame({"seconds": [300.0], "test_accuracy": 0.94}) for name in names}
    records = published.speedruns()
    figure = speed_figures.time_against_accuracy(runs, records["records"], records["machine"])
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1


def test_what_the_closing_recipe_takes_from_the_speedrun_was_tried_on_held_out_images():
    recipe = studies.load("recipe").levels["with Muon and augmentation"]
    tried = studies.load("speedrun-parts").levels.values()
    for part in (("optimizer", "learning_rate", "momentum"), ("label_smoothing",)):
        assert any(all(level.get(name) == recipe[name] for name in part) for level in tried), part
