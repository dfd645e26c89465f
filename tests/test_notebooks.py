"""Notebooks: committed clean, run under the smoke preset through nbval, re-run with other parameters by papermill."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import papermill
import pytest
from cifarlab.config import PRESETS, RunConfig
from labbook.page.parameters import DECLARED, assigned_values
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
        env=environment(results), capture_output=True, text=True, timeout=600,
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
    """Run every notebook, the smoke preset and one seed injected, through nbval, in two pytests of their own."""
    folder = tmp_path_factory.mktemp("notebooks")
    smoke = {"preset": "smoke", "seeds": [0], "side_studies": True}
    train = studies.load("warm-up").config("constant", 0, preset="smoke").model_dump()
    halves = [folder / "one", folder / "two"]
    for half in halves:
        half.mkdir()
    for number, path in enumerate(NOTEBOOKS):
        known = papermill.inspect_notebook(str(path))
        wanted = train if path.name == "train.ipynb" else smoke
        notebook = papermill.parameterize.parameterize_notebook(
            papermill.iorw.load_notebook_node(str(path)), {k: v for k, v in wanted.items() if k in known}
        )
        nbformat.write(notebook, halves[number % 2] / path.name)

    def report(half):
        return subprocess.run(
            [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-rA", "-p", "no:cacheprovider", str(half)],
            env=environment(smoke_results), cwd=half, capture_output=True, text=True, timeout=900,
        ).stdout

    with ThreadPoolExecutor(len(halves)) as pool:
        return "\n".join(pool.map(report, halves))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_notebook_runs_through_nbval_under_the_smoke_preset(nbval_report, path):
    cells = sum(cell.cell_type == "code" for cell in nbformat.read(path, as_version=4).cells)
    lines = [line for line in nbval_report.splitlines() if f"{path.name}::" in line]
    passed = [line for line in lines if line.startswith("PASSED")]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    assert not failed, "\n".join(failed) + nbval_report.partition(" FAILURES ")[2][:6000]
    # One more cell than committed where parameters were injected.
    assert len(passed) >= cells


# Chapters of studies: each can do without runs of its main study's reference, and with runs that diverged.
THIN = [
    "03-residual-networks", "04-baseline", "05-warm-up", "07-dropout", "08-normalization", "09-decay", "10-kernel-size",
    "11-depth",
]
SEEDS = [0, 1, 2]


def copy_seeds(runs: Path) -> None:
    """Give every run two more seeds, their accuracies a little apart: constructed results, none of them trained."""
    for path in sorted(runs.glob("*.json")):
        result = json.loads(path.read_text())
        for seed in SEEDS[1:]:
            result["config"]["seed"] = seed
            result["id"] = RunConfig.of(**result["config"]).id
            for row in (*result["history"], result["final"]):
                for name in ("val_accuracy", "val_loss", "train_loss", "fit_loss", "fit_accuracy"):
                    if row.get(name) is not None:
                        row[name] *= 1 - 0.01 * seed
            (runs / f"{result['id']}.json").write_text(json.dumps(result))


def main_study(name: str) -> str:
    (parameters,) = [cell for cell in nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
                     if "parameters" in cell.metadata.get("tags", [])]
    own = {"03-residual-networks": "degradation", "04-baseline": "baseline"}
    return assigned_values(parameters.source).get("study") or own[name]


@pytest.fixture(scope="module")
def thin_stores(smoke_results, tmp_path_factory) -> dict[str, Path]:
    """Three seeds each; ``no reference``: those levels have no run; ``diverged``: one seed of each other level is lost.
    """
    stores = {}
    for kind in ("no reference", "diverged"):
        folder = tmp_path_factory.mktemp("thin")
        shutil.copytree(smoke_results / "runs", folder / "runs")
        copy_seeds(folder / "runs")
        for name in THIN:
            study = studies.load(main_study(name))
            for level, config in study.runs(seeds=SEEDS, preset="smoke"):
                path = folder / "runs" / f"{config.id}.json"
                if kind == "no reference" and level == study.reference:
                    path.unlink(missing_ok=True)
                elif kind == "diverged" and config.seed == 1 and level != study.reference and path.exists():
                    result = json.loads(path.read_text())
                    result["final"]["diverged"] = True
                    path.write_text(json.dumps(result))
        stores[kind] = folder
    return stores


def outputs(path: Path) -> str:
    """What the cells of an executed notebook put out, as text."""
    shown = []
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            kinds = output.get("data", {})
            shown += [str(output.get("text", "")), *(
                str(kinds[kind]) for kind in ("text/html", "text/markdown", "text/plain") if kind in kinds)]
    return "\n".join(shown)


@pytest.mark.parametrize("name", THIN)
def test_a_chapter_is_drawn_from_thin_stores(thin_stores, tmp_path, name):
    """Several seeds; no reference, or diverged runs. Nothing is trained, and no page says ``nan``."""
    def drawn(kind):
        out = tmp_path / f"{kind}.ipynb"
        done = run_papermill(ROOT / "notebooks" / f"{name}.ipynb", out, thin_stores[kind], "preset", "smoke",
                             "seeds", str(SEEDS), "train", "False")
        assert done.returncode == 0, done.stderr[-3000:]
        return outputs(out)

    with ThreadPoolExecutor() as pool:
        shown = dict(zip(thin_stores, pool.map(drawn, thin_stores), strict=True))
    for text in shown.values():
        assert not re.findall(r".{,40}\bnan\b.{,40}", text, flags=re.I)
    # Beside the warning at the top: each level's row says how many of its runs were lost.
    if name != "05-warm-up":  # its table is by epoch
        assert "2, 1 diverged" in shown["diverged"]


def test_the_closing_chapter_picks_no_end_of_which_a_run_diverged(thin_stores, tmp_path):
    out = tmp_path / "out.ipynb"
    done = run_papermill(ROOT / "notebooks" / "12-closing.ipynb", out, thin_stores["diverged"], "preset", "smoke",
                         "seeds", str(SEEDS), "train", "False", "names", "[dropout, kernel]")
    assert done.returncode == 0, done.stderr[-3000:]
    shown = outputs(out)
    assert "Not at an end, since a run diverged: classifier 0.1 (dropout)" in shown
    assert "5 × 5 (kernel size)" in shown
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", shown)
    assert {"none", "3 × 3"} <= set(cells)
    assert not {"classifier 0.1", "5 × 5"} & set(cells)


def test_damaged_predictions_are_named_at_the_top_of_the_test_chapter(tmp_path):
    """The rest is drawn without them, and says of which network a picture is."""
    committed, copy = ROOT / "results", tmp_path / "results"
    for folder, suffix in (("runs", "json"), ("predictions", "npz")):
        (copy / folder).mkdir(parents=True)
        for _, config in studies.load("warm-up").runs():
            if (path := committed / folder / f"{config.id}.{suffix}").exists():
                shutil.copy(path, copy / folder)
    first = min((copy / "predictions").iterdir(), key=lambda path: path.name)
    first.write_bytes(first.read_bytes()[:1000])
    out = tmp_path / "out.ipynb"
    done = run_papermill(ROOT / "notebooks" / "06-test.ipynb", out, copy, "train", "False")
    assert done.returncode == 0, done.stderr[-3000:]
    top, _, rest = outputs(out).partition("val. accuracy (%)")
    assert f"set aside: `{first.name}.damaged`" in top
    assert "the network of seed 1" in rest
    assert "whose weights are committed" not in rest


def test_two_epochs_are_too_few_to_oscillate_and_no_page_says_nan(smoke_results, tmp_path):
    """The README's example has two epochs, in which no curve can turn."""
    for name in ("05-warm-up", "09-decay"):
        out = tmp_path / f"{name}.ipynb"
        done = run_papermill(ROOT / "notebooks" / f"{name}.ipynb", out, smoke_results, "preset", "smoke",
                             "seeds", "[0]", "train", "False")
        assert done.returncode == 0, done.stderr[-3000:]
        text = out.read_text()
        assert ("Curves this short have too few places to turn" in text) == (name == "05-warm-up")
        assert "oscillation of val. loss" not in text
        assert not re.search(r"\bnan\b", text)


