"""What stands at a chapter's top: the source of the numbers, warnings."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
from cifarlab.config import RunConfig
from labbook.page import chapter
from labbook.runs import store
from labbook.studies.results import ensure


@pytest.fixture
def found(smoke_results, monkeypatch):
    monkeypatch.setenv("LABBOOK_RESULTS", str(smoke_results))
    return ensure("warm-up", preset="smoke", seeds=[0])


def test_the_note_says_parameters_runs_versions_and_what_differs(found):
    text = chapter.provenance_text(found)
    assert "Study `warm-up`: 2 runs (2 levels; seed 0)" in text
    assert "other parameters than the study's own: `preset = 'smoke'`, `seeds = [0]`" in text
    assert "torch 2." in text


def test_the_note_warns_of_older_code_of_missing_runs_and_of_damaged_files(found, smoke_results, monkeypatch, tmp_path):
    next(iter(found.provenance.values()))["code_digest"] = "another"
    monkeypatch.setenv("LABBOOK_RESULTS", str(shutil.copytree(smoke_results, tmp_path / "results")))
    (store.runs_folder() / "x.json.damaged").touch()
    text = chapter.provenance_text(found)
    assert "went on, after an interruption" not in text
    last = list(found.provenance.values())[-1]
    last["sittings"] = [{"after_epochs": 0, "code_digest": last["code_digest"]}, {
        "after_epochs": 1, "code_digest": last["code_digest"], "device": "cpu", "cpu": {"instructions": ["sse"]}}]
    text = chapter.provenance_text(found)
    assert "1 run went on, after an interruption, on another kind of processor" in text
    assert "another version" not in text
    last["sittings"][0]["versions"] = last["versions"] | {"torch": "2.0"}
    assert "1 run went on, after an interruption, with another version of Python or" in chapter.provenance_text(found)
    assert "1 of these runs was made by other code" in text
    assert "set aside: `x.json.damaged`" in text
    fewer = ensure("warm-up", preset="smoke", seeds=[0, 1], train=False)
    assert "2 of the 4 runs" in chapter.provenance_text(fewer)


def test_the_note_of_several_studies_names_each(found):
    other = ensure("dropout", preset="smoke", seeds=[0])
    text = chapter.provenance_text(found, other)
    assert text.count(":::{dropdown}") == text.count(":::{warning}") == 1
    assert "Study `warm-up`: 2 runs" in text and "Study `dropout`: " in text
    assert "- `warm-up`: Drawn with other parameters" in text and "- `dropout`: Drawn with" in text


def test_in_a_notebook_that_runs_by_itself_sentences_and_figures_are_shown(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    monkeypatch.setattr("myst_nb.glue", lambda *_, **__: None)

    class Drawn:
        def _repr_svg_(self):
            return "<svg/>"

    def show_all():
        shown.clear()
        chapter.say("verdict", "It is higher.")
        chapter.say("claim_final", "Supported")
        chapter.say("list", "In short.\n\n:::{dropdown} Each\n- a\n:::")
        chapter.say("empty", "")
        chapter.keep("number", 3)
        chapter.keep("figure", Drawn())
        return [value.data if hasattr(value, "data") else type(value) for value in shown]

    monkeypatch.delenv(chapter.IN_BOOK, raising=False)
    assert show_all() == ["It is higher.", "claim final: Supported", "In short.\n\n**Each**\n\n- a\n", Drawn]
    # The website's prose has a place for them.
    monkeypatch.setenv(chapter.IN_BOOK, "1")
    assert show_all() == []


def test_a_machine_is_named_by_its_gpu_or_its_processor():
    cpu = {"model": "Some CPU", "instructions": ["avx2", "amx_bf16"]}
    assert chapter.processor({"device": "cpu", "cpu": cpu}) == "Some CPU (avx2, amx_bf16)"
    assert chapter.processor({"device": "Some GPU", "cpu": cpu}) == "Some GPU"


def test_the_note_says_where_compared_runs_are_of_different_processors(found):
    assert "kind of processor" not in chapter.provenance_text(found)
    other, fact = found.provenance.popitem()
    found.provenance[other] = fact | {"cpu": fact["cpu"] | {"instructions": ["another"]}, "device": "cpu"}
    said = chapter.provenance_text(found)
    assert "Seed 0: the levels were not all trained on one kind of processor. In " in said
    assert "warning" not in said.partition("dropdown")[2].partition(":::")[0]


def test_a_plain_study_has_no_warning(found, monkeypatch):
    import dataclasses

    assert "warning" not in chapter.provenance_text(dataclasses.replace(found, changed={}))


def test_how_many_seeds_levels_have_is_a_number_or_a_range():
    def of(*counts):
        return SimpleNamespace(seed_counts=list(counts))

    assert chapter.seeds(of(5, 5)) == "n = 5"
    assert chapter.seeds(of(5, 3), of(1)) == "n = 1 to 5"
    assert chapter.seeds(of()) == "no run yet"


def test_a_network_is_said_as_it_is_built():
    assert chapter.network(RunConfig()) == "9 layers, batch normalization, 3 × 3 kernels, no dropout"
    other = RunConfig(depth=13, shortcut=False, norm="none", kernel_size=5, dropout=0.2, dropout_at="blocks")
    assert chapter.network(other) == (
        "13 layers without shortcuts, no normalization, 5 × 5 kernels, dropout 0.2 (blocks)")
