"""What a page says of itself to browsers and search engines, and what the theme loads that the book does not need."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes

LONGEST = 160   # characters of a description that search engines show
# The theme draws its icons by a font; its script that draws them again weighs 1.5 MB.
UNUSED = (
    re.compile(r'\s*<script src="[^"]*/fontawesome/[^"]*"></script>'),
    re.compile(r'\s*<script type="text/x-thebe-config">.*?</script>\s*<script>kernelName = [^<]*</script>', re.S),
    # Two of its fonts are not used, and from file:// a browser refuses to load any before the style sheet asks for it.
    re.compile(r'\s*<link rel="preload" as="font"[^>]*/fontawesome/[^>]*/>'),
)
# Labels that hide the words that are to be read: the words themselves name these elements.
LABELS = (
    (re.compile(r'(<summary) aria-label="Toggle hidden content"'), r"\1"),
    (re.compile(r'(<button class="btn search-button-field[^>]*?) title="Search" aria-label="Search"'), r"\1"),
    # An entry of a list of references must be in a list, which it is not.
    (re.compile(r' role="doc-biblioentry"'), ""),
)
DOUBLED = re.compile(r"<title>(.+?) &#8212; \1</title>")


def description(doctree: nodes.document) -> str:
    """The beginning of a page's first paragraph, in whole words."""
    paragraphs = (node.astext() for node in doctree.findall(nodes.paragraph)
                  if isinstance(node.parent, nodes.section) and node.astext().strip())
    text = " ".join(next(paragraphs, "").split())
    if len(text) <= LONGEST:
        return text
    return text[:LONGEST].rsplit(" ", 1)[0].rstrip(",;:") + " …"


def on_page(app: Any, pagename: str, _template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Add a description and a card; leave out the scripts of Thebe, which runs code on somebody's server."""
    for kind in ("script_files", "css_files"):
        context[kind] = [file for file in context.get(kind, ()) if not _of_thebe(file)]
    if doctree is None:
        return
    title = re.sub(r"<[^>]*>", "", str(context.get("title", ""))) or app.config.html_title
    facts = {"og:type": "article", "og:title": title, "og:site_name": app.config.html_title}
    tags = ""
    if found := description(doctree):
        tags += f'\n<meta name="description" content="{escape(found, quote=True)}">'
        facts["og:description"] = found
    if app.config.html_baseurl and app.config.card_image:   # a card's picture needs a whole address
        facts["og:image"] = f"{app.config.html_baseurl.rstrip('/')}/{app.config.card_image}"
    tags += "".join(f'\n<meta property="{name}" content="{escape(str(value), quote=True)}">'
                    for name, value in facts.items())
    context["metatags"] = context.get("metatags", "") + tags + '\n<meta name="twitter:card" content="summary">'


def _of_thebe(file: Any) -> bool:
    body = getattr(file, "attributes", {}).get("body") or ""
    return "thebe" in str(getattr(file, "filename", file) or "").lower() or "THEBE_JS_URL" in body


def tidied(html: str) -> str:
    """A page without what it does not need, and with names that say what is shown."""
    for pattern in UNUSED:
        html = pattern.sub("", html)
    for pattern, replacement in LABELS:
        html = pattern.sub(replacement, html)
    return DOUBLED.sub(r"<title>\1</title>", html)


def finished(app: Any, exception: Exception | None) -> None:
    """Tidy every page that this build wrote; a tidy one stays as it is."""
    if exception or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        before = path.read_text(encoding="utf-8")
        if (after := tidied(before)) != before:
            path.write_text(after, encoding="utf-8")
    for script in Path(app.outdir).glob("_static/vendor/fontawesome/*/js/*"):
        script.unlink()
    # What the search shows of a page begins with its text, not with the theme's buttons.
    search = Path(app.outdir) / "_static" / "searchtools.js"
    if search.is_file():
        text = search.read_text(encoding="utf-8")
        search.write_text(text.replace("""'[role="main"]'""", "'article.bd-article'"), encoding="utf-8")


def setup(app: Any) -> dict[str, Any]:
    app.add_config_value("card_image", "", "html", str)
    app.connect("html-page-context", on_page, priority=900)
    app.connect("build-finished", finished)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