@pytest.mark.parametrize(("notebook", "name", "value", "expected"), [
    ("08-normalization", "learning_rate", "0.1", "unknown parameter 'learning_rate'"),
    ("05-warm-up", "epoch", "2", "unknown parameter 'epoch' (did you mean 'epochs'?)"),
    ("05-warm-up", "epochs", "-3", "epochs: -3 is refused"),
    ("05-warm-up", "epochs", "two", "epochs: 'two' is refused"),
    ("05-warm-up", "study", "warmup", "study: 'warmup' is not known (did you mean 'warm-up'?)"),
    ("05-warm-up", "study", "decay", "study: 'decay' has other levels than the original's two schedules"),
    ("train", "schedule", "cosin", "schedule: 'cosin' is not known"),
    ("train", "device", "gpu", "device: 'gpu' is not known"),
    ("train", "threads", "two", "threads: 'two' is refused"),
])
def test_a_mistyped_parameter_stops_the_notebook(results, tmp_path, notebook, name, value, expected):
    done = run_papermill(ROOT / "notebooks" / f"{notebook}.ipynb", tmp_path / "out.ipynb", results, name, value)
    assert done.returncode != 0
    assert expected in done.stderr
    assert not list(results.glob("runs/*.json"))


def test_studies_that_share_no_reference_cannot_be_laid_side_by_side(smoke_results, tmp_path):
    done = run_papermill(ROOT / "notebooks" / "12-closing.ipynb", tmp_path / "out.ipynb", smoke_results,
                         "names", "[dropout, baseline]", "preset", "smoke", "seeds", "[0]", "train", "False")
    assert done.returncode != 0
    assert "names: study 'baseline' has no finished run like the reference of 'dropout'" in done.stderr


