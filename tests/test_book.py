"""The website: builds with warnings as errors, offline, never stale; a broken notebook breaks it."""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml
from bs4 import BeautifulSoup
from labbook.paths import results_in
from labbook.studies import study as studies
from site_links import dead_links

from tests import made

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.book


WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "sklearn"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""


class Site:
    """A copy of the project that is built on its own: its library, its results, no dataset."""

    def __init__(self, root: Path) -> None:
        self.root, self.html = root, root / "_build" / "html"

    def call(self, program: str, *arguments: str, before: str = "") -> subprocess.CompletedProcess:
        environment = os.environ | {
            "PYTHONPATH": f"{before}{self.root / 'lib'}", "LABBOOK_RESULTS": str(self.root / "results"),
            "CIFAR10_ROOT": str(self.root / "nowhere"),
        }
        command = [str(Path(sys.executable).parent / program), *arguments]
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)

    def build(self, *flags: str) -> subprocess.CompletedProcess:
        """Build as who only reads does: without PyTorch."""
        blocked = self.root.parent / "without-torch"
        blocked.mkdir(exist_ok=True)
        (blocked / "sitecustomize.py").write_text(WITHOUT_TORCH)
        return self.call("jupyter-book", "build", ".", *flags, before=f"{blocked}{os.pathsep}")

    def text(self, page: str) -> str:
        """A page's text as it was written, before it was typeset."""
        text = self.soup(page).find("article").get_text(" ", strip=True)
        return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")

    def soup(self, page: str) -> BeautifulSoup:
        return BeautifulSoup((self.html / f"{page}.html").read_text(encoding="utf-8"), "html.parser")

    def pages(self) -> list[str]:
        """The pages of the contents, those of evidence included; not what stands at old addresses."""
        toc = (self.root / "_toc.yml").read_text(encoding="utf-8")
        evidence = [f"book/evidence/{path.stem}" for path in (self.root / "studies").glob("*.yml")]
        return sorted([*re.findall(r"(?:root|file): (\S+)", toc), *evidence])


NEW_STUDY = """
title: Label smoothing
question: Does label smoothing help on synthetic images?
factor: smoothing
preset: smoke
seeds: [0]
reference: none
levels:
  none: {}
  a tenth: {label_smoothing: 0.1}
"""


def add_a_study(site: Site) -> None:
    """As the appendix says: a study's file, its runs, a copy of the template that names it, a line of contents."""
    (site.root / "studies" / "label-smoothing.yml").write_text(NEW_STUDY)
    template = (site.root / "notebooks" / "study-template.ipynb").read_text(encoding="utf-8")
    named = re.sub(r'study = \\"[\w-]+\\"', r'study = \\"label-smoothing\\"', template)
    assert named != template
    (site.root / "notebooks" / "14-label-smoothing.ipynb").write_text(named, encoding="utf-8")
    toc = site.root / "_toc.yml"
    last = "      - file: notebooks/13-speedrun\n"
    toc.write_text(toc.read_text().replace(last, last + "      - file: notebooks/14-label-smoothing\n"))
    with results_in(site.root / "results"):
        for _, config in studies.load("label-smoothing", site.root / "studies").runs():
            made.put(config)


def copy_of_the_project(root: Path) -> Site:
    ignored = shutil.ignore_patterns(
        ".venv", "_build", ".git", ".scratch", "__pycache__", "*.egg-info", "data_batch*", "*.part")
    shutil.copytree(ROOT, root, ignore=ignored)
    return Site(root)


