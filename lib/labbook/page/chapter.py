"""What every chapter does: open its studies, say what its numbers came from, keep values for its prose."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from cifarlab.config import PRESETS, WITH_WARMUP, RunConfig

from labbook.runs import store
from labbook.studies.results import StudyResults, ensure
from labbook.studies.stats import Comparison
from labbook.studies.study import load

# Set where the website is built: there figures and sentences stand where the prose puts them.
IN_BOOK = "CIFARLAB_IN_BOOK"


def say(name: str, text: str) -> None:
    """Keep ``text`` under ``name`` for the page's prose: ``{glue:md}`name```.

    In a notebook that runs by itself it is shown below the cell too: by its name, where it is no sentence.
    """
    from IPython.display import Markdown
    from myst_nb import glue

    glue(name, Markdown(text), display=False)
    if text:
        sentence = text.rstrip().endswith((".", ":::")) or "\n" in text
        _show(Markdown(_plain(text if sentence else f"{name.replace('_', ' ')}: {text}")))


def keep(name: str, value: Any) -> None:
    """Keep a number or a figure under ``name`` for the prose of this page and, as a number, of others.

    In a notebook that runs by itself, a figure is shown below the cell too.
    """
    from myst_nb import glue

    # NumPy's scalars print as np.float64(…), which the prose's formats cannot read.
    glue(name, value.item() if hasattr(value, "item") else value, display=False)
    if hasattr(value, "_repr_svg_") or hasattr(value, "_repr_png_"):
        _show(value)


def _plain(text: str) -> str:
    """``text`` for a reader who is not the website: Jupyter knows no ``:::`` blocks, so their titles stand in bold."""
    if IN_BOOK in os.environ:
        return text
    return re.sub(r"^:::\{\w+\} ?(.*)$", r"**\1**\n", text, flags=re.M).replace("\n:::", "\n").replace("****\n", "")


def _show(value: Any) -> None:
    """Show a value below its cell, except where the website is built: its prose has a place for it."""
    from IPython.display import display

    if IN_BOOK not in os.environ:
        display(value)


OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "muon": "Muon"}
SCHEDULES = {
    "constant": "held constant", "warmup_cosine": "warm-up, then cosine decay",
    "warmup_constant": "warm-up, then held constant", "step": "falling in steps",
    "exponential": "exponential decay", "linear": "linear decay", "one_cycle": "warm-up, then linear decay",
}
# A field of a run's configuration and how it is said.
RECIPE: tuple[tuple[str, Callable[[Any], str]], ...] = (
    ("optimizer", OPTIMIZERS.__getitem__),
    ("learning_rate", lambda rate: f"peak rate {rate:g}"),
    ("schedule", SCHEDULES.__getitem__),
    ("warmup_epochs", lambda epochs: f"{epochs:g} epoch{'s' * (epochs != 1)} of warm-up"),
    ("weight_decay", lambda decay: f"weight decay {decay:g}" if decay else "no weight decay"),
    ("batch_size", lambda images: f"batches of {images:,}"),
    ("augment", lambda kind: "no augmentation" if kind == "none" else f"augmented by {kind.replace('_', ', ')}"),
    ("label_smoothing", lambda amount: f"label smoothing {amount:g}" if amount else ""),
)


def recipe(configs: Collection[RunConfig]) -> str:
    """How runs were trained, in words, as far as it is the same for all of them."""
    said = {}
    for field, words in RECIPE:
        values = {getattr(config, field) for config in configs}
        if field == "warmup_epochs" and any(config.schedule not in WITH_WARMUP for config in configs):
            continue
        if len(values) == 1:
            said[field] = words(values.pop())
    if "schedule" in said and "warmup_epochs" in said:
        said["schedule"] = said["schedule"].replace("warm-up", said.pop("warmup_epochs"))
    return ", ".join(filter(None, said.values()))


def network(config: RunConfig) -> str:
    """What a residual network is made of, in words."""
    dropout = f"dropout {config.dropout:g} ({config.dropout_at})" if config.dropout else "no dropout"
    norm = "no normalization" if config.norm == "none" else f"{config.norm} normalization"
    return (f"{config.depth} layers{'' if config.shortcut else ' without shortcuts'}, {norm}, "
            f"{config.kernel_size} × {config.kernel_size} kernels, {dropout}")


def open_study(study: str, **given: Any) -> StudyResults:
    """The results of a chapter's main study, and what its prose says of them all: length, width, seeds, recipe.

    The arguments are those of :func:`labbook.studies.results.ensure`.
    """
    results = ensure(study, **given)
    some = next(iter(results.configs.values()))
    keep("epochs", some.epochs)
    keep("width", some.width)
    say("n_seeds", seeds(results))
    say("recipe", recipe(results.configs.values()))
    return results


def seeds(*results: StudyResults) -> str:
    """How many seeds the levels of some studies have: ``n = 5``, ``n = 1 to 5``; where none has a run, that."""
    return counted([count for one in results for count in one.seed_counts])


def counted(counts: Iterable[int]) -> str:
    """Numbers of seeds as one number or a range, as :func:`seeds` says them."""
    if not (counts := set(counts)):
        return "no run yet"
    return f"n = {min(counts)}" + (f" to {max(counts)}" if len(counts) > 1 else "")


def pairs(conditions: Sequence[tuple[str, Sequence[Comparison]]]) -> str:
    """As :func:`seeds`, how many pairs the last of the conditions of :func:`labbook.studies.comparing.repeated` has."""
    _, comparisons = conditions[-1]
    return counted(n for comparison in comparisons if (n := comparison.difference.n))


def side_study(study: str, wanted: bool, **given: Any) -> StudyResults:
    """The results of a study beside a chapter's main one, which may have none.

    ``given`` counts where ``wanted``, and leaves alone what the study is about: what it fixes or each level sets.
    """
    named = load(study)
    own = named.set_by_every_level | named.fixed.keys()
    asked = {name: value for name, value in given.items() if wanted and name not in own}
    if asked.get("preset"):
        # A preset wins over what a study fixes. What the chapter's parameters leave alone is given again.
        kept = given.keys() & named.fixed.keys() & PRESETS.get(asked["preset"], {}).keys()
        asked |= {name: named.fixed[name] for name in kept}
    return ensure(study, required=False, **asked)


def provenance_note(*results: StudyResults) -> Any:
    """What the numbers of one study, or of several, were drawn from: Markdown to display at the top of a chapter."""
    from IPython.display import Markdown

    return Markdown(_plain(provenance_text(*results)))


def provenance_text(*results: StudyResults) -> str:
    """The text of :func:`provenance_note`: MyST Markdown, with a warning where something is not as a study says."""
    sources = [source for one in results if (source := _source(one))]
    warnings = [
        f"`{one.study.name}`: {warning}" if len(results) > 1 else warning for one in results for warning in _warned(one)
    ]
    if aside := store.set_aside():
        warnings.append(f"Files of results that do not fit were set aside: {_list(f'`{name}`' for name in aside)}.")
    parts = []
    if any(map(_mixed_seeds, results)):
        sources.append("Each kind of processor rounds in its own way, which is part of such differences. What that "
                       "comes to was measured for the studies' narrow reference alone, between a GPU and a processor "
                       "([Speed](14-speed.ipynb)).")
    if sources:
        parts.append(":::{dropdown} Where these numbers come from\n" + "\n\n".join(sources) + "\n:::")
    if warnings:
        lines = [f"- {warning}" for warning in warnings] if len(warnings) > 1 or sources else warnings
        parts.append(":::{warning}\n" + "\n".join(lines) + "\n:::")
    return "\n\n".join(parts)


def _source(results: StudyResults) -> str:
    """Which runs a study's numbers are of and what made them; empty where there is none."""
    study, facts = results.study, list(results.provenance.values())
    if not facts:
        return ""
    seeds = sorted(results.runs["seed"].unique())
    mixed = _mixed_seeds(results)
    rounding = (
        f" Seed{'s' * (len(mixed) > 1)} {_list(mixed)}: the levels were not all trained on one kind of processor."
        f"{_apart(results)}" if mixed else "")
    epochs = {config.epochs for config in results.configs.values()}
    widths = {config.width for config in results.configs.values()}
    images = {config.train_images for config in results.configs.values()}
    return (
        f"Study `{study.name}`: {plural(len(results.configs), 'run')} "
        f"({plural(len(results.trained), 'level')}; seed{'s' * (len(seeds) > 1)} {_list(seeds)}), "
        f"width {_list(widths)}, {_list(epochs)} epoch{'s' * (epochs != {1})} of "
        f"{_list(f'{count:,}' for count in images)} images, "
        f"{_list({fact['precision'] for fact in facts})}. "
        f"Made with {_list(_machines(facts))}; torch {_list({fact['versions']['torch'] for fact in facts})}; "
        f"{_dates(facts)}; commit {_list({_commit(fact) for fact in facts})}.{rounding}"
    )


