"""The evidence of a study, all of it and without prose: comparisons, levels, repetitions, machines, run files.

One template makes every study's page. What comes from the files of studies and results is escaped: a contributed file
cannot put markup into the site.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from labbook.page import claims
from labbook.page.book import BookStudy
from labbook.page.claims import ACCURACY, FINALS, Family
from labbook.runs import predictions
from labbook.studies import results, stats, study
from labbook.studies.results import StudyResults

CURVES = {"train_loss": "training loss (nats)", "val_loss": "validation loss (nats)",
          "val_accuracy": "validation accuracy (%)"}
FIGURE = re.compile(r"[−+<]?\s?\d[\d.,]*(?:\s\S+)*$")
FURTHER = "with-further-seeds"   # what Sphinx makes of that heading
HEAD = ("Level", "minus", "Difference", "95 % interval", "n", "p", "p corrected", "Effect size")
ENOUGH_INSTRUCTIONS = 1   # the widest of a processor's instructions tells apart what rounds differently


load = functools.cache(study.load)


def page(name: str) -> str:
    """The MyST source of a study's page: headings, and a directive for what stands under each."""
    one = load(name)
    parts = "".join(f"\n## {title}\n\n```{{evidence}} {name}\n:part: {part}\n```\n" for part, title in PARTS.items()
                    if part not in WHERE_THERE or WHERE_THERE[part](name))
    return f"# {as_text(one.title)}: evidence\n\n{as_text(one.question)}\n{parts}"


def as_text(text: str) -> str:
    """``text`` as Markdown that shows it letter by letter, whatever is in it."""
    return "".join(f"\\{letter}" if letter.isascii() and not (letter.isalnum() or letter.isspace()) else letter
                   for letter in " ".join(text.split()))


@functools.cache
def runs_of(name: str) -> StudyResults:
    """The runs of a study that are in the store; nothing is trained."""
    return results.ensure(load(name), train=False, required=False)


@functools.cache
def family_of(name: str) -> Family:
    """All comparisons and claims that a study plans, with their p."""
    found = runs_of(name)
    planned = {claim.of for claim in found.study.claims} & set(FINALS)
    return Family(found.study, {column: claims.finals(found, column) for column in {ACCURACY, *planned}})


# --- tables ---------------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Iterable[Sequence[str]], label: str) -> str:
    """A table in HTML, every cell escaped; it scrolls inside itself, by the keyboard too."""
    def cells(row: Sequence[str], tag: str) -> str:
        opening = f'{tag} scope="col"' if tag == "th" else tag
        return "".join(f"<{opening}>{escape(on_one_line(cell))}</{tag}>" for cell in row)

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    if not body:
        return "<p>None.</p>"
    return (f'<div class="evidence-table" role="region" tabindex="0" aria-label="{escape(label, quote=True)}"><table>'
            f"<thead><tr>{cells(head, 'th')}</tr></thead><tbody>{body}</tbody></table></div>")


def on_one_line(cell: str) -> str:
    """A short figure whose spaces do not break; any other text as it is."""
    return cell.replace(" ", "\N{NO-BREAK SPACE}") if len(cell) < 24 and FIGURE.match(cell) else cell


def comparisons(name: str) -> str:
    """Every planned comparison and claim of a study."""
    found, family = load(name), family_of(name)
    text = table(HEAD, _difference_rows(family.pairs, family.p_pairs), "Comparisons of final validation accuracy")
    if found.claims:
        planned = [(_said(claim), claims.WORDS.get(claim.of, claim.of), _p(family.claims[claim.key]),
                    _p(family.p_claims[claim.key])) for claim in found.claims]
        text += ("<p>Planned claims of other kinds. What a chapter computes (–) is tested in that chapter: press its "
                 "number there.</p>") + table(
            ("Claim", "Quantity", "p", "p corrected"), planned, "Planned claims")
    corrected = f", corrected by Holm for all {family.size} comparisons and claims of the study" * (family.size > 1)
    others = ("<p><strong>This study’s own seeds. A chapter may count further seeds of the same settings: "
              f'<a href="#{FURTHER}">with further seeds</a>.</strong></p>' if with_further_seeds(name) else "")
    if len(runs_of(name).runs) and all(math.isnan(one.mean) for one in family.pairs):
        text = "<p>No images were held out, or no pair of levels has runs: nothing to compare here.</p>" + text
    return (f"<p>Differences in final validation accuracy between means over seeds, by Welch’s t test{corrected}; "
            f"effect sizes are Hedges’ g.</p>{others}{text}")


