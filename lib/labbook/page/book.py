'''What a chapter's author uses: one object a study, claims, plain figures.

    from labbook.page import book

    decay = book.study("decay", **given)                                  # given: the chapter's parameters
    decay.claim("any_decay", "cosine", ">", "constant")                   # higher, or lower with "<"
    decay.claim("warm_up_pays", "warm-up cosine", ">", "cosine", by=1.0)  # by at least so much
    decay.claim("same_end", "linear", "=", "cosine", within=0.5)          # the same, within so much
    decay.claim("open", "exponential", "?", "step")                       # not told apart; the prose says so
    decay.claim("best", "one cycle", "highest")                           # of all levels, or among=[…]
    decay.claim("good", "one cycle", "reaches", 80)                       # percent
    decay.claim("loss", "cosine", "<", "constant", column="val_loss")     # another final figure
    decay.claim("soon", "cosine", "<", "constant", column="epochs to 80 %", values=times, unit="epochs")
    decay.value("constant_rate", level="constant")                        # a level's mean: 77.3 %
    book.value("peak", 0.01, "{:.2f}")                                    # any figure

In the prose: ``Letting the rate fall is worth {claim}`any_decay`, from {value}`constant_rate`.`` The build stops where
the runs do not show a claim, a name is unknown or a claim is not used. Run alone, a chapter shows each below its cell.
'''

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from labbook.page import claims
from labbook.page.claims import Claim, ClaimError, Family
from labbook.runs import digests, store
from labbook.studies.results import StudyResults, ensure
from labbook.studies.study import ACCURACY, load

# Set while the website is built, to the name of the page: see labbook.page.ext.claims.
PAGE = "LABBOOK_PAGE"
# Outputs of this kind stay out of the page and are handed to its prose (by myst-nb, papermill and scrapbook).
KEPT = "application/papermill.record/"


def study(name: str, pool: Sequence[str | BookStudy | StudyResults] = (), **given: Any) -> BookStudy:
    """Open a study: read its runs, and train what parameters other than its own ask for.

    ``given`` as for :func:`labbook.studies.results.ensure`. ``pool``: other studies whose runs of the same
    configurations count too; of a seed that several have, the first counts.
    """
    others = [one if isinstance(one, StudyResults) else one.results if isinstance(one, BookStudy)
              else ensure(one, required=False) for one in pool]
    found = BookStudy(ensure(name, **given), others)
    if said := warnings_of(found.results):
        from IPython.display import Markdown, display

        display(Markdown(said))
    return found


def side_study(name: str, wanted: bool, pool: Sequence[str | BookStudy | StudyResults] = (), **given: Any) -> BookStudy:
    """Open a study beside a chapter's main one; it may have no run yet.

    The chapter's parameters ``given`` count where ``wanted``, and leave alone what the study is about: what it fixes or
    each of its levels sets.
    """
    named = load(name)
    own = named.set_by_every_level | named.fixed.keys()
    asked = {field: value for field, value in given.items() if wanted and field not in own}
    if asked.get("preset"):   # which wins over what a study fixes: that is given again
        asked |= {field: named.fixed[field] for field in given.keys() & named.fixed.keys()}
    return study(name, pool, required=False, **asked)


def warnings_of(results: StudyResults) -> str:
    """What a reader should know before trusting a study's numbers, in Markdown; empty where all is as planned."""
    lines = []
    if results.changed:
        given = ", ".join(f"`{name} = {value!r}`" for name, value in results.changed.items())
        lines.append(f"Drawn with other parameters than those of study `{results.study.name}`: {given}.")
    # Runs whose other numbers are known and explained have no warning: a page of the book lists them.
    if older := [run for run in results.older_code() if run not in digests.equivalences()["other_numbers"]]:
        made = "1 run was" if len(older) == 1 else f"{len(older)} runs were"
        lines.append(f"Study `{results.study.name}`: {made} made by other code than today's.")
    if aside := store.set_aside():
        lines.append("Damaged files of results were set aside: " + ", ".join(f"`{name}`" for name in aside) + ".")
    return "\n".join([":::{warning}", *(f"- {line}" for line in lines), ":::"]) if lines else ""


