"""Claims: what they refuse, what they count, and what a strict build of a small website does with them."""

from __future__ import annotations

import csv
import html
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from claims_site import book_study, plan, runs
from labbook.page import claims, evidence, prose
from labbook.page.claims import ClaimError, Family, judge
from labbook.page.ext.claims import _note
from labbook.page.ext.evidence import generate
from labbook.studies.study import PlannedClaim, StudyError, load
from statsmodels.stats.multitest import multipletests

ROOT = Path(__file__).resolve().parents[1]


# --- what is judged -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("claim", "planned", "status", "words"), [
    (("cosine", ">", "constant"), None, "shown", "5.0 points"),
    (("constant", "<", "cosine"), None, "shown", "5.0 points"),
    (("constant", ">", "cosine"), None, "not shown", "−5.0 points"),
    (("linear", ">", "cosine"), ["linear", "cosine"], "not shown", "+0.10 points"),
    (("linear", "?", "cosine"), ["linear", "cosine"], "shown", "no clear difference"),
    (("cosine", "?", "constant"), None, "not shown", "+5.0 points"),
    (("cosine", ">", "constant", {"by": 4.0}), ["cosine", "constant", {"by": 4}], "shown", "5.0 points"),
    (("constant", "<", "cosine", {"by": 4.0}), ["cosine", "constant", {"by": 4}], "shown", "5.0 points"),
    (("cosine", ">", "constant", {"by": 5.0}), ["cosine", "constant", {"by": 5}], "not shown", "+5.0 points"),
    (("linear", "=", "cosine", {"within": 1.0}), ["cosine", "linear", {"within": 1}], "shown", "less than 1 point"),
    (("linear", "=", "cosine", {"within": 0.4}), ["cosine", "linear", {"within": 0.4}], "not shown", "+0.10 points"),
    (("one cycle", "highest"), ["one cycle", {"highest": "all"}], "shown", "84.0 %"),
    (("linear", "highest"), ["linear", {"highest": "all"}], "not shown", "−2.9 points"),
    (("linear", "highest", {"among": ["constant"]}), ["linear", {"highest": ["constant"]}], "shown", "81.1 %"),
    (("constant", "lowest"), ["constant", {"lowest": "all"}], "shown", "76.0 %"),
    (("one cycle", "reaches", 83), ["one cycle", {"reaches": 83}], "shown", "84.0 %"),
    (("one cycle", "reaches", 84), ["one cycle", {"reaches": 84}], "not shown", "84.0 %"),
    (("cosine", "<", "constant", {"column": "val_loss"}), ["cosine", "constant", {"of": "val_loss"}], "shown", "0.050"),
])
def test_each_relation_is_shown_by_the_runs_or_not(claim, planned, status, words):
    plain = planned and not isinstance(planned[-1], dict)
    one = book_study(comparisons=[planned] if plain else [], claimed=[] if plain or not planned else [planned])
    *given, options = claim if isinstance(claim[-1], dict) else (*claim, {})
    found = one.claim("name", *given, **options)
    assert (found.status, found.words.removesuffix(" nats")) == (status, words)
    assert found.fatal == (status != "shown")


def test_a_computed_figure_can_be_claimed_and_names_need_be_no_levels():
    one = book_study([["narrow", "wide", {"of": "epochs", "by": 1}]])
    times = {"narrow": pd.Series([9.0, 9.5, 10]), "wide": pd.Series([3.0, 3.2, 3.4])}
    found = one.claim("soon", "wide", "<", "narrow", by=1, column="epochs", values=times, unit="epochs")
    assert found.status == "shown" and found.words == "6.3 epochs"
    with pytest.raises(ClaimError, match="a name of its own"):
        one.claim("soon", "wide", "<", "narrow", values=times)


