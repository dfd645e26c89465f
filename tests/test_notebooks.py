"""Notebooks: committed clean, run under the smoke preset through nbval, re-run with other parameters by papermill."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import made
import nbformat
import papermill
import pytest
from cifarlab.config import RunConfig
from labbook.page.parameters import DECLARED
from labbook.runs import store
from labbook.studies import study as studies

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if path.name != "train.ipynb"]


def environment(results: Path) -> dict[str, str]:
    return os.environ | {"LABBOOK_RESULTS": str(results)}


def run_papermill(notebook: Path, out: Path, results: Path, *parameters: str) -> subprocess.CompletedProcess:
    arguments = [item for name, value in zip(parameters[::2], parameters[1::2], strict=True)
                 for item in ("-p", name, value)]
    return subprocess.run(
        [sys.executable, "-m", "papermill", "--no-progress-bar", "--cwd", str(notebook.parent), str(notebook),
         str(out), *arguments],
        env=environment(results), capture_output=True, text=True, 
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_without_outputs_and_with_their_own_parameters(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    ids = [cell["id"] for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]  # reading mends doubles
    assert len(set(ids)) == len(ids)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    tags = [tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])]
    assert tags.count("parameters") == 1
    assert "injected-parameters" not in tags
    assert "papermill" not in notebook.metadata
    first = next(cell for cell in code if "parameters" in cell.metadata.get("tags", []))
    assert first.source.startswith(DECLARED)
    assert "check_parameters()" in "".join(cell.source for cell in code)


def test_train_has_every_field_of_a_run_with_its_default():
    parameters = papermill.inspect_notebook(str(ROOT / "notebooks" / "train.ipynb"))
    defaults = {name: ast.literal_eval(entry["default"]) for name, entry in parameters.items()}
    config = RunConfig().model_dump() | {"precision": "auto"}
    assert {name: defaults.pop(name) for name in config} == config
    assert set(defaults) == {"device", "threads"}


@pytest.fixture(scope="module")
def nbval_report(smoke_results, tmp_path_factory) -> str:
    """Run every chapter through nbval in a pytest of its own, the smoke preset and one seed injected."""
    folder = tmp_path_factory.mktemp("notebooks")
    results = folder / "results"
    shutil.copytree(smoke_results, results)
    smoke = {"preset": "smoke", "seeds": [0], "side_studies": True, "train": False}
    for path in CHAPTERS:
        known = papermill.inspect_notebook(str(path))
        notebook = papermill.parameterize.parameterize_notebook(
            papermill.iorw.load_notebook_node(str(path)), {k: v for k, v in smoke.items() if k in known})
        nbformat.write(notebook, folder / path.name)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-rA", "-p", "no:cacheprovider", str(folder)],
        env=environment(results), cwd=folder, capture_output=True, text=True, check=False,
    ).stdout


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_each_chapter_runs_through_nbval_under_the_smoke_preset(nbval_report, path):
    cells = sum(cell.cell_type == "code" for cell in nbformat.read(path, as_version=4).cells)
    lines = [line for line in nbval_report.splitlines() if f"{path.name}::" in line]
    passed = [line for line in lines if line.startswith("PASSED")]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    assert not failed, "\n".join(failed) + nbval_report.partition(" FAILURES ")[2][:6000]
    # One more cell than committed where parameters were injected.
    assert len(passed) >= cells


SEEDS = [0, 1, 2]
# A chapter, its main study, and what its store lacks: every run of the reference, or one seed of each other level.
THIN = [
    ("04-dropout", "dropout", "diverged"), ("05-normalization", "normalization", "no reference"),
    ("06-learning-rate", "decay", "diverged"), ("07-kernel-size", "kernel", "no reference"),
    ("08-depth", "depth", "diverged"),
]


def outputs(path: Path) -> str:
    """What the cells of an executed notebook put out, as text."""
    shown = []
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            kinds = output.get("data", {})
            shown += [str(output.get("text", "")), *(
                str(kinds[kind]) for kind in ("text/html", "text/markdown", "text/plain") if kind in kinds)]
    return "\n".join(shown)


@pytest.mark.parametrize(("chapter", "study", "lack"), THIN)
def test_a_chapter_is_drawn_from_a_thin_store(smoke_results, tmp_path, monkeypatch, chapter, study, lack):
    """Nothing is trained, and what cannot be said is no ``nan``."""
    results = tmp_path / "results"
    shutil.copytree(smoke_results, results)
    monkeypatch.setenv("LABBOOK_RESULTS", str(results))
    plan = studies.load(study)
    for level, config in plan.runs(seeds=SEEDS, preset="smoke"):
        made.put(config, 0.5 + 0.01 * config.seed, lack == "diverged" and config.seed == 1 and level != plan.reference)
        if lack == "no reference" and level == plan.reference:
            store.path_of(config.id).unlink()
    out = tmp_path / "out.ipynb"
    done = run_papermill(ROOT / "notebooks" / f"{chapter}.ipynb", out, results, "preset", "smoke", "seeds", str(SEEDS),
                         "train", "False")
    assert done.returncode == 0, done.stderr[-3000:]
    assert not re.findall(r".{,40}\bnan\b.{,40}", outputs(out), flags=re.I)
    assert "Drawn with other parameters" in outputs(out)


def test_damaged_predictions_are_named_where_the_test_is_told(tmp_path):
    committed, copy = ROOT / "results", tmp_path / "results"
    for folder in ("runs", "predictions"):
        shutil.copytree(committed / folder, copy / folder)
    (config,) = [config for _, config in studies.load("recipe-all").runs() if config.seed == 1][:1]
    (first,) = (copy / "predictions").glob(f"{config.id}.*")
    first.write_bytes(first.read_bytes()[:1000])
    out = tmp_path / "out.ipynb"
    done = run_papermill(ROOT / "notebooks" / "09-test.ipynb", out, copy, "train", "False")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (copy / "predictions" / f"{first.name}.damaged").exists()


@pytest.mark.parametrize(("notebook", "name", "value", "expected"), [
    ("06-learning-rate", "epoch", "2", "unknown parameter 'epoch' (did you mean 'epochs'?)"),
    ("train", "schedule", "cosin", "schedule: 'cosin' is not known"),
])
def test_a_mistyped_parameter_stops_the_notebook(results, tmp_path, notebook, name, value, expected):
    done = run_papermill(ROOT / "notebooks" / f"{notebook}.ipynb", tmp_path / "out.ipynb", results, name, value)
    assert done.returncode != 0
    assert expected in done.stderr
    assert not list(results.glob("runs/*.json"))


@pytest.mark.dataset
def test_a_chapter_re_run_on_real_cifar10_trains_what_is_missing_once(results, tmp_path):
    """Two runs, one epoch, very narrow; then again, with nothing left to train."""
    template = ROOT / "notebooks" / "study-template.ipynb"
    parameters = ("study", "warm-up", "epochs", "2", "width", "1", "seeds", "[0]")
    done = run_papermill(template, tmp_path / "out.ipynb", results, *parameters)
    assert done.returncode == 0, done.stderr[-3000:]
    runs = [store.Result.model_validate_json(path.read_text()) for path in (results / "runs").glob("*.json")]
    assert len(runs) == 2
    assert all(run.config["dataset"] == "cifar10" and run.config["train_images"] == 40_000 for run in runs)
    assert all(run.provenance.dataset_md5 for run in runs)
    # Two epochs of real images through one channel are enough to beat guessing.
    assert max(run.final.val_accuracy for run in runs) > 0.15
    assert "Drawn with other parameters" in outputs(tmp_path / "out.ipynb")
    before = {path: path.stat().st_mtime_ns for path in (results / "runs").iterdir()}
    assert run_papermill(template, tmp_path / "out.ipynb", results, *parameters).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (results / "runs").iterdir()} == before
