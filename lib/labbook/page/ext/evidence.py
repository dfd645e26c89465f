"""The directive ``{evidence}`` and the pages that it makes: one a study, generated when the site is built.

The pages are written into ``book/evidence/``, which git ignores; a table of contents lists them by a glob. The page
``book/evidence.md`` lists all studies and offers every run as one CSV file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

from labbook.page import evidence
from labbook.studies import study

FOLDER = "book/evidence"


class Evidence(SphinxDirective):
    """A part of a study's evidence; without a study, the list of all studies and the file of all runs."""

    optional_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar = {"part": lambda value: directives.choice(value, tuple(evidence.PARTS))}

    def run(self) -> list[nodes.Node]:
        if not self.arguments:
            return self.overview()
        name, part = self.arguments[0], self.options.get("part", "comparisons")
        self.env.note_dependency(str(study.studies_folder() / f"{name}.yml"))
        if part == "curves":
            return self.curves(name)
        return [nodes.raw("", evidence.TABLES[part](name), format="html")]

    def curves(self, name: str) -> list[nodes.Node]:
        path = Path(self.env.srcdir) / FOLDER / f"{name}.svg"
        if not evidence.draw_curves(name, path):
            return [nodes.paragraph("", "No run is in the store yet.")]
        crossed = len(evidence.load(name).settings) > 1
        said = ("Validation accuracy by epoch under each setting" if crossed else
                "Training loss, validation loss and validation accuracy by epoch") + ": means over seeds."
        return [nodes.figure("", nodes.image("", uri=f"/{FOLDER}/{name}.svg", alt=said), nodes.caption("", said))]

    def overview(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir) / FOLDER / "runs.csv"
        path.write_text(evidence.all_runs(), encoding="utf-8")
        download = addnodes.download_reference("", "", nodes.literal("", "runs.csv"), reftarget=f"/{FOLDER}/runs.csv",
                                               refdoc=self.env.docname, refdomain="", reftype="download",
                                               refexplicit=False, refwarn=True)
        rows = []
        for one in sorted(map(evidence.load, study.names()), key=lambda one: one.title.lower()):
            name, found = one.name, evidence.runs_of(one.name)
            there, planned = len(found.runs), len(found.runs) + len(found.missing)
            link = addnodes.pending_xref("", nodes.inline("", one.title), refdomain="std", reftype="doc",
                                         reftarget=f"/{FOLDER}/{name}", refdoc=self.env.docname, refexplicit=True,
                                         refwarn=True)
            runs = str(there) if there == planned else f"{there} of {planned}"
            rows.append((link, nodes.Text(one.question), nodes.Text(runs)))
        return [nodes.paragraph("", "", nodes.Text("Every run as one table: "), download, nodes.Text(
                ". Under runs, “5 of 35” counts those that are finished of those planned.")),
                _table(("Study", "Question", "Runs"), rows)]


def _table(head: tuple[str, ...], rows: list[tuple[nodes.Node, ...]]) -> nodes.table:
    def row(cells: tuple[nodes.Node, ...]) -> nodes.row:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))

    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in (30, 60, 10)), cols=len(head))
    group += nodes.thead("", row(tuple(nodes.Text(title) for title in head)))
    group += nodes.tbody("", *(row(cells) for cells in rows))
    return nodes.table("", group)


def generate(app: Any, _config: Any) -> None:
    """Write the studies' pages before Sphinx looks for pages; one that is as it was is not touched."""
    folder = Path(app.srcdir) / FOLDER
    if not (Path(app.srcdir) / f"{FOLDER}.md").is_file():
        return   # this site has no such appendix
    folder.mkdir(parents=True, exist_ok=True)
    pages = {f"{name}.md": evidence.page(name) for name in study.names()}
    for old in folder.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("evidence", Evidence)
    app.connect("config-inited", generate, priority=100)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