def _warned(results: StudyResults) -> list[str]:
    """What a reader should know before trusting a study's numbers."""
    study = results.study
    if not results.provenance:
        return [
            f"None of the {len(results.missing)} runs that study `{study.name}` plans is in the store yet. "
            f"{_remedy(results)}"
        ]
    warnings = []
    if results.changed:
        given = ", ".join(f"`{name} = {value!r}`" for name, value in results.changed.items())
        warnings.append(f"Drawn with other parameters than the study's own: {given}.")
    if results.missing:
        warnings.append(
            f"{len(results.missing)} of the {len(results.missing) + len(results.runs)} runs that the study plans are "
            f"not in the store yet; each table says how many seeds it rests on, and its verdicts are interim. "
            f"{_remedy(results)}"
        )
    if diverged := list(results.runs[results.runs["diverged"]]["id"]):
        warnings.append(f"Diverged (the loss stopped being a number): {_list(f'`{run}`' for run in diverged)}.")
    if older := results.older_code():
        were = "was" if len(older) == 1 else "were"
        warnings.append(f"{len(older)} of these runs {were} made by other code than today's library.")
    moved = sum(len({_kind(sitting) for sitting in facts.get("sittings", ()) if "cpu" in sitting} | {_kind(facts)}) > 1
                for facts in results.provenance.values())
    if moved:
        warnings.append(f"{plural(moved, 'run')} went on, after an interruption, on another kind of processor, which "
                        "rounds in its own way.")
    updated = sum(any(sitting.get("versions", facts["versions"]) != facts["versions"]
                      for sitting in facts.get("sittings", ())) for facts in results.provenance.values())
    if updated:
        warnings.append(f"{plural(updated, 'run')} went on, after an interruption, with another version of Python or "
                        "of a library.")
    return warnings


