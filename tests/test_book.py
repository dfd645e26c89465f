"""The website: builds with warnings as errors, offline, never stale; a broken notebook breaks it."""

from __future__ import annotations

import ast
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
import pytest
from bs4 import BeautifulSoup
from cifarbook import original, published
from site_links import dead_links

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.book


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
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=900)

    def build(self, *flags: str) -> subprocess.CompletedProcess:
        """Build as who only reads does: without PyTorch."""
        blocked = self.root.parent / "without-torch"
        blocked.mkdir(exist_ok=True)
        (blocked / "sitecustomize.py").write_text(
            "import sys\nsys.modules.update(dict.fromkeys(('torch', 'torchvision', 'sklearn')))\n")
        return self.call("jupyter-book", "build", ".", *flags, before=f"{blocked}{os.pathsep}")

    def text(self, page: str) -> str:
        """A page's text as it was written, before it was typeset."""
        text = self.soup(page).find("article").get_text(" ", strip=True)
        return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")

    def soup(self, page: str) -> BeautifulSoup:
        return BeautifulSoup((self.html / f"{page}.html").read_text(encoding="utf-8"), "html.parser")

    def pages(self) -> list[str]:
        names = [str(path.relative_to(self.html).with_suffix("")) for path in self.html.glob("*/*.html")]
        return sorted(name for name in names if name.startswith(("book/", "notebooks/")))


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
    from labbook.runs import runner
    from labbook.studies import study as studies

    (site.root / "studies" / "label-smoothing.yml").write_text(NEW_STUDY)
    template = (site.root / "notebooks" / "study-template.ipynb").read_text(encoding="utf-8")
    named = re.sub(r'study = \\"[\w-]+\\"', r'study = \\"label-smoothing\\"', template)
    assert named != template
    (site.root / "notebooks" / "16-label-smoothing.ipynb").write_text(named, encoding="utf-8")
    toc = site.root / "_toc.yml"
    last = "      - file: notebooks/13-notes\n"
    toc.write_text(toc.read_text().replace(last, last + "      - file: notebooks/16-label-smoothing\n"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABBOOK_RESULTS", str(site.root / "results"))
        for _, config in studies.load("label-smoothing", site.root / "studies").runs():
            runner.run(config)


def copy_of_the_project(root: Path) -> Site:
    ignored = shutil.ignore_patterns(
        ".venv", "_build", ".git", ".scratch", "__pycache__", "*.egg-info", "data_batch*", "*.part")
    shutil.copytree(ROOT, root, ignore=ignored)
    return Site(root)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    site = copy_of_the_project(tmp_path_factory.mktemp("site") / "book")
    add_a_study(site)
    done = site.build("-W", "--keep-going")
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return site


def test_a_new_study_is_a_file_and_a_copied_chapter(site):
    text = site.text("notebooks/16-label-smoothing")
    assert "Does label smoothing help on synthetic images?" in text
    assert "a tenth" in text
    assert "So far each comparison rests on one pair of runs" in text


def test_every_page_of_the_contents_is_there(site):
    listed = re.findall(r"(?:root|file): (\S+)", (site.root / "_toc.yml").read_text())
    assert site.pages() == sorted(listed)


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
    scripts = [tag.get("src") for tag in site.soup("notebooks/05-warm-up").find_all("script") if tag.get("src")]
    assert any("mathjax/tex-mml-chtml.js" in src for src in scripts)
    assert list((site.html / "_static/mathjax/output/chtml/fonts/woff-v2").glob("*.woff"))


def test_no_page_shows_a_trace_a_progress_bar_or_a_warning_of_the_kernel(site):
    for page in site.pages():
        article = site.soup(page).find("article")
        for source in article.select(".cell_input"):
            source.decompose()
        text = article.get_text(" ", strip=True)
        for trace in ("Traceback (most recent call last)", "it/s]", "run/s", "TCP without encryption", "nan ", "NaN",
                      "np.float64"):
            assert trace not in text, f"{page}: {trace}"


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


def test_glued_numbers_are_computed_from_the_committed_results(site):
    """Compute the headline numbers here on another way, from the JSON files, and find them on the page."""
    study = re.search(r'study = "([\w-]+)"', (ROOT / "notebooks/05-warm-up.ipynb").read_text().replace("\\", ""))[1]
    from labbook.studies import study as studies

    final: dict[str, dict[int, float]] = {}
    for level, config in studies.load(study).runs():
        path = site.root / "results" / "runs" / f"{config.id}.json"
        if path.exists():
            value = json.loads(path.read_text())["final"]["val_accuracy"]
            final.setdefault(level, {})[config.seed] = 100 * value
    shared = set(final["constant"]) & set(final["warm-up cosine"])
    gain = statistics.mean(final["warm-up cosine"][seed] - final["constant"][seed] for seed in shared)
    card = site.text("book/index")
    shown = re.search(r"against a constant rate: [\w ]+, ([+-][\d.]+)", card)
    assert shown, card
    assert float(shown[1]) == pytest.approx(gain, abs=0.006)
    assert f"n = {len(shared)}" in site.text("notebooks/05-warm-up")


# Numbers in prose that are not results: they explain a method, or name a target that a table's column has.
ALLOWED = {"95 %", "75 %", "10,000 images"}
UNITS = r"points?|nats|minutes?|hours?|seconds?|runs?|seeds?|times|percent|per cent"
IN_WORDS = "three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|hundred"
STATED = re.compile(
    rf"(?<![\w.])\d[\d,]*\.\d+(?: ?%)?|(?<![\w.])\d+ ?%|(?<![\w.])\d[\d,]* (?:{UNITS})\b|"
    rf"\b(?:{IN_WORDS}) (?:{UNITS})\b|\bwidth \d+|"
    rf"(?<![\w.,])\d[\d,]* (?:images|layers|parameters|multiply-accumulates)\b", re.I)


def prose_of(path: Path) -> str:
    """What a page says in prose, and in the strings with which its code words sentences."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    parts = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.cell_type == "code":
            strings = (node.value for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Constant))
            parts += [text for text in strings if isinstance(text, str) and " " in text.strip()]
    return "\n\n".join(parts)


@pytest.mark.parametrize(("text", "stated"), [
    ("it gains 5 points over 12 runs", ["5 points", "12 runs"]), ("84 percent", ["84 percent"]),
    ("eleven minutes", ["eleven minutes"]), ("84.4 % of it", ["84.4 %"]), ("+3.2", ["3.2"]),
    ("one run a seed, 20 epochs, CIFAR-10, ResNet-9", []),
])
def test_what_counts_as_a_number_in_prose(text, stated):
    assert STATED.findall(text) == stated


@pytest.mark.parametrize("path", sorted([*(ROOT / "notebooks").glob("[01a]*.ipynb"), *(ROOT / "book").glob("*.md")]),
                         ids=lambda path: path.stem)
def test_prose_states_no_result_as_literal_text(path):
    """A quantity in prose is quoted (results/original, results/published), or it is glued."""
    prose = re.sub(r"```(?:bash|yaml|python).*?```|\$\$.*?\$\$", " ", prose_of(path), flags=re.S)
    prose = re.sub(r"\{[\w:]+\}`[^`]*`|`[^`]*`|\$[^$]*\$", " ", prose)
    stated = {re.sub(r"\s+", " ", found) for found in STATED.findall(prose)}
    known = set()

    def collect(value):
        if isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                collect(item)
        elif isinstance(value, int | float):
            known.update(f"{number:.{digits}f}{unit}" for digits in (0, 1, 2, 4)
                         for number, unit in ((value, ""), (100 * value, " %"), (100 * value, "")))

    collect(original.facts())
    collect(published.speedruns())
    assert stated - known - ALLOWED - {"0.5"} == set()


def test_the_librarys_sentences_state_no_result_either():
    stated = {}
    no_sentences = {"race.py", "runs_bar.py"}   # a line of another program, a bar's format
    for path in (ROOT / "lib" / "cifarlab").rglob("*.py"):
        if path.name in no_sentences:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree)
                      if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)}
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            if " " in text.strip() and text not in docstrings:
                stated |= {found: path.name for found in STATED.findall(text)}
    assert stated.keys() - ALLOWED - {"0.001"} == set(), stated   # "p < 0.001"


def test_an_untouched_rebuild_runs_nothing_and_a_changed_result_is_on_the_page(site):
    before = {page: (site.html / f"{page}.html").stat().st_mtime_ns for page in site.pages()}
    done = site.build()
    assert done.returncode == 0
    assert "Executing notebook" not in done.stdout + done.stderr
    assert {page: (site.html / f"{page}.html").stat().st_mtime_ns for page in site.pages()} == before

    from labbook.studies import study as studies

    study = studies.load("depth")

    def path_of(level, seed):
        return site.root / "results" / "runs" / f"{study.config(level, seed).id}.json"

    def mean(level):
        return statistics.mean(
            100 * json.loads(path_of(level, seed).read_text())["final"]["val_accuracy"] for seed in study.seeds)

    path = path_of("plain 3", 0)
    committed = path.read_text()
    result = json.loads(committed)
    result["final"]["val_accuracy"] = result["history"][-1]["val_accuracy"] = 0.98765
    path.write_text(json.dumps(result))
    try:
        assert site.build().returncode == 0
        assert f"{mean('plain 3'):.2f} ±" in site.text("notebooks/11-depth")
        # Glued on another page, by way of a third.
        assert f"{mean('residual 9') - mean('plain 3'):+.2f} ±" in site.text("book/index")
    finally:
        path.write_text(committed)


def test_a_broken_notebook_breaks_the_build_every_time_until_it_is_mended(tmp_path):
    # Two pages are enough to break and to mend, and one without links to the others.
    site = copy_of_the_project(tmp_path / "book")
    toc = "format: jb-book\nroot: book/a3-references\nchapters:\n  - file: notebooks/16-page\n"
    (site.root / "_toc.yml").write_text(toc)
    path = site.root / "notebooks" / "16-page.ipynb"
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        cells=[nbformat.v4.new_markdown_cell("# A page"), nbformat.v4.new_code_cell("print('mended')")],
    )
    broken = deepcopy(notebook)
    broken.cells.append(nbformat.v4.new_code_cell("raise RuntimeError('broken on purpose')"))
    nbformat.write(broken, path)
    for _ in range(2):
        assert site.build("-W", "--keep-going").returncode != 0
    nbformat.write(notebook, path)
    done = site.build("-W", "--keep-going")
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "mended" in site.text("notebooks/16-page")
    assert "broken on purpose" not in site.text("notebooks/16-page")


def test_a_chapter_re_run_over_itself_is_published_by_the_next_build(tmp_path):
    site = copy_of_the_project(tmp_path / "book")
    page = "notebooks/03-residual-networks"
    # One page is enough; without strictness, since it links to others.
    (site.root / "_toc.yml").write_text(f"format: jb-book\nroot: book/a3-references\nchapters:\n  - file: {page}\n")
    assert site.build().returncode == 0
    assert "Drawn with other parameters" not in site.text(page)
    path = str(site.root / f"{page}.ipynb")
    done = site.call("papermill", "--no-progress-bar", path, path, "-p", "preset", "smoke", "-p", "seeds", "[0]")
    assert done.returncode == 0, done.stderr[-3000:]
    assert site.build().returncode == 0
    assert "Drawn with other parameters" in site.text(page)
