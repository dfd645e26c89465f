"""What the chapter on the speedrun says of its choice: where the quoted recipe stands among those searched."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from labbook.studies import stats
from labbook.studies.study import Study

# Over which views the speedrun's predictions are averaged; see cifarlab.training.predict.
SPEEDRUN_VIEWS = "mirror_shift"
# What may differ between a recipe in the search and the same on all images, and is no part of the recipe.
NOT_THE_RECIPE = {"train_images", "val_images", "seed"}


def level_of(quoted: Study, level: str, search: Study) -> str | None:
    """The level of ``search`` that is the recipe of a level of ``quoted``; None where it was not searched."""
    def recipe(study: Study, of: str) -> dict:
        return study.config(of, study.seeds[0]).model_dump(exclude=NOT_THE_RECIPE)

    wanted = recipe(quoted, level)
    return next((other for other in search.levels if recipe(search, other) == wanted), None)


def known_at_choice(
    level: str, quoted: Sequence[Mapping[str, Any]], searched: Mapping[str, Sequence[Mapping[str, Any]]]
) -> str:
    """How much of the search was there when the first run of the quoted recipe on all images began: a sentence.

    ``quoted`` and, by level of the search, ``searched``: the provenance of runs. ``level`` is the recipe's name there.
    A run that went on after an interruption counts as finished somewhat later than it was.
    """
    def at(facts: Mapping[str, Any]) -> datetime.datetime:
        return datetime.datetime.fromisoformat(facts["date"])

    # A run's own date is its last sitting's; older runs do not have the others'.
    first = min(at(next((s for s in one.get("sittings", ()) if "date" in s), one)) for one in quoted)
    known = {
        other: sum(at(one) + datetime.timedelta(seconds=one["wall_seconds"]) <= first for one in facts)
        for other, facts in searched.items()}
    return (
        f"When its runs on all images began, {known.get(level, 0)} of its {len(searched.get(level, ()))} runs in the "
        f"search had finished, and {sum(count > 0 for count in known.values())} of the {len(known)} recipes had a "
        "finished run; what came later chose nothing."
    )


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
    # The best of several was picked after looking.
    (comparison,) = stats.compare_pairs(accuracies, [(best, level)], planned=len(differences))
    ahead = difference.mean > 0
    told_apart = comparison.word == ("higher" if ahead else "lower")
    share = flops[best] / flops[level]
    work = "with as much arithmetic" if abs(share - 1) < 0.005 else f"with {share:.2f} times its arithmetic"
    interval = "one seed, no interval"
    if difference.n > 1:
        interval = f"95 % interval {difference.low:+.2f} to {difference.high:+.2f}, n = {difference.n}"
    beside = f"Over the seeds that both have, *{best}*, {work}, is" if ahead else (
        f"Of the {len(differences)} others with finished runs that take no more arithmetic, none has a higher mean on "
        f"held-out images over the seeds that both have; the nearest, *{best}*, is")
    return (
        f"The quoted recipe is the search's {name}. {beside} {abs(difference.mean):.2f} points "
        f"{'higher on held-out images' if ahead else 'lower'} ({interval})"
        f"{'' if told_apart else ': the search does not tell the two apart'}."
    )