def small_site(root: Path, *pages: str) -> Site:
    """A copy of the project whose contents are these pages, and where no old address leads elsewhere."""
    site = copy_of_the_project(root)
    (site.root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/a5-references\nchapters:\n" + "".join(f"  - file: {page}\n" for page in pages))
    config = site.root / "_config.yml"
    fields = yaml.safe_load(config.read_text(encoding="utf-8"))
    fields["sphinx"]["config"]["old_addresses"] = {}
    fields["sphinx"]["extra_extensions"].remove("labbook.page.ext.evidence")   # its pages take longest to draw
    config.write_text(yaml.safe_dump(fields))
    return site


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    site = copy_of_the_project(tmp_path_factory.mktemp("site") / "book")
    add_a_study(site)
    done = site.build("-W", "--keep-going")
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return site


def test_a_new_study_is_a_file_and_a_copied_chapter(site):
    assert "Does label smoothing help on synthetic images?" in site.text("notebooks/14-label-smoothing")
    assert "a tenth" in site.text("book/evidence/label-smoothing")


def test_every_page_of_the_contents_is_there(site):
    assert len(site.pages()) > 40
    assert all((site.html / f"{page}.html").is_file() for page in site.pages())


def test_every_link_leads_to_a_page_and_to_a_place_on_it(site):
    assert dead_links(site.html) == []


def test_no_page_asks_an_outside_host_for_anything(site):
    for page in [*site.pages(), "search", "genindex"]:
        soup = site.soup(page)
        asked = [tag.get("src") or tag.get("data") for tag in soup.find_all(["script", "img", "iframe", "object"])]
        asked += [tag.get("href") for tag in soup.find_all("link") if "canonical" not in (tag.get("rel") or [])]
        outside = [url for url in asked if url and re.match(r"(https?:)?//", url)]
        assert not outside, f"{page}: {outside}"
        for url in asked:
            if url and not url.startswith(("data:", "#")):
                path = (site.html / page).parent / url.split("?")[0].split("#")[0]
                assert path.exists(), f"{page}: {url} is not in the site"
    for style in site.html.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_mathematics_is_served_by_the_site(site):
    scripts = [tag.get("src") for tag in site.soup("notebooks/04-dropout").find_all("script") if tag.get("src")]
    assert any("mathjax/tex-mml-chtml.js" in src for src in scripts)
    assert list((site.html / "_static/mathjax/output/chtml/fonts/woff-v2").glob("*.woff"))


def test_no_page_shows_a_trace_a_progress_bar_or_a_warning_of_the_kernel(site):
    for page in site.pages():
        article = site.soup(page).find("article")
        for source in article.select(".cell_input"):
            source.decompose()
        text = article.get_text(" ", strip=True)
        for trace in ("Traceback (most recent call last)", "it/s]", "run/s", "TCP without encryption", "np.float64"):
            assert trace not in text, f"{page}: {trace}"
        assert not re.search(r"\bnan\b", text, re.I), page


def test_every_figure_has_alt_text_and_a_caption_with_words(site):
    found = 0
    for page in site.pages():
        for figure in site.soup(page).find("article").find_all("figure"):
            found += 1
            image, caption = figure.find("img"), figure.find("figcaption")
            assert image is not None, page
            assert len(image.get("alt", "")) > 15, f"{page}: {image}"
            assert not image["alt"].startswith(("../", "_images")), f"{page}: {image}"
            assert len(caption.get_text().split()) > 5, page
    assert found > 10


def test_a_number_stays_with_its_unit_and_a_minus_is_one(site):
    signs = 0
    for page in site.pages():
        for paragraph in site.soup(page).find("article").find_all(["p", "figcaption"]):
            for code in paragraph.find_all(["code", "span"], class_=["docutils", "math"]):
                code.decompose()
            text = paragraph.get_text()
            assert not (apart := re.search(r"\d[ \n]%|\d[ \n]±|\bn[ \n][=≥]|(?<![\w-])-\d", text)), (page, apart)
            signs += text.count("\N{MINUS SIGN}")
    assert signs


def test_a_claim_on_the_first_page_is_what_the_result_files_say(site):
    """The difference, computed here another way from the JSON files, stands in the answer."""
    def accuracies(study, level):
        configs = [config for _, config in studies.load(study).runs([level])]
        paths = [site.root / "results" / "runs" / f"{config.id}.json" for config in configs]
        return [100 * json.loads(path.read_text())["final"]["val_accuracy"] for path in paths]

    # All fifteen seeds of the reference.
    without = accuracies("dropout", "none") + accuracies("reference-again", "the reference")
    lost = statistics.mean(without) - statistics.mean(accuracies("dropout", "classifier 0.5"))
    answer = re.search(r"dropping half of the classifier.s inputs costs ([\d.]+) points", site.text("book/index"))
    assert answer, site.text("book/index")[:3000]
    assert float(answer[1]) == pytest.approx(lost, abs=0.06)


def test_test_accuracies_on_the_first_page_are_counted_from_the_committed_predictions(site):
    right = []
    for _, config in studies.load("recipe").runs(["studies alone"]):
        with np.load(site.root / "results" / "predictions" / f"{config.id}.npz") as file:
            right.append(100 * (file["logits"].argmax(1) == file["labels"]).mean())
    assert f"{statistics.mean(right):.1f} %" in site.text("book/index")


STUDY_PAGE = """
from labbook.page import book

study = book.study("kernel")
book.value("mean", study.mean("3 × 3"), "{:.3f}");
"""


def test_a_broken_notebook_breaks_the_build_and_a_rebuild_shows_what_changed_and_runs_nothing_else(tmp_path):
    """Built again and again: broken twice, mended, untouched, a result changed. Few pages, which are quick to build."""
    template = "notebooks/study-template"
    site = small_site(tmp_path / "book", "notebooks/16-page")
    path = site.root / "notebooks" / "16-page.ipynb"
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        cells=[nbformat.v4.new_markdown_cell("# A page"), nbformat.v4.new_code_cell(STUDY_PAGE.strip()),
               nbformat.v4.new_markdown_cell("It reaches {value}`mean`.")],
    )
    broken = deepcopy(notebook)
    broken.cells.append(nbformat.v4.new_code_cell("raise RuntimeError('broken on purpose')"))
    nbformat.write(broken, path)
    for _ in range(2):   # the second time nothing has changed, and it is not green for that
        assert site.build("-W", "--keep-going").returncode != 0

    # Mended; and a chapter was executed over itself with other parameters: that is what is published.
    nbformat.write(notebook, path)
    with (site.root / "_toc.yml").open("a") as toc:
        toc.write(f"  - file: {template}\n")
    over = str(site.root / f"{template}.ipynb")
    done = site.call("papermill", "--no-progress-bar", over, over, "-p", "study", "kernel", "-p", "seeds", "[0, 1]")
    assert done.returncode == 0, done.stderr[-3000:]
    done = site.build("-W", "--keep-going")
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "broken on purpose" not in site.text("notebooks/16-page")
    assert "Drawn with other parameters" in site.text(template)

    done = site.build("-W", "--keep-going")
    assert done.returncode == 0
    assert "Executing notebook" not in done.stdout + done.stderr

    configs = [config for _, config in studies.load("kernel").runs(["3 × 3"])]
    paths = [site.root / "results" / "runs" / f"{config.id}.json" for config in configs]
    result = json.loads(paths[0].read_text())
    result["final"]["val_accuracy"] = result["history"][-1]["val_accuracy"] = 0.98765
    paths[0].write_text(json.dumps(result))
    mean = statistics.mean(100 * json.loads(path.read_text())["final"]["val_accuracy"] for path in paths)
    assert site.build("-W", "--keep-going").returncode == 0
    assert f"It reaches {mean:.3f}" in site.text("notebooks/16-page")