@pytest.mark.parametrize(("given", "said"), [
    (("cosine", "=>", "constant"), "'=>' is not known. Known: >, <"),
    (("cosin", ">", "constant"), r"'cosin' is no level .* \(did you mean 'cosine'\?\)"),
    (("cosine", ">", 80), "followed by a level, not by 80"),
    (("cosine", "reaches", "constant"), "followed by a number"),
    (("cosine", "=", "constant"), "takes within="),
])
def test_a_claim_that_is_written_wrongly_is_refused(given, said):
    with pytest.raises(ClaimError, match=said):
        book_study().claim("name", *given)


@pytest.mark.parametrize(("given", "options"), [
    (("linear", ">", "cosine"), {}),
    (("cosine", ">", "constant"), {"by": 1.5}),
    (("constant", "<", "cosine"), {"by": 1.5}),
    (("linear", "=", "cosine"), {"within": 0.5}),
    (("linear", "highest"), {}),
    (("linear", "lowest"), {"among": ["cosine", "one cycle"]}),
    (("cosine", "reaches", 80), {}),
    (("cosine", "<", "constant"), {"column": "val_loss"}),
])
def test_an_unplanned_claim_is_refused_with_the_lines_that_plan_it(given, options):
    with pytest.raises(ClaimError) as refusal:
        book_study().claim("name", *given, **options)
    lines = yaml.safe_load(str(refusal.value).partition("made-up.yml:")[2])
    planned = book_study(lines.get("claims", ()), lines.get("comparisons", ()))
    assert planned.claim("name", *given, **options).status in ("shown", "not shown")


@pytest.mark.parametrize(("row", "said"), [
    ('["cosine", "constant"]', "plain pairs stand under comparisons"),
    ('["cosine", "constant", {}]', "a plain pair stands under comparisons"),
    ('["cosine", "constant", {by: 1, within: 2}]', "at most one of"),
    ('["cosine", "constant", {reaches: 90}]', "one level and one of"),
    ('["cosine", {by: 1}]', "two levels"),
    ('["cosine", "cosine", {by: 1}]', "compared with itself"),
    ('["cosine", "sine", {by: 1}]', "'sine' is not one of its levels"),
    ('["cosine", "constant", {by: -1}]', "greater than 0"),
])
def test_a_wrong_claim_in_a_studys_file_is_refused(tmp_path, row, said):
    (tmp_path / "mine.yml").write_text(
        "title: T\nquestion: Q\nfactor: f\npreset: laptop\nseeds: [0]\nreference: constant\nlevels:\n"
        f"  constant: {{schedule: constant}}\n  cosine: {{schedule: warmup_cosine}}\nclaims:\n  - {row}\n")
    with pytest.raises(StudyError, match=re.escape(said)):
        load("mine", tmp_path)


def test_one_seed_is_too_few():
    found = book_study(seeds=[0]).claim("any_decay", "cosine", ">", "constant")
    assert found.status == "too few seeds" and found.fatal
    absent = book_study(levels=("constant", "linear")).claim("any_decay", "cosine", ">", "constant")
    assert absent.status == "too few seeds" and absent.words == "– points"


def test_with_other_parameters_nothing_is_fatal():
    found = book_study(changed={"epochs": 3}).claim("name", "constant", ">", "cosine")
    assert found.status == "not shown" and found.changed == {"epochs": "3"} and not found.fatal


def test_runs_that_diverged_are_left_out_and_counted():
    found = book_study(diverged={("cosine", 0), ("cosine", 3)}).claim("name", "cosine", ">", "constant")
    assert found.lost == 2 and [level["n"] for level in found.levels] == [3, 5]
    assert "cosine-s0" not in found.runs and len(found.runs) == 8


def test_pooled_runs_of_the_same_configuration_count_once():
    again = runs(plan(), seeds=range(3, 9), levels=("cosine",))
    found = book_study(pool=[again]).claim("name", "cosine", ">", "constant")
    assert [level["n"] for level in found.levels] == [9, 5] and len(found.runs) == 14
    assert found.pooled == ["made-up"]


# --- the correction -------------------------------------------------------------------------------------------------


