"""What the chapter on the speedrun says of its choice: where the quoted recipe stands among those searched."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from cifarlab import stats
from cifarlab.studies import Study

# What may differ between a recipe in the search and the same on all images, and is no part of the recipe.
NOT_THE_RECIPE = {"train_images", "val_images", "seed"}


def level_of(quoted: Study, level: str, search: Study) -> str | None:
    """The level of ``search`` that is the recipe of a level of ``quoted``; None where it was not searched."""
    def recipe(study: Study, of: str) -> dict:
        return study.config(of, study.seeds[0]).model_dump(exclude=NOT_THE_RECIPE)

    wanted = recipe(quoted, level)
    return next((other for other in search.levels if recipe(search, other) == wanted), None)


def on_choice(level: str | None, accuracies: Mapping[str, pd.Series], flops: Mapping[str, float]) -> str:
    """Whether another of the searched recipes is ahead of the quoted one with no more arithmetic: a sentence or two.

    ``level`` is its name in the search (None: it was not searched). ``accuracies``: level to accuracies on held-out
    images in percent, by seed, of the levels that have runs. ``flops``: level to its arithmetic. Levels are compared
    on the seeds that they share.
    """
    if level is None:
        return "The quoted recipe is none of those searched: held-out images did not choose it."
    name = f"*{level}*"
    if level not in accuracies:
        return f"The quoted recipe is the search's {name}, which has no finished run there: nothing chose it so far."
    differences = {
        other: stats.paired_difference(values, accuracies[level])
        for other, values in accuracies.items() if other != level and flops[other] <= flops[level]
    }
    differences = {other: difference for other, difference in differences.items() if difference.n}
    if not differences:
        return (
            f"The quoted recipe is the search's {name}. No other with finished runs takes as little arithmetic, so it "
            "is not compared yet."
        )
    best = max(differences, key=lambda other: differences[other].mean)
    difference = differences[best]
    if abs(difference.mean) < 1e-9 and flops[best] < flops[level]:
        return (
            f"The quoted recipe is the search's {name}. *{best}* has the same mean on held-out images with "
            f"{flops[best] / flops[level]:.2f} times its arithmetic (n = {difference.n})."
        )
    if difference.mean <= 0:
        return (
            f"The quoted recipe is the search's {name}: of {len(differences) + 1} with finished runs that take no more "
            "arithmetic than it, none is ahead of it on held-out images, seed by seed."
        )
    # The best of several was picked after looking.
    (comparison,) = stats.compare_pairs(accuracies, [(best, level)], planned=len(differences))
    told_apart = comparison.word == "higher"
    share = flops[best] / flops[level]
    work = "with as much arithmetic" if abs(share - 1) < 0.005 else f"with {share:.2f} times its arithmetic"
    interval = "one seed, no interval"
    if difference.n > 1:
        interval = f"95 % interval {difference.low:+.2f} to {difference.high:+.2f}, n = {difference.n}"
    return (
        f"The quoted recipe is the search's {name}. Over the seeds that both have, *{best}*, {work}, is "
        f"{difference.mean:.2f} points higher on held-out images ({interval})"
        f"{'' if told_apart else ': the search does not tell the two apart'}."
    )
