"""Find results that are typed into the prose, where the build cannot check them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

# A figure that looks measured: with a decimal point and a unit, or any number of points.
UNIT = r"(?:%|(?:percent|(?:percentage\s)?points?|nats?|seconds?|minutes?)\b)"
RESULT = re.compile(rf"(?<![\w.])(?:\d+\.\d+\s*{UNIT}|\d+\s+(?:percentage\s)?points?\b)", re.I)
# In the order in which they are taken out: code, mathematics, comments, roles, inline code, addresses.
NO_PROSE = [re.compile(pattern, re.S | re.M) for pattern in (
    r"^(?P<fence>```+|~~~+)(?!\{)[^\n]*\n.*?^(?P=fence)\s*$", r"^```+\{(?:code-cell|code|math)\}.*?^```+\s*$",
    r"\$\$.*?\$\$", r"\$[^$\n]+\$", r"\{(?!cite)[\w:.+-]+\}`[^`]*`", r"(?<![}`])`[^`\n]+`", r"\]\([^)]*\)", r"https?://\S+")]
CITED = re.compile(r"\{cite[:\w]*\}`[^`]*`")
# <!-- typed: whose figure it is --> anywhere in a paragraph.
ALLOWED = re.compile(r"<!--\s*typed:\s*\S.*?-->", re.S)
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z*{\[])")


def typed_results(text: str) -> list[str]:
    """The sentences of a page's Markdown that have a typed result in them.

    Allowed are figures in code, roles and mathematics; in a sentence with a ``{cite}``, which are the cited work's; and
    in a paragraph, list item or table row with a comment ``<!-- typed: whose figure it is -->``.
    """
    for pattern in NO_PROSE:
        text = pattern.sub(" ", text)
    found = []
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*|]|\d+\.)\s)", text):
        if ALLOWED.search(block):
            continue
        block = re.sub(r"<!--.*?-->", " ", block, flags=re.S)
        found += [" ".join(sentence.split()) for sentence in SENTENCE.split(block)
                  if RESULT.search(sentence) and not CITED.search(sentence)]
    return found


def pages(root: Path) -> Iterator[tuple[str, str]]:
    """The prose of a book, as a page's path and its Markdown: its notebooks' Markdown cells and its other pages."""
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield str(path.relative_to(root)), "\n\n".join(
            "".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    for path in sorted((root / "book").glob("*.md")):
        yield str(path.relative_to(root)), path.read_text(encoding="utf-8")