def test_the_correction_counts_every_comparison_and_claim_of_the_study():
    """Whether or not their runs exist, which page claims them, or a chapter computes the figure."""
    claimed = [["cosine", "linear", {"within": 0.6}], ["one cycle", {"highest": "all"}],
               ["one cycle", {"reaches": 83.7}], ["cosine", "constant", {"of": "val_loss"}],
               ["cosine", "constant", {"of": "computed elsewhere"}]]
    one = book_study(claimed, comparisons=[["cosine", "linear"]])
    family = one.family()
    assert family.size == 4 + 5
    raw = [pair.p for pair in family.pairs] + [1.0 if np.isnan(p) else p for p in family.claims.values()]
    corrected = multipletests(raw, method="holm")[1]
    found = one.claim("name", "linear", "?", "cosine")
    assert found.family == 9 and found.p == pytest.approx(corrected[3])
    assert one.claim("same", "cosine", "=", "linear", within=0.6).p == pytest.approx(corrected[4])
    # Runs that do not exist yet change nothing of how many are counted.
    fewer = book_study(claimed, comparisons=[["cosine", "linear"]], levels=("constant", "cosine")).family()
    assert fewer.size == 9 and sum(np.isnan(pair.p) for pair in fewer.pairs) == 3


def test_a_further_planned_claim_makes_the_others_harder():
    close = [["linear", "cosine", {"within": margin}] for margin in (0.05, 0.06, 0.07)]
    alone = book_study(comparisons=[["cosine", "linear"]]).claim("name", "cosine", ">", "constant")
    among = book_study(close, comparisons=[["cosine", "linear"]]).claim("name", "cosine", ">", "constant")
    assert among.family == alone.family + 3 and among.p > alone.p


def test_a_crossed_study_compares_under_the_same_setting():
    crossed = plan(levels={"none": {}, "half": {"dropout": 0.5}}, reference="none / slow",
                   crossed={"slow": {"learning_rate": 0.001}, "fast": {"learning_rate": 0.01}})
    assert claims.pairs_of(crossed) == [("half / slow", "none / slow"), ("half / fast", "none / fast")]


def test_every_study_of_the_book_has_a_family():
    for name in evidence.study.names():
        study = load(name)
        family = Family(study, {"val_accuracy": {}})
        assert family.size == len(claims.pairs_of(study)) + len(study.claims)


def test_the_same_p_on_the_evidence_page_and_in_the_chapter():
    one = book_study([["one cycle", {"highest": "all"}]])
    by_hand = judge(one.study, {"val_accuracy": claims.finals(one.results)}, "name", "cosine", ">", "constant")
    assert one.claim("name", "cosine", ">", "constant").p == by_hand.p == one.family().of_pair("cosine", "constant")[1]


# --- figures in words -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "text"), [
    (5.0, "5.0"), (0.514, "0.51"), (30.6, "31"), (9.96, "10"), (0.996, "1.0"), (-0.04, "−0.040"), (1234.5, "1,234"),
    (0.0, "0.0"),
])
def test_figures_have_two_significant_digits(value, text):
    assert claims.number(value) == text


# --- the website ----------------------------------------------------------------------------------------------------