@functools.cache
def plan_of(name: str) -> dict[Any, set[int]]:
    """The seeds of each configuration that a study plans; of configurations, the seed is put to 0."""
    one, found = load(name), {}
    for level in one.levels:
        found.setdefault(one.config(level, 0), set()).update(one.seeds)
    return found


@functools.cache
def with_further_seeds(name: str) -> list[str]:
    """The studies that repeat this one: more seeds of two of its configurations, or later seeds of one."""
    if name not in study.names():
        return []
    here, found = plan_of(name), []
    for other in study.names():
        there = plan_of(other)
        added = [one for one in here if there.get(one, set()) - here[one]]
        if other != name and (len(added) > 1 or any(min(there[one]) > max(here[one]) for one in added)):
            found.append(other)
    return found


def further(name: str) -> str:
    """The study's planned pairs with the seeds that other studies have of the same configurations."""
    others = with_further_seeds(name)
    own, pooled = family_of(name), BookStudy(runs_of(name), [runs_of(other) for other in others]).family()
    changed = [(pair, p) for pair, p, before in zip(pooled.pairs, pooled.p_pairs, own.pairs, strict=True)
               if (pair.n_a, pair.n_b) != (before.n_a, before.n_b)]
    rows = _difference_rows(*zip(*changed, strict=True)) if changed else []
    return (f"<p>The same comparisons, where studies of the same settings add seeds: {escape(', '.join(others))}. A "
            f"claim that counts them says so. Corrected for all {pooled.size} comparisons and claims, as above.</p>"
            + table(HEAD, rows, "Comparisons with further seeds"))


def _difference_rows(pairs: Sequence[stats.Difference], p: Sequence[float]) -> list[tuple[str, ...]]:
    """Rows of differences, those that have runs first."""
    unit = claims.unit_of(ACCURACY, True)
    both = sorted(zip(pairs, p, strict=True), key=lambda row: math.isnan(row[0].mean))
    return [_difference_row(pair, one, unit) for pair, one in both]


def _difference_row(found: stats.Difference, p: float, unit: str) -> tuple[str, ...]:
    low, high = claims.number(found.low, 2), claims.number(found.high, 2)
    known = not math.isnan(found.p)
    return (found.a, found.b, f"{_signed(found.mean)} {unit}" if not math.isnan(found.mean) else "–",
            f"{low} to {high}" if known else "–", f"{found.n_a}, {found.n_b}", _p(found.p), _p(p),
            "–" if math.isnan(found.effect) else claims.number(found.effect, 1))


def _signed(value: float, digits: int = 2) -> str:
    return "–" if math.isnan(value) else ("+" if value > 0 else "") + claims.number(value, digits)


def _p(p: float) -> str:
    return "–" if math.isnan(p) else claims.p_text(p).removeprefix("= ")


def _said(claim: study.PlannedClaim) -> str:
    """A planned claim in words."""
    first, *second = claim.levels
    said = claim.said
    if "by" in said:
        return f"{first} higher than {second[0]} by {claim.by:g} or more"
    if "within" in said:
        return f"{first} and {second[0]} the same within {claim.within:g}"
    if "reaches" in said:
        return f"{first} reaches {claim.reaches:g}"
    if said:
        (side, others), = said.items()
        return f"{first} the {side} of {'all' if others == 'all' else ', '.join((first, *others))}"
    return f"{first} differs from {second[0]}"


