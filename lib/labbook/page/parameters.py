"""A notebook's parameters: papermill may set those that the notebook declares, to values of their kind."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from labbook.errors import ConfigError, did_you_mean, shown
from labbook.lab import the_lab

# The first line of every notebook's parameters cell, and of the cell that papermill injects after it.
DECLARED = "# The parameters of this notebook"
INJECTED = "# Parameters"
# True or False, though declared as None: the study's own parameters decide.
SWITCHES = {"train", "side_studies"}
KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text", list: "a list"}


def assigned_values(source: str) -> dict[str, Any]:
    """The plain values that a cell assigns to single names at its top level."""
    values = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            with suppress(ValueError):  # not a plain value
                values[node.targets[0].id] = ast.literal_eval(node.value)
    return values


def assigned_names(source: str) -> list[str]:
    """The names that a cell of parameters assigns, one a statement.

    Raises:
        ConfigError: a statement does anything else, such as ``a.b = 1`` or ``a = b = 1``.
    """
    names = []
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if len(targets) != 1 or not isinstance(targets[0], ast.Name):
            line = ast.get_source_segment(source, node)
            raise ConfigError(f"parameters: {shown(line)} is refused: a parameter is a name with a value.")
        names.append(targets[0].id)
    return names


def check_parameters() -> None:
    """Refuse parameters that the running notebook does not declare, and values of another kind than declared.

    Papermill itself injects anything with a mere log line. Where a parameter was changed that no study's note would
    name, such as another study, that is shown: a page says what it was drawn with. Outside a notebook nothing happens.

    Raises:
        ConfigError: names each parameter that is unknown or refused, and what is allowed.
    """
    from IPython import get_ipython

    if not (shell := get_ipython()):
        return
    # Not the notebook's own variable `In`, which a parameter of that name would replace.
    cells = shell.history_manager.input_hist_raw
    declared, injected = last_cell(cells, DECLARED), last_cell(cells, INJECTED)
    given = check(declared, injected, shell.user_ns)
    if note := changed_note(assigned_values(declared), given):
        from IPython.display import Markdown, display

        display(Markdown(note))


def last_cell(cells: list[str], first_line: str) -> str:
    """The last of the cells that begins with this line; empty where none does."""
    return next((cell for cell in reversed(cells) if cell.splitlines()[:1] == [first_line]), "")


def check(declared: str, injected: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Check a notebook's parameters, and return those that were injected with their values.

    ``declared`` and ``injected`` are the sources of the two cells, ``values`` the notebook's variables: the value
    itself is looked at, whatever text it came from.

    Raises:
        ConfigError: names each parameter that is unknown or refused, and what is allowed.
    """
    own, known, given = assigned_values(declared), assigned_names(declared), assigned_names(injected)
    problems = [
        f"unknown parameter {shown(name)}{did_you_mean(name, known)}. Known: {', '.join(known)}."
        for name in given if name not in known
    ]
    problems += filter(None, (refused(name, values[name], own[name]) for name in own if name in values))
    if problems:
        raise ConfigError("\n".join(problems))
    return {name: values[name] for name in given}


def refused(name: str, value: Any, default: Any) -> str:
    """Say why ``value`` is not of the kind of a parameter's ``default``; empty where it is.

    A number may be whole where a fraction is declared, a list may come as its text, and anything goes where the default
    is None: who uses the parameter checks it.
    """
    kind = bool if name in SWITCHES else type(default)
    if kind not in KINDS or (value is None and default is None):
        return ""
    allowed = {float: (int, float), list: (list, tuple, str)}.get(kind, (kind,))
    if type(value) in allowed and not (type(value) is float and not math.isfinite(value)):
        return ""
    remedy = f" Its text was given: write {name} {value} without quotes (papermill's -p, not -r)." if (
        isinstance(value, str) and kind in (int, float, bool) and _is(kind, value)) else ""
    needed = KINDS[kind] + (f" such as {default!r}" if kind is str else "")
    return f"{name}: {shown(value)} is refused: it must be {needed}.{remedy}"


def _is(kind: type, text: str) -> bool:
    """Whether a text would be a value of this kind if it were not quoted."""
    with suppress(ValueError, SyntaxError):
        return type(ast.literal_eval(text.strip())) is kind
    return False


def changed_note(own: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """What the parameters that were ``given`` change of a notebook's ``own``, in Markdown; empty where it is nothing.

    A run's settings, its preset and its seeds are left out: the note on a study's results says how they were changed.
    """
    elsewhere = {*the_lab().config.model_fields, *SWITCHES, "preset", "seeds"}
    changed = [f"`{name} = {shown(value)}`" for name, value in given.items()
               if name not in elsewhere and value != own.get(name)]
    return f"**Drawn with other parameters than this page's own:** {', '.join(changed)}." if changed else ""