def test_a_run_without_held_out_images_is_trained_and_shown(results, tmp_path):
    smoke = PRESETS["smoke"] | {"val_images": 0, "epochs": 1}
    parameters = [str(item) for pair in smoke.items() for item in pair]
    done = run_papermill(ROOT / "notebooks" / "train.ipynb", tmp_path / "out.ipynb", results, *parameters)
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = store_of(results).values()
    assert run.final.val_accuracy is None
    assert run.final.train_loss > 0


@pytest.mark.dataset
def test_a_chapter_re_run_on_real_cifar10_trains_what_is_missing_once(results, tmp_path):
    """The README's command, one epoch narrow; then again, with nothing left to train."""
    chapter_path = ROOT / "notebooks" / "05-warm-up.ipynb"
    parameters = ("epochs", "1", "width", "4", "seeds", "[0]")
    done = run_papermill(chapter_path, tmp_path / "out.ipynb", results, *parameters)
    assert done.returncode == 0, done.stderr[-3000:]
    runs = store_of(results)
    assert len(runs) == 2
    assert all(run.config["dataset"] == "cifar10" and run.config["train_images"] == 40_000 for run in runs.values())
    assert all(run.provenance["dataset_md5"] for run in runs.values())
    # One epoch of real images through four channels is enough to beat guessing.
    assert max(run.final.val_accuracy for run in runs.values()) > 0.2
    text = (tmp_path / "out.ipynb").read_text()
    assert "other parameters than the study's own" in text
    before = {path: path.stat().st_mtime_ns for path in (results / "runs").iterdir()}
    assert run_papermill(chapter_path, tmp_path / "out.ipynb", results, *parameters).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (results / "runs").iterdir()} == before


def store_of(results: Path) -> dict[str, store.Result]:
    paths = (results / "runs").glob("*.json")
    return {path.stem: store.Result.model_validate_json(path.read_text()) for path in paths}