def levels(name: str) -> str:
    """One row a level: seeds, final figures with intervals, time."""
    found = runs_of(name)
    columns = {ACCURACY: ("Validation accuracy (%)", 2), "val_loss": ("Validation loss", 3),
               "train_loss": ("Training loss", 3), "fit_accuracy": ("Accuracy on training images (%)", 1)}
    values = {column: claims.finals(found, column) for column in columns}
    # Minutes are compared between levels, so they are those of one machine: the one that made most of the runs.
    made_by = {run: machine(found.provenance[run]) for run in found.runs["id"]}
    ((on, _),) = Counter(sorted(made_by.values(), reverse=True)).most_common(1) or [("", 0)]
    rows = []
    for level in found.trained:
        of_level = found.runs[found.runs["level"] == level]
        seconds = [result for run in of_level["id"] if made_by[run] == on
                   and (result := found.provenance[run].get("training_seconds"))]
        rows.append((level, str(len(of_level)), str(int(of_level["diverged"].sum()) or "–"), *(
            _mean(values[column].get(level), digits) for column, (_, digits) in columns.items()),
            claims.number(sum(seconds) / len(seconds) / 60, 1) if seconds else "–"))
    head = ("Level", "Runs", "Diverged", *(title for title, _ in columns.values()), f"Minutes a run ({on})")
    missing = f" {len(found.missing)} runs are missing." if found.missing else ""
    said = f"<p>Means over seeds ± half of the 95\N{NO-BREAK SPACE}% interval.{missing}</p>"
    return said + table(head, rows, "Levels")


def _mean(values: pd.Series | None, digits: int) -> str:
    if values is None or not len(values):
        return "–"
    one = stats.mean_interval(values)
    return claims.number(one.mean, digits) + (f" ± {claims.number(one.half_width, digits)}" if one.n > 1 else "")


@functools.cache
def tested(name: str) -> dict[tuple[str, str], list[str]]:
    """The runs of a study that were evaluated on the test images, by level and by the views that were averaged."""
    found: dict[tuple[str, str], list[str]] = {}
    for run in runs_of(name).runs.sort_values("id").itertuples():
        for views in predictions.kept_views(run.id):
            found.setdefault((run.level, views), []).append(run.id)
    order = runs_of(name).trained
    return dict(sorted(found.items(), key=lambda row: order.index(row[0][0])))


def tests(name: str) -> str:
    """Accuracy on the test images by level, with intervals that count seeds, and seeds and images."""
    rows = []
    for (level, views), runs in tested(name).items():
        kept = [one for run in runs if (one := predictions.read(run, views))]
        right = [one.predicted == one.labels for one in kept]
        found = stats.accuracy_interval(right) if len(right) > 1 else None
        halves = [f"± {claims.number(100 * half, 2)}" for half in (found.seeds, found.both)] if found else ["–", "–"]
        mean = claims.number(100 * sum(one.mean() for one in right) / len(right), 2) if right else "–"
        files = ", ".join(predictions.predictions_path(run, views).name for run in runs)
        rows.append((level, views, str(len(right)), mean, *halves, files))
    head = ("Level", "Views", "Seeds", "Test accuracy (%)", "Other seeds", "Other seeds and images", "Files")
    return ("<p>Means over seeds, with half of the 95\N{NO-BREAK SPACE}% interval: for other seeds, and for other "
            "seeds and images. Views are the versions of an image whose predictions are averaged; one is the image as "
            "it is. The files are in <code>results/predictions/</code>.</p>" + table(head, rows, "Test accuracy"))