CONF = """
import sys; sys.path.insert(0, {tests!r})
extensions = ["myst_nb", "labbook.page.ext.claims"]
nb_execution_mode = "force"
exclude_patterns = ["_build"]
suppress_warnings = ["mystnb.unknown_mime_type"]
root_doc = "index"
"""
PAGE = """---
kernelspec: {{name: python3, display_name: Python 3}}
file_format: mystnb
---
# {title}

```{{code-cell}}
import sys
sys.path.insert(0, {tests!r})
from claims_site import book_study
from labbook.page import book
{code}
```

{prose}
"""
PAGES = {
    "good": ("""
one = book_study([["one cycle", {"highest": "all"}]])
one.claim("any_decay", "cosine", ">", "constant")
one.claim("best", "one cycle", "highest")
one.value("base", level="constant")
book.value("rate", 0.3, "{:.1f}")
other = book_study(changed={"epochs": 3})
other.claim("false", "constant", ">", "cosine");""",
             "Decay is worth {claim}`any_decay`, from {value}`base`. It is {claim}`by far <any_decay>`, or "
             "{claim}`{plus_minus} <any_decay>`.\n\n| a | b |\n|---|---|\n| {value}`rate` | {claim}`best` |\n\n"
             "With three epochs it gains {claim}`false`."),
    "wrong": ("""
one = book_study()
one.claim("false", "constant", ">", "cosine")
one.claim("unused", "cosine", ">", "constant")
few = book_study(seeds=[0])
few.claim("few", "cosine", ">", "constant");""",
              "One sentence before. A constant rate gains {claim}`false`, says *nobody*. Then {claim}`few` of "
              "{value}`nowhere`."),
}
INDEX = ("# Front\n\nThe book says {claim}`good::any_decay` and {value}`good::base`.\n\n"
         "```{toctree}\n:glob:\n*\n```\n")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A strict build with wrong pages, and one of the same folder without them: what each said, and the pages."""
    folder, tests = tmp_path_factory.mktemp("site"), str(Path(__file__).parent)
    (folder / "conf.py").write_text(CONF.format(tests=tests))
    (folder / "index.md").write_text(INDEX)
    for name, (code, text) in PAGES.items():
        (folder / f"{name}.md").write_text(PAGE.format(title=name, code=code, prose=text, tests=tests))

    def build() -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-j", "2", "-D", "html_theme=basic", "-b",
             "html", ".", "../built"], cwd=folder, capture_output=True, text=True, check=False)

    wrong = build()
    pages = {path.stem: path.read_text() for path in (folder.parent / "built").glob("*.html")}
    (folder / "wrong.md").unlink()
    right = build()
    shutil.rmtree(folder.parent / "built")
    return wrong, right, pages


def test_a_false_claim_stops_the_strict_build_and_is_named(site):
    wrong, _, _ = site
    assert wrong.returncode != 0
    (line,) = [line for line in wrong.stderr.splitlines() if "claim 'false'" in line]
    assert "Not shown by the runs" in line and "page wrong" in line
    assert "Sentence: “A constant rate gains −5.0 points, says nobody.”" in line
    assert "95 % interval −5.44 to −4.56 points" in line and "n = 5" in line and "corrected for 3" in line


def test_too_few_seeds_unknown_names_and_unused_claims_stop_it_too(site):
    wrong, _, _ = site
    assert "Too few seeds: claim 'few' of page wrong" in wrong.stderr
    assert "value 'nowhere' is not known on page wrong" in wrong.stderr
    assert "claim 'unused' is used in no sentence" in wrong.stderr


def test_without_them_it_builds_and_other_parameters_mark_a_claim(site):
    _, right, pages = site
    assert (right.returncode, right.stderr.replace("\n", "")) == (0, ""), right.stderr
    assert "gains <span class=\"claim\">−5.0 points<span class=\"claim-not-shown\"> (not shown by these runs)" in pages[
        "good"]


def test_the_prose_has_words_and_figures_of_its_own_and_of_other_pages(site):
    text = {name: html.unescape(re.sub(r"<button.*?</button>|<[^>]+>", "", page)) for name, page in site[2].items()}
    assert "Decay is worth 5.0 points, from 76.0 %. It is by far, or +5.00 ± 0.44 points." in text["good"]
    assert "The book says 5.0 points and 76.0 %." in text["index"]
    assert "0.3" in text["good"] and "84.0 %" in text["good"]
    assert "✓" not in text["good"], "the line below a cell is for a chapter that is run alone"


def test_the_evidence_opens_from_the_keyboard_and_without_a_script(site):
    """A button names its popover, which the browser opens; a screen reader has the claim in the button's name."""
    page = site[2]["good"]
    buttons = re.findall(r'<button type="button" class="claim-mark" popovertarget="([^"]+)" aria-label="([^"]+)"', page)
    assert len(buttons) == 5 and len({target for target, _ in buttons}) == 3
    assert buttons[0][1] == "Evidence 1: “cosine” is higher than “constant” in validation accuracy"
    for target, _ in buttons:
        (note,) = re.findall(rf'<div popover [^>]*id="{target}" role="dialog" aria-labelledby="([^"]+)"', page)
        assert f'id="{note}"' in page
        assert f'popovertarget="{target}" popovertargetaction="hide"' in page
    notes = page.partition('<section class="claim-notes"')[2].partition("</section>")[0]
    for part in ("Difference", "95 % interval", "n = 5", "corrected for all 4", "Hedges", "Welch", "10 run files",
                 "cosine-s0.json"):
        assert part in notes
    assert "<script" not in notes


