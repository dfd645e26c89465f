"""Tables as pages show them: words left, numbers right, scrolling by themselves where the page is narrow."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from labbook.page.typography import MINUS

NO_RUN = "No run of this study is in the store yet."
# A column with a text of more characters than this breaks its lines.
LONG_TEXT = 40
# What stands in a cell instead of a number: it is aligned as the numbers are.
NO_NUMBER = ("", "–", "reference", "diverged")


def as_shown(rows: Sequence[dict]) -> Styler:
    """Rows as a table without an index, that scrolls by itself where the page is narrow: words left, numbers right."""
    rows = rows or [{"": NO_RUN}]
    frame = pd.DataFrame(rows)
    # pandas names a table at random; by its content, a rebuilt page differs only where its content does.
    name = hashlib.sha256(frame.to_csv().encode()).hexdigest()[:8]
    styles = []
    for number, column in enumerate(frame):
        if in_words(frame[column]):
            long = frame[column].map(lambda cell: len(str(cell))).max() > LONG_TEXT
            props = f"text-align: left; white-space: normal; min-width: {11 if long else 5}rem"
            styles += [{"selector": f"{cell}.col{number}", "props": props} for cell in ("th", "td")]
    return (
        frame.style.set_uuid(name).hide(axis="index").set_table_attributes('class="wide-table"')
        .set_table_styles(styles).format(typeset)
    )


def typeset(cell: object) -> object:
    """A text as HTML: its negative numbers have a minus sign, as prose has it, and its lines stay lines; anything else
    as it is.
    """
    if not isinstance(cell, str):
        return cell
    hyphen, minus = MINUS
    return hyphen.sub(minus, cell).replace("\n", "<br>")


def in_words(cells: pd.Series) -> bool:
    """Whether most of a column's cells, but for those without a number, hold more letters than digits."""
    counts = [
        (sum(character.isalpha() for character in text), sum(character.isdigit() for character in text))
        for text in map(str, cells) if text.strip() not in NO_NUMBER
    ]
    return 2 * sum(letters > digits for letters, digits in counts) > len(counts)