def repetitions(name: str) -> str:
    """The study's planned pairs as other studies of the same factor find them."""
    here = load(name)
    pairs = {frozenset(pair): pair for pair in claims.pairs_of(here)}
    rows = []
    for other in [name, *(one for one in study.names() if one != name)]:
        if load(other).factor != here.factor:
            continue
        family = family_of(other)
        for difference, p in zip(family.pairs, family.p_pairs, strict=True):
            pair = pairs.get(frozenset((difference.a, difference.b)))
            if pair and not math.isnan(difference.mean):
                turned = difference if difference.a == pair[0] else difference.turned
                conditions = _conditions(runs_of(other), pair)
                rows.append((list(pairs.values()).index(pair), other, turned, p, conditions))
    repeated = {number for number, other, *_ in rows if other != name}
    rows = sorted((row for row in rows if row[0] in repeated), key=lambda row: row[0])
    shown = [(d.a, d.b, other, conditions, _signed(d.mean), f"{claims.number(d.low, 2)} to {claims.number(d.high, 2)}"
              if not math.isnan(d.low) else "–", f"{d.n_a}, {d.n_b}", _p(p)) for _, other, d, p, conditions in rows]
    return "<p>The same pairs of levels in other studies of the same factor.</p>" + table(
        ("Level", "minus", "Study", "Conditions", "Difference (points)", "95 % interval", "n", "p corrected"), shown,
        "Repetitions")


def _conditions(found: StudyResults, pair: tuple[str, str]) -> str:
    """Width and length of a pair's runs, as far as they have such; where the two differ, the first's stands first."""
    configs = [found.config_of(level) for level in pair]
    said = []
    for field, words in (("width", "width {}"), ("epochs", "{} epochs")):
        values = dict.fromkeys(str(getattr(config, field)) for config in configs if hasattr(config, field))
        if values:
            said.append(words.format(" and ".join(values)))
    return ", ".join(said)


def machines(name: str) -> str:
    """What the runs were made with: machines, versions, days, commits."""
    facts = runs_of(name).provenance.values()
    groups: dict[tuple[str, str], list[dict]] = {}
    for fact in facts:
        groups.setdefault((machine(fact), fact["versions"].get("torch", "–")), []).append(fact)
    rows = []
    for (made_with, torch), of_group in sorted(groups.items()):
        days = sorted({str(fact["date"])[:10] for fact in of_group})
        commits = sorted({str(fact["git_commit"] or "unknown")[:8] for fact in of_group})
        rows.append((made_with, torch, str(len(of_group)), days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}",
                     ", ".join(commits)))
    return table(("Machine", "torch", "Runs", "Days", "Commits"), rows, "Machines")


def machine(fact: dict[str, Any]) -> str:
    """What made a run: the GPU, or the processor's model with the widest of its instructions."""
    if fact["device"] != "cpu":
        return str(fact["device"])
    widest = ", ".join(map(str, fact["cpu"]["instructions"][-ENOUGH_INSTRUCTIONS:]))
    return f"{fact['cpu']['model']}{f' ({widest})' if widest else ''}"


def files(name: str) -> str:
    """The names of the run files, by level."""
    found = runs_of(name)
    by_level = found.runs.sort_values("seed").groupby("level")["id"].agg(list)
    rows = [(level, ", ".join(f"{run}.json" for run in by_level[level])) for level in found.trained]
    return (f"<p>In <code>results/runs/</code>: {len(found.runs)} of {len(found.runs) + len(found.missing)} planned "
            "runs.</p>" + table(("Level", "Files"), rows, "Run files"))


PARTS = {"comparisons": "Comparisons", "further": "With further seeds", "levels": "Levels", "tests": "Test images",
         "curves": "Learning curves",
         "repetitions": "Repetitions", "machines": "Machines", "files": "Run files"}
TABLES = {"comparisons": comparisons, "further": further, "levels": levels, "tests": tests, "repetitions": repetitions,
          "machines": machines, "files": files}


# Parts that only some studies have, and what says whether.
WHERE_THERE = {"further": with_further_seeds, "tests": tested}


# --- files ----------------------------------------------------------------------------------------------------------


