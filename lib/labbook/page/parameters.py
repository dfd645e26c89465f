"""A notebook's parameters: what papermill may set, and a refusal of anything else."""

from __future__ import annotations

import ast
from contextlib import suppress
from typing import Any

from cifarlab.config import RunConfig

from labbook.errors import ConfigError, did_you_mean

# The first line of every notebook's parameters cell, and of the cell that papermill injects after it.
DECLARED = "# The parameters of this notebook"
INJECTED = "# Parameters"
# Parameters of chapters that are True or False, beside those that are so where they are declared.
SWITCHES = {"train", "side_studies"}


def assigned_names(source: str) -> list[str]:
    """The names that a cell assigns at its top level."""
    names = []
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names += [target.id for target in targets if isinstance(target, ast.Name)]
    return names


def assigned_values(source: str) -> dict[str, Any]:
    """The plain values that a cell assigns to single names at its top level."""
    values = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            with suppress(ValueError):  # not a plain value
                values[node.targets[0].id] = ast.literal_eval(node.value)
    return values


def check_parameters(cells: list[str] | None = None) -> None:
    """Refuse parameters that the notebook does not have; papermill alone injects them with a mere log line.

    Where the notebook runs, those that are not its own and that no study's note would name, such as another study, are
    shown: a page says what it was drawn with. ``cells`` are the sources executed so far, by default those of the
    running kernel.

    Raises:
        ConfigError: names each unknown parameter, a near one, and all that are known; or a switch that is neither
            True nor False, or a value that is no whole number where one is declared.
    """
    shell = None
    if cells is None:
        from IPython import get_ipython

        shell = get_ipython()
        cells = shell.user_ns["In"] if shell else []
    declared = next((cell for cell in reversed(cells) if cell.startswith(DECLARED)), "")
    known = assigned_names(declared)
    injected = next((cell for cell in reversed(cells) if _is_injected(cell)), "")
    if unknown := [name for name in assigned_names(injected) if name not in known]:
        raise ConfigError("\n".join(
            f"unknown parameter {name!r}{did_you_mean(name, known)}. Known: {', '.join(known)}." for name in unknown
        ))
    own = assigned_values(declared)
    for name, value in assigned_values(injected).items():
        # A text such as "no" would count as true.
        if (name in SWITCHES or isinstance(own.get(name), bool)) and not (value is None or isinstance(value, bool)):
            raise ConfigError(f"{name}: {value!r} is refused: it must be True or False.")
        if type(own.get(name)) is int and not (value is None or type(value) is int):
            raise ConfigError(f"{name}: {value!r} is refused: it must be a whole number.")
    if shell and (note := changed_note(declared, injected)):
        from IPython.display import Markdown, display

        display(Markdown(note))


def changed_note(declared: str, injected: str) -> str:
    """What the ``injected`` cell changes of the ``declared`` parameters, in Markdown; empty where it is nothing.

    A run's settings, its preset and its seeds are left out: the note on a study's results says how they were changed.
    """
    elsewhere = {*RunConfig.model_fields, *SWITCHES, "preset", "seeds"}
    own = assigned_values(declared)
    given = [f"`{name} = {value!r}`" for name, value in assigned_values(injected).items()
             if name not in elsewhere and value != own.get(name)]
    return f"**Drawn with other parameters than this page's own:** {', '.join(given)}." if given else ""


def _is_injected(cell: str) -> bool:
    return cell.splitlines()[:1] == [INJECTED]