def test_on_paper_the_evidence_is_notes():
    style = (ROOT / "book" / "_static" / "book.css").read_text()
    on_paper = style.partition("--- Claims")[2].partition("@media print")[2].partition("end of claims")[0]
    assert re.search(r"\.claim-note\[popover\] \{ display: block; position: static", on_paper)


# --- what is in files is text ---------------------------------------------------------------------------------------

HOSTILE = "<script>document.title=7</script>"


# As much of Sphinx as a note needs.
APP = SimpleNamespace(env=SimpleNamespace(found_docs=(), titles={}), builder=None)


def test_texts_of_files_cannot_put_markup_into_a_note():
    record = book_study(changed={HOSTILE: HOSTILE}).claim("name", "cosine", ">", "constant").as_dict()
    record |= {"study": HOSTILE, "says": HOSTILE, "pooled": [HOSTILE], "more": {HOSTILE: 1}, "runs": [HOSTILE],
               "unit": HOSTILE,
               "levels": [level | {"name": HOSTILE} for level in record["levels"]],
               "fields": dict.fromkeys(record["fields"], HOSTILE), "rule": HOSTILE, "test": HOSTILE}
    note = _note(APP, "page", "page", 1, record)
    assert "<script" not in note and "&lt;script&gt;" in note


def test_texts_of_files_cannot_put_markup_into_an_evidence_page(monkeypatch):
    from markdown_it import MarkdownIt

    study = plan(title=HOSTILE + "*x* [y](http://z)", question=HOSTILE, factor=HOSTILE)
    found = runs(study)
    fact = {"device": "cpu", "cpu": {"model": HOSTILE, "instructions": [HOSTILE]}, "versions": {"torch": HOSTILE},
            "date": HOSTILE, "git_commit": HOSTILE, "training_seconds": 60.0}
    found.provenance.update(dict.fromkeys(found.configs, fact))
    monkeypatch.setattr(evidence, "load", lambda name: study)
    monkeypatch.setattr(evidence, "runs_of", lambda name: found)
    monkeypatch.setattr(evidence, "family_of", evidence.family_of.__wrapped__)
    for part in evidence.TABLES.values():
        assert "<script" not in part("made-up")
    assert "&lt;script&gt;" in evidence.machines("made-up")
    page = MarkdownIt().render(evidence.page("made-up").partition("\n## ")[0])
    assert "<script" not in page and "<a" not in page and "<em>" not in page
    assert "*x* [y](http://z)" in html.unescape(page)


def test_a_table_cell_is_no_formula():
    assert evidence._cell("=1+1") == "'=1+1" and evidence._cell("cosine") == "cosine" and evidence._cell(-1.5) == -1.5


