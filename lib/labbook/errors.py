"""Errors that a user can cause and mend, and the help that their messages give."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class LabError(Exception):
    """The message names the thing, the value and the remedy; the command line prints it without a traceback."""


class ConfigError(LabError, ValueError):
    """A parameter is unknown, of the wrong type or out of range; the message names it and what is allowed."""


def did_you_mean(value: object, allowed: Sequence[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for a near miss or a part of one of ``allowed``, else an empty string."""
    text = str(value)
    # A part of a name is nearer than letters that happen to agree: "cosin" means warmup_cosine, not constant.
    parts = [name for name in allowed if len(text) > 2 and text.lower() in name.lower()]
    near = sorted(parts, key=len)[:1] or difflib.get_close_matches(text, allowed, n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