def _remedy(results: StudyResults) -> str:
    """What trains the missing runs: with other parameters than the study's own, only the chapter does."""
    if results.changed:
        return "This chapter trains them, with the same parameters and `train = True`."
    return f"`make results STUDY={results.study.name}` trains them."


def _mixed_seeds(results: StudyResults) -> list[int]:
    """The seeds whose runs, which are compared with each other, were made on different kinds of processor."""
    kinds: dict[int, set[str]] = {}
    for run in results.runs.itertuples():
        kinds.setdefault(run.seed, set()).add(_kind(results.provenance[run.id]))
    return sorted(seed for seed, of_seed in kinds.items() if len(of_seed) > 1)


def _apart(results: StudyResults) -> str:
    """In how many pairs with the reference the two runs were made on different kinds of processor: a sentence."""
    reference = results.study.reference
    kinds = {(run.level, run.seed): _kind(results.provenance[run.id]) for run in results.runs.itertuples()}
    pairs = [kind != kinds[reference, seed] for (level, seed), kind in kinds.items()
             if level != reference and (reference, seed) in kinds]
    return (f" In {sum(pairs)} of the {plural(len(pairs), 'pair')} with *{reference}* the two runs were made on "
            "different kinds." if pairs else "")


def plural(count: int, noun: str) -> str:
    """``1 run``, ``2 runs``, ``1,200 runs``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _list(values: Any) -> str:
    return ", ".join(str(value) for value in (sorted(values) if isinstance(values, set) else values))


def _machines(facts: list[dict]) -> list[str]:
    counts = Counter(map(machine, facts))
    return [f"{name} ({plural(count, 'run')})" if len(counts) > 1 else name for name, count in counts.items()]


def machine(fact: dict) -> str:
    """What made a run: the GPU, or the processor's model, its widest instructions, and threads.

    The instructions tell two processors of one model name apart.
    """
    if fact["device"] != "cpu":
        return fact["device"]
    instructions = f" ({_kind(fact)})" if _kind(fact) else ""
    return f"{fact['cpu']['model']}{instructions}, {plural(fact['threads'], 'thread')}"


def _kind(fact: dict) -> str:
    """The GPU, or the widest of a processor's instructions that matter: what the rounding depends on."""
    return fact["device"] if fact["device"] != "cpu" else next(reversed(fact["cpu"]["instructions"]), "")


def processor(fact: dict) -> str:
    """What a benchmark ran on: the GPU, or the processor's model and all of its instructions that matter."""
    if fact["device"] != "cpu":
        return fact["device"]
    held = f", held to {fact['cpu']['held_to']}" if "held_to" in fact["cpu"] else ""
    return f"{fact['cpu']['model']} ({', '.join(fact['cpu']['instructions'])}{held})"


def _dates(facts: list[dict]) -> str:
    days = sorted({fact["date"][:10] for fact in facts})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _commit(fact: dict) -> str:
    if not fact["git_commit"]:
        return "unknown"
    return f"`{fact['git_commit'][:8]}`" + ("" if fact["git_clean"] else " with uncommitted changes")