# --- the prose ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "found"), [
    ("Decay is worth 5.0 points.", 1),
    ("It reaches 94.1 %. So it does.", 1),
    ("It gains 3 points.", 1),
    ("The loss falls by 0.12 nats.", 1),
    ("Decay is worth {claim}`any_decay` at {value}`rate`.", 0),
    ("`5.0 points` is code, $5.0\\%$ mathematics.", 0),
    ("```python\nx = '5.0 %'\n```", 0),
    ("{cite:t}`page2018` reports 94.1 %.", 0),
    ("{cite:t}`page2018` reports it. We reach 94.1 %.", 1),
    ("<!-- typed: the original's report --> It ended at 88.19 %.", 0),
    ("It ended at 88.19 %.\n\n<!-- typed: the original's report -->", 1),
    ("Half of the maps, 50 %, are dropped at a rate of 0.003.", 0),
    ("```{figure} x.svg\nIt gains 5.0 points.\n```", 1),
])
def test_typed_results_are_found(text, found):
    assert len(prose.typed_results(text)) == found


def test_no_page_of_the_book_has_a_typed_result():
    found = [f"{page}: {sentence}" for page, text in prose.pages(ROOT) for sentence in prose.typed_results(text)]
    assert not found, ("use {claim} or {value}, or say whose figure it is by <!-- typed: … -->:\n" + "\n".join(found))


def test_claims_are_frozen_and_planned_ones_compare_by_what_they_say():
    one, other = (PlannedClaim.model_validate(row) for row in (
        ["a", "b", {"within": 1}], ["b", "a", {"within": 1.0}]))
    assert one.key == other.key
    assert PlannedClaim(levels=("a", "b"), by=1).key != PlannedClaim(levels=("b", "a"), by=1).key


# --- evidence pages -------------------------------------------------------------------------------------------------


def test_the_evidence_of_a_test_accuracy_is_that_of_its_predictions():
    from labbook.runs.predictions import predictions_path, read

    text = evidence.tests("recipe-all")
    ((level, views), runs), *_ = evidence.tested("recipe-all").items()
    mean = sum(read(run, views).accuracy for run in runs) / len(runs)
    assert f"<td>{level}</td><td>{views}</td><td>{len(runs)}</td><td>{100 * mean:.2f}</td>" in text
    assert all(predictions_path(run, views).name in text for run in runs)


def test_every_study_has_a_page_whose_parts_are_made_from_its_runs():
    for name in evidence.study.names():
        page = evidence.page(name)
        assert page.startswith("# ") and page.count("```{evidence} " + name) == len(evidence.PARTS) - (
            not evidence.with_further_seeds(name)) - (not evidence.tested(name))
    parts = {part: make("recipe" if part == "tests" else "decay") for part, make in evidence.TABLES.items()}
    assert all("<table>" in part for part in parts.values())
    assert "15,\u00a015" in evidence.further("depth") and evidence.FURTHER in evidence.comparisons("depth")
    assert "decay-wide" in parts["repetitions"] and "resnet9-w16-e5-constant-s0-0f8675f1.json" in parts["files"]


def test_the_file_of_all_runs_has_each_once():
    rows = list(csv.DictReader(io.StringIO(evidence.all_runs())))
    ids = [row["id"] for row in rows]
    assert len(ids) == len(set(ids)) > 700
    shared = next(row for row in rows if row["study"].count(";") > 1)
    assert shared["study"].count(";") == shared["level"].count(";") and float(shared["val_accuracy"]) < 1
    assert {"machine", "date", "learning_rate", "epochs", "seed"} <= set(rows[0])


def test_pages_are_generated_once_and_old_ones_go(tmp_path):
    app = SimpleNamespace(srcdir=str(tmp_path))
    generate(app, None)
    assert not list(tmp_path.iterdir()), "a site without the appendix has none"
    folder = tmp_path / "book" / "evidence"
    folder.mkdir(parents=True)
    (tmp_path / "book" / "evidence.md").touch()
    (folder / "gone.md").touch()
    generate(app, None)
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {f"{name}.md" for name in evidence.study.names()} == set(times)
    generate(app, None)
    assert times == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_curves_are_drawn_anew_only_when_runs_differ(tmp_path):
    path = tmp_path / "kernel.svg"
    assert evidence.draw_curves("kernel", path) and path.read_text().startswith("<?xml")
    before = path.stat().st_mtime_ns
    assert evidence.draw_curves("kernel", path) and path.stat().st_mtime_ns == before
