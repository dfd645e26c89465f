"""Links between pages that code words: ``[Speed](14-speed.ipynb#speed-gpu)`` in a string that a chapter shows.

Sphinx resolves such a link where it stands in a page's own text, but takes it for an outside address where it comes out
of a cell. Here it becomes a link to the page and place; one that leads nowhere is a warning, and so stops the build.
"""

from __future__ import annotations

import posixpath
from urllib.parse import unquote, urlsplit

from docutils import nodes
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
SUFFIXES = (".ipynb", ".md")


def resolve(app, doctree: nodes.document, docname: str) -> None:
    """Replace the addresses of a page's links to source files of other pages."""
    for link in doctree.findall(nodes.reference):
        address = urlsplit(link.get("refuri", ""))
        path = unquote(address.path)
        if address.scheme or address.netloc or not path.endswith(SUFFIXES):
            continue
        page = posixpath.normpath(posixpath.join(posixpath.dirname(docname), path)).rsplit(".", 1)[0]
        if page not in app.env.found_docs:
            LOGGER.warning("a link leads to %r, which is no page of this book", address.path, location=docname)
            continue
        place = ""
        if address.fragment:
            labels = app.env.domaindata["std"]["anonlabels"]
            where, place = labels.get(address.fragment.lower(), ("", ""))
            if where != page:
                LOGGER.warning("a link leads to %r of page %s, where no such label is", address.fragment, page,
                               location=docname)
                continue
        link["refuri"] = app.builder.get_relative_uri(docname, page) + (f"#{place}" if place else "")
        link["internal"] = True


def setup(app):
    app.connect("doctree-resolved", resolve)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
