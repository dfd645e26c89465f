"""A number stays on a line with its unit or sign, and a minus is a minus, in prose and in computed sentences alike."""

from __future__ import annotations

import re
from itertools import groupby

from docutils import nodes

from labbook.page.typography import MINUS

SPACE = "\N{NO-BREAK SPACE}"
# The number may be an element of its own, as glued ones are: then the text begins or ends beside it.
RULES = (
    (re.compile(r"(?:(?<=\d)|^)\s(?=%)"), SPACE),
    (re.compile(r"(?<=\d)\s([±×])\s(?=\d)"), rf"{SPACE}\1{SPACE}"),
    (re.compile(r"\b([np])\s([=<≥])\s(?=\d|$)"), rf"\1{SPACE}\2{SPACE}"),
    MINUS,
)
AS_WRITTEN = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw)


def typeset(text: str) -> str:
    """``text`` by the rules above."""
    for pattern, replacement in RULES:
        text = pattern.sub(replacement, text)
    return text


def on_page(_app, doctree, _name) -> None:
    """Typeset every text of a page but code and formulas."""
    for element in list(doctree.findall(nodes.TextElement)):
        if not isinstance(element, AS_WRITTEN):
            children = []
            # A line's end in the source is a text of its own.
            for is_text, group in groupby(element.children, lambda child: isinstance(child, nodes.Text)):
                some = list(group)
                children += [nodes.Text(typeset("".join(some)))] if is_text else some
            element.children = []
            element.extend(children)


def setup(app):
    app.connect("doctree-resolved", on_page)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
