"""Errors that a user can cause and mend, and the help that their messages give."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Sequence


class LabError(Exception):
    """The message names the thing, the value and the remedy; the command line prints it without a traceback."""


class ConfigError(LabError, ValueError):
    """A parameter is unknown, of the wrong type or out of range; the message names it and what is allowed."""


class _Short(reprlib.Repr):
    """``repr`` that stays short for any value: text of a megabyte, nested aliases, numbers of thousands of digits."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict, self.maxstring, self.maxother = 2, 4, 4, 4, 80, 80

    def repr_int(self, value: int, level: int) -> str:
        digits = int(value.bit_length() * 0.30103) + 1   # Python refuses to write out more than 4,300
        return repr(value) if digits <= 40 else f"a number of about {digits} digits"


_short = _Short()


def shown(value: object) -> str:
    """``repr`` of a value for a message, cut where it is long; it never fails."""
    return _short.repr(value)


def did_you_mean(value: object, allowed: Sequence[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for a near miss or a part of one of ``allowed``, else an empty string."""
    text = value if isinstance(value, str) else shown(value)
    if len(text) > 100:
        return ""
    # A part of a name is nearer than letters that happen to agree: "cosin" means warmup_cosine, not constant.
    parts = [name for name in allowed if len(text) > 2 and text.lower() in name.lower()]
    near = sorted(parts, key=len)[:1] or difflib.get_close_matches(text, allowed, n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