class BookStudy:
    """The runs of a study, with what a chapter claims and says of them."""

    def __init__(self, results: StudyResults, pool: Sequence[StudyResults] = ()):
        self.results, self.study, self.pool = results, results.study, list(pool)
        self._figures: dict[str, dict[str, pd.Series]] = {}
        self._runs = self._run_ids()

    # --- figures ----------------------------------------------------------------------------------------------------

    @property
    def levels(self) -> list[str]:
        """The levels with a run that did not diverge, in the study's order."""
        return self.results.levels

    def values(self, column: str = ACCURACY) -> dict[str, pd.Series]:
        """A final figure of every level, by seed, with pooled runs, without diverged ones; accuracies in percent."""
        if column not in self._figures:
            found = claims.finals(self.results, column)
            for other in self.pool:
                theirs = {key: values for level, values in claims.finals(other, column).items()
                          for key in [_configuration(other, level)]}
                for level in found:
                    more = theirs.get(_configuration(self.results, level), pd.Series(dtype=float))
                    found[level] = pd.concat([found[level], more.drop(found[level].index, errors="ignore")])
            self._figures[column] = found
        return self._figures[column]

    def mean(self, level: str, column: str = ACCURACY) -> float:
        """The mean of a level's final figure over its seeds; NaN where it has no run."""
        return float(self.values(column).get(level, pd.Series(dtype=float)).mean())

    def family(self) -> Family:
        """All comparisons that the study plans, and their corrected p."""
        return Family(self.study, self._planned_figures())

    def _planned_figures(self) -> dict[str, Mapping[str, pd.Series]]:
        own = {claim.of for claim in self.study.claims} & {ACCURACY, *claims.FINALS}
        return {column: self.values(column) for column in {ACCURACY, *own}}

    def _run_ids(self) -> dict[str, dict[int, str]]:
        """The id of each level's runs by seed, pooled runs included; without those that diverged."""
        ids: dict[str, dict[int, str]] = {level: {} for level in self.study.levels}
        for run in self.results.runs[~self.results.runs["diverged"]].itertuples():
            ids[run.level][run.seed] = run.id
        for other in self.pool:
            theirs = {_configuration(other, level): other.runs[(other.runs["level"] == level) & ~other.runs["diverged"]]
                      for level in other.levels}
            for level in self.levels:
                rows = theirs.get(_configuration(self.results, level))
                for run in rows.itertuples() if rows is not None else ():
                    ids[level].setdefault(run.seed, run.id)
        return ids

    # --- what is said -----------------------------------------------------------------------------------------------

    def claim(
        self, name: str, level: str, relation: str, other: str | float | None = None, *, by: float | None = None,
        within: float | None = None, among: Sequence[str] | None = None, column: str = ACCURACY,
        values: Mapping[str, pd.Series] | None = None, unit: str | None = None, digits: int | None = None,
    ) -> Claim:
        """Claim something of the runs, for the prose: ``{claim}`name```.

        ``relation``: ``>``, ``<`` (``by`` at least so much), ``=`` (``within`` so much), ``?`` (not told apart),
        ``highest`` and ``lowest`` (``among`` levels, by default all), ``reaches`` (a figure). ``column`` names a final
        figure of runs, or one that the chapter computes and gives as ``values``: by level (or any name), indexed by
        seed. ``unit`` and ``digits`` say how it is written.

        Raises:
            ClaimError: it is written wrongly, or the study does not plan it; the message has the line that is missing.
        """
        figures = dict(self._planned_figures())
        if values is not None:
            if column in self.results.runs.columns:
                raise ClaimError(f"claim {name!r}: give the computed figure a name of its own with column=; "
                                 f"{column!r} is one that runs have.")
            figures[column] = {one: pd.Series(found, dtype=float).dropna() for one, found in values.items()}
        else:
            figures[column] = self.values(column)
        found = claims.judge(self.study, figures, name, level, relation, other, column=column, by=by, within=within,
                             among=among, unit=unit, digits=digits)
        behind = [one for one in found.runs if one in self._runs] or list(self._runs)
        runs, counted = self.results.runs, figures[column]
        by_level = {one: [run for seed, run in sorted(self._runs[one].items())
                          if one not in counted or seed in counted[one].index] for one in behind}
        more = {one: len(of_level) - int(runs["id"].isin(of_level).sum()) for one, of_level in by_level.items()}
        added = {run for of_level in by_level.values() for run in of_level} - set(runs["id"])
        found = replace(
            found, runs=[run for of_level in by_level.values() for run in of_level],
            pooled=[other.study.name for other in self.pool if added & set(other.runs["id"])],
            more={one: count for one, count in more.items() if count},
            lost=int((runs["diverged"] & runs["level"].isin(behind)).sum()),
            changed={key: repr(value) for key, value in self.results.changed.items()})
        _keep("claim", name, found.as_dict())
        _say(found.line)
        return found

    def value(
        self, name: str, number: float | None = None, spec: str | None = None, *, level: str | None = None,
        column: str = ACCURACY, digits: int | None = None,
    ) -> float:
        """A plain figure of the study for the prose, ``{value}`name```: a ``level``'s mean, or any ``number``."""
        if level is None:
            return value(name, number, spec)
        if level not in self.study.levels:
            raise ClaimError(f"value {name!r}: {level!r} is no level of study {self.study.name!r}. Known: "
                             f"{', '.join(self.study.levels)}.")
        mean = self.mean(level, column)
        if digits is None and claims.percent(column):
            digits = 1
        unit = claims.unit_of(column, difference=False)
        text = "–" if mean != mean else claims.number(mean, digits) + (f" {unit}" if unit else "")
        return value(name, mean, spec or text.replace("{", "{{").replace("}", "}}"))


