"""The extensions that the website is built with, on a small site: folds, links, old addresses, heads, offline icons."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from labbook.page import figures
from labbook.page.ext import freshness, head, side_by_side
from labbook.paths import project_root
from site_links import dead_links

ROOT = project_root()

CONFIG = """
title: A small book
author: somebody
only_build_toc_files: true
execute: {execute_notebooks: force}
sphinx:
  extra_extensions: [%s]
  config:
    html_context: {default_mode: auto}
    old_addresses: {%s}
    nb_render_markdown_format: myst
"""
TOC = "format: jb-book\nroot: index\nchapters:\n  - file: one\n  - file: folder/two\n"
EXTENSIONS = ", ".join(f"labbook.page.ext.{name}" for name in (
    "colophon", "contents", "head", "links", "old_addresses", "side_by_side"))
LINKED = "[Two](folder/two.md#a-place), [its beginning](folder/two.md)"
CODE = f"""
from IPython.display import Markdown
from myst_nb import glue
glue("words", Markdown("{LINKED}"), display=False)
Markdown(":::{{dropdown}} Where these numbers come from\\nStudy x\\n:::")
"""


def make(folder: Path, code: str = CODE, old: str = "gone/page: folder/two#a-place") -> Path:
    """Write the sources of a site of three pages, and a file that is none of its pages."""
    (folder / "folder").mkdir(parents=True)
    (folder / "_config.yml").write_text(CONFIG % (EXTENSIONS, old))
    (folder / "_toc.yml").write_text(TOC)
    (folder / "index.md").write_text("# A small book\n\nIt says *hello* to <b>you</b> & to \"others\".\n")
    (folder / "folder/two.md").write_text("# Two\n\nText.\n\n(a-place)=\n## A place\n\nMore text.\n")
    (folder / "stray.md").write_text("No title, and a [link](nowhere.md).\n")
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        cells=[nbformat.v4.new_markdown_cell("# One\n\nFirst words."),
               nbformat.v4.new_code_cell("seeds = None", metadata={"tags": ["parameters"]}),
               nbformat.v4.new_code_cell(code.strip(), metadata={"tags": ["hide-input"]}),
               nbformat.v4.new_markdown_cell("Links: {glue:md}`words`. Last words.")])
    nbformat.write(notebook, folder / "one.ipynb")
    return folder


def build(folder: Path, **environment: str) -> subprocess.CompletedProcess:
    command = [str(Path(sys.executable).parent / "jupyter-book"), "build", ".", "-W", "--keep-going"]
    inherited = os.environ | {"PYTHONPATH": str(ROOT / "lib")}
    return subprocess.run(command, cwd=folder, env=inherited | environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site; its folder's name is a pattern, and the folder for temporary files has a long name."""
    parent = tmp_path_factory.mktemp("parent")
    long = parent / ("scratch" * 15)
    long.mkdir()
    folder = make(parent / "a [small] book")
    done = build(folder, TMPDIR=str(long))
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return folder / "_build" / "html"


def soup(site: Path, page: str) -> BeautifulSoup:
    return BeautifulSoup((site / page).read_text(encoding="utf-8"), "html.parser")


def test_a_folder_with_brackets_builds_only_the_pages_of_its_contents(site):
    assert not (site / "stray.html").exists()
    assert (site / "folder/two.html").exists()


def test_every_link_leads_somewhere_those_that_code_words_too(site):
    assert dead_links(site) == []
    links = {link.get_text(): link["href"] for link in soup(site, "one.html").find("article").find_all("a")}
    assert links["Two"] == "folder/two.html#a-place"
    assert links["its beginning"] == "folder/two.html"


@pytest.mark.parametrize("address", ["nowhere.md", "folder/two.md#no-such-place"])
def test_a_link_from_code_that_leads_nowhere_stops_the_build(tmp_path, address):
    done = build(make(tmp_path / "book", CODE.replace(LINKED, f"[x]({address})")))
    assert done.returncode != 0
    assert "a link leads to" in done.stdout + done.stderr


def test_an_old_address_leads_to_the_new_one(site):
    page = soup(site, "gone/page.html")
    assert page.find("meta", attrs={"http-equiv": "refresh"})["content"] == "0; url=../folder/two.html#a-place"
    assert page.find("a")["href"] == "../folder/two.html#a-place"