def draw_curves(name: str, path: Path) -> bool:
    """Draw a study's learning curves as SVG, unless ``path`` has them of the same runs. False where there is no run."""
    found = runs_of(name)
    if not found.levels:
        return False
    values = pd.util.hash_pandas_object(found.history[["level", "seed", "epoch", *CURVES]], index=False).to_numpy()
    key = f"<!-- {hashlib.sha256(Path(__file__).read_bytes() + values.tobytes()).hexdigest()} -->\n"
    if not path.is_file() or not path.read_text(encoding="utf-8").endswith(key):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{_curves(found)._repr_svg_()}\n{key}", encoding="utf-8")
    return True


def _curves(found: StudyResults) -> Any:
    """Means over seeds by epoch: losses and accuracy side by side; of a crossed study the accuracy under each setting.

    Placed by hand: a layout that is computed takes as long as the drawing.
    """
    import matplotlib
    from matplotlib.ticker import MaxNLocator

    from labbook.page.figures import STYLE, BookFigure, look

    mains = [main for main in found.study.mains if any(study.parted(level)[0] == main for level in found.levels)]
    crossed = len(found.study.settings) > 1
    panels = [("val_accuracy", setting) for setting in found.settings] if crossed else [
        (one, "") for one in CURVES if found.history[one].notna().any()]
    means = found.history.astype(dict.fromkeys(CURVES, float)).groupby(["level", "epoch"])[list(CURVES)].mean()
    height, width, legend = max(2.6, 0.19 * len(mains) + 0.4), 2.9, 0.5 + 0.07 * max(map(len, mains))
    whole = width * len(panels) + legend
    with matplotlib.rc_context(STYLE | {"font.size": 9.5, "legend.fontsize": 8.5}):
        figure = BookFigure(figsize=(whole, height))
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        figure.subplots_adjust(left=0.55 / whole, right=1 - (legend + 0.1) / whole, bottom=0.5 / height,
                               top=1 - 0.3 / height, wspace=0.32)
        for axis, (column, setting) in zip(axes, panels, strict=True):
            for number, main in enumerate(mains):
                level = study.joined(main, setting) if crossed else main
                if level not in means.index:
                    continue
                curve = means.loc[level][column] * (100 if claims.percent(column) else 1)
                colour, line, _ = look(number)
                axis.plot(curve.index, curve, color=colour, linestyle=line, label=main)
            axis.set(xlabel="epoch", title=setting or CURVES[column])
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axis.yaxis.set_major_locator(MaxNLocator(5))
        if crossed:
            axes[0].set_ylabel(CURVES["val_accuracy"])
        handles = {name: line for axis in axes for line, name in zip(*axis.get_legend_handles_labels(), strict=True)}
        figure.legend(handles.values(), handles, loc="center left", bbox_to_anchor=(1 - legend / whole, 0.5))
    return figure


def all_runs() -> str:
    """A table of all runs that a study has, as CSV: id, studies, level, seed, final figures, machine, day, settings."""
    rows: dict[str, dict[str, Any]] = {}
    for name in study.names():
        found = runs_of(name)
        for run in found.runs.itertuples():
            if run.id in rows:
                rows[run.id]["study"] += f"; {name}"
                rows[run.id]["level"] += f"; {run.level}"
                continue
            fact = found.provenance[run.id]
            final = {column: getattr(run, column) for column in (ACCURACY, *FINALS)}
            settings = found.configs[run.id].model_dump()
            rows[run.id] = {"id": run.id, "study": name, "level": run.level, "seed": run.seed, "diverged": run.diverged,
                            **final, "machine": machine(fact), "date": str(fact["date"])[:10],
                            "training_seconds": fact["training_seconds"],
                            **{field: value for field, value in settings.items() if field != "seed"}}
    text = io.StringIO()
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: _cell(value) for column, value in row.items()} for row in rows.values())
    return text.getvalue()


def _cell(value: Any) -> Any:
    """A value for a spreadsheet, which would take a text that begins so for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value
