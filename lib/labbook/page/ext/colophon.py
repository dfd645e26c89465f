"""A quiet fold at the end of a chapter: its parameters, and where its numbers come from.

Moved there are the cells tagged ``parameters``, ``injected-parameters`` and ``provenance``, and the notes called *Where
these numbers come from* that cells show.
"""

from __future__ import annotations

from docutils import nodes
from sphinx_design.dropdown import dropdown_main, dropdown_title

SUMMARY = "How this page was made: its parameters, and where its numbers come from"
TAGS = {"tag_parameters", "tag_injected-parameters", "tag_provenance"}
TITLE = "Where these numbers come from"


def belongs(node: nodes.Node) -> bool:
    """Whether a node is to stand in the fold."""
    if isinstance(node, nodes.container):
        return bool(TAGS & set(node["classes"]))
    if not isinstance(node, dropdown_main):
        return False
    title = next(iter(node.findall(dropdown_title)), None)
    # What follows the words is the mark that opens the note.
    return title is not None and title.astext().strip().startswith(TITLE)


def move(app, doctree: nodes.document, docname: str) -> None:
    """Move what belongs there to the end of the page, into one element that is closed at first."""
    if app.builder.format != "html":
        return
    found = list(doctree.findall(belongs))
    if not found:
        return
    for node in found:
        parent = node.parent
        parent.remove(node)
        # A cell whose output has moved leaves an empty box.
        while isinstance(parent, nodes.container) and not parent.children and parent.parent is not None:
            parent, empty = parent.parent, parent
            parent.remove(empty)
    doctree += [nodes.raw("", f'<details class="colophon"><summary>{SUMMARY}</summary>', format="html"), *found,
                nodes.raw("", "</details>", format="html")]


def setup(app):
    # Before the evidence of the claims, which also goes to the end.
    app.connect("doctree-resolved", move, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