def value(name: str, number: Any, spec: str | None = None) -> Any:
    """A plain figure or word for the prose, ``{value}`name```, and the figure itself.

    ``spec`` is a format such as ``"{:.1f} %"``; without one, a number has two significant digits. NaN is a dash.
    """
    plain = number.item() if hasattr(number, "item") else number
    text = "–" if plain != plain else spec.format(plain) if spec else (
        claims.number(plain) if isinstance(plain, float) else
        f"{plain:,}" if isinstance(plain, int) and not isinstance(plain, bool) else str(plain))
    if text[:1] == "-":
        text = claims.MINUS + text[1:]
    _keep("value", name, {"text": text})
    _say(f"{name}: {text}")
    return number


def figure(name: str, drawn: Any) -> None:
    """Keep a figure for the prose to place: ``{glue:figure} name``. Run alone, a chapter shows it below its cell."""
    from IPython.display import display
    from myst_nb import glue

    glue(name, drawn, display=False)
    if PAGE not in os.environ:
        display(drawn)


def _configuration(results: StudyResults, level: str) -> Any:
    return results.config_of(level).with_(seed=0)


def _keep(kind: str, name: str, record: dict[str, Any]) -> None:
    """Hand a record to the page's prose, as myst-nb's ``glue`` does, which has no kind for plain data."""
    from IPython.display import display

    # As text: under a prefix, notebooks have no other kind.
    display({f"{KEPT}text/plain": json.dumps(record, ensure_ascii=False)}, raw=True,
            metadata={"scrapbook": {"name": f"{kind} {name}", "mime_prefix": KEPT}})


def _say(line: str) -> None:
    """Show a line below the cell, except where the website is built: there the prose shows it."""
    from IPython.display import display

    if not os.environ.get(PAGE):
        display({"text/plain": line}, raw=True)
