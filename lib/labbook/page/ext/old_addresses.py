"""Pages that moved: at each old address stands a page that leads to the new one.

``old_addresses`` in the configuration: old page to new page, each without its ending and from the book's root, the new
one with ``#place`` where wanted. For example ``{notebooks/07-dropout: notebooks/05-dropout}``.
"""

from __future__ import annotations

import posixpath
from html import escape
from pathlib import Path

from sphinx.errors import ExtensionError

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>This page has moved</title>
<meta name="robots" content="noindex">
<meta http-equiv="refresh" content="0; url={address}">
</head>
<body><p>This page has moved: <a href="{address}">{title}</a>.</p></body>
</html>
"""


def check(app, env) -> None:
    """Refuse an old address that is a page, and a new one that is none."""
    for old, new in app.config.old_addresses.items():
        if old in env.found_docs:
            raise ExtensionError(f"old_addresses: {old!r} is a page of this book; take it out of the list")
        if new.partition("#")[0] not in env.found_docs:
            raise ExtensionError(f"old_addresses: {old!r} leads to {new!r}, which is no page of this book")


def write(app, exception) -> None:
    """Write a page at every old address."""
    if exception or app.builder.format != "html":
        return
    for old, new in app.config.old_addresses.items():
        page, _, place = new.partition("#")
        address = posixpath.relpath(f"{page}.html", posixpath.dirname(old) or ".") + (f"#{place}" if place else "")
        title = app.env.titles[page].astext() if page in app.env.titles else page
        path = Path(app.outdir) / f"{old}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PAGE.format(address=escape(address, quote=True), title=escape(title)), encoding="utf-8")


def setup(app):
    app.add_config_value("old_addresses", {}, "html", dict)
    app.connect("env-check-consistency", check)
    app.connect("build-finished", write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