@pytest.mark.parametrize("old", ["one: folder/two", "gone: nowhere"])
def test_an_old_address_that_is_a_page_or_leads_to_none_is_refused(tmp_path, old):
    done = build(make(tmp_path / "book", old=old))
    assert done.returncode != 0
    assert "old_addresses" in done.stdout + done.stderr


def test_parameters_and_sources_stand_in_a_fold_at_the_end(site):
    article = soup(site, "one.html").find("article")
    fold = article.find("details", class_="colophon")
    assert "seeds" in fold.get_text()
    assert "Study x" in fold.get_text()
    fold.extract()
    assert not article.select(".sd-dropdown, .tag_parameters")
    assert article.get_text().rstrip().endswith("Last words.")


def test_a_page_says_what_it_is_and_asks_for_nothing_that_it_does_not_need(site):
    page = soup(site, "index.html")
    page = soup(site, "one.html") if page.find("meta", attrs={"http-equiv": "refresh"}) else page
    assert page.find("meta", attrs={"name": "description"})["content"]
    assert page.find("meta", property="og:title")["content"]
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "thebe" not in text.lower(), path
        assert not re.search(r"<script[^>]*fontawesome", text), path
        assert 'data-default-mode=""' not in text, path
        assert "mathjax" not in text.replace("mathjax_ignore", ""), path


def test_the_search_reads_pages_from_their_text_on(site):
    assert "querySelector('article.bd-article')" in (site / "_static/searchtools.js").read_text(encoding="utf-8")


def test_a_title_is_not_said_twice():
    assert head.tidied("<title>A &#8212; A</title>") == "<title>A</title>"
    assert head.tidied("<title>A &#8212; B</title>") == "<title>A &#8212; B</title>"


def test_a_socket_has_a_short_path_wherever_temporary_files_go(monkeypatch, tmp_path):
    monkeypatch.setattr(side_by_side.tempfile, "gettempdir", lambda: str(tmp_path / ("x" * 90)))
    assert len(side_by_side.socket_prefix(None)) < 100
    monkeypatch.setattr(side_by_side.tempfile, "gettempdir", lambda: "/tmp")
    assert side_by_side.socket_prefix(None).startswith("/tmp/kernel-")


class App:
    """As much of Sphinx as the choice of processes asks for."""

    def __init__(self, parallel: int, pages_at_once: int) -> None:
        self.parallel, self.pages_at_once = parallel, pages_at_once


@pytest.mark.parametrize(("platform", "asked", "configured", "expected"), [
    ("linux", 1, 0, 4), ("linux", 1, 1, 1), ("linux", 3, 0, 3), ("linux", 1, 2, 2), ("darwin", 1, 0, 1),
    ("darwin", 3, 0, 3),
])
def test_pages_run_side_by_side_as_asked_and_are_not_forked_on_macos(
        monkeypatch, platform, asked, configured, expected):
    monkeypatch.setattr(side_by_side, "cores", lambda: 16)
    monkeypatch.setattr(side_by_side, "kernels_talk_through_files", lambda: None)
    monkeypatch.setattr(sys, "platform", platform)
    app = App(asked, configured)
    side_by_side.choose(app, app)
    assert app.parallel == expected


def test_freshness_sees_every_kind_of_input(tmp_path, monkeypatch):
    monkeypatch.delenv("LABBOOK_RESULTS", raising=False)
    root = tmp_path / "a [b]"
    seen = set()
    for name in ("lib/labbook/page/ext/head.py", "lib/labbook/x.py", "studies/a.yml", "notebooks/a.ipynb", "book/a.md",
                 "book/_static/a.css", "examples/digits/lab.py", "results/networks.json", "results/equivalences.yml",
                 "results/runs/a.json", "results/bench-x/a.json", "results/data/card.json", "site_extra/a/b.js"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        seen.add(digest := freshness.inputs_digest(root))
        path.write_text("changed")
        assert freshness.inputs_digest(root) != digest, name
        path.write_text(name)
    assert len(seen) == 13


def test_a_drawing_has_no_ground_and_follows_the_pages_colours():
    figure, (axis,) = figures.new_figure()
    axis.plot([0, 1], [0, 1], color=figures.INK)
    svg = figure._repr_svg_()
    assert "prefers-color-scheme:dark" in svg
    assert not re.search(r'id="patch_1">\s*<path[^>]*fill: #ffffff', svg)
