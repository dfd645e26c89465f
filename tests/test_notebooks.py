"""Notebooks: committed clean, run under the smoke preset by papermill, drawn from thin stores; what is mistyped."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from cifarlab.config import PRESETS, RunConfig
from labbook import strict_yaml
from labbook.machine import cores
from labbook.page.parameters import DECLARED, assigned_values, check
from labbook.runs import store
from labbook.studies import study as studies

from tests import made

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if path.name != "train.ipynb"]
# Those that tell what one study found.
OF_A_STUDY = [path for path in CHAPTERS if path.name[:2] in ("04", "05", "06", "07", "08")]
SEEDS = [0, 1, 2]


def code_of(path: Path) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def parameters_of(path: Path) -> str:
    """The source of a notebook's cell of parameters."""
    (found,) = [cell.source for cell in code_of(path) if "parameters" in cell.metadata.get("tags", [])]
    return found


# --- as they are committed --------------------------------------------------------------------------------------------


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
    assert "parameters" in code[0].metadata.get("tags", [])
    assert code[0].source.startswith(DECLARED)
    assert "check_parameters()" in code[1].source
    # A cell that begins with an unknown magic passes for one that ran.
    assert not any(line.lstrip().startswith(("%", "!")) for cell in code for line in cell.source.splitlines())


def test_train_has_every_field_of_a_run_with_its_default():
    defaults = assigned_values(parameters_of(ROOT / "notebooks" / "train.ipynb"))
    config = RunConfig().model_dump() | {"precision": "auto"}
    assert {name: defaults.pop(name) for name in config} == config
    assert set(defaults) == {"device", "threads"}


# Every papermill command of the book and of the README.
PAGES = [*NOTEBOOKS, *sorted((ROOT / "book").glob("*.md")), ROOT / "README.md"]


def prose_of(path: Path) -> str:
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")


COMMANDS = [
    (path, shlex.split(command))
    for path in PAGES
    for command in re.findall(r"papermill notebooks/\S+\.ipynb(?:[^\n`&]*\\\n)*[^\n`&]*", prose_of(path))
    if " -p " in command
]


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=lambda value: getattr(value, "stem", None))
def test_every_command_of_the_book_names_a_notebook_and_parameters_that_it_takes(page, command):
    _, notebook, out, *rest = [word for word in command if word.strip()]
    assert (ROOT / notebook).is_file()
    assert out.endswith(".ipynb")
    assert rest[::3] == ["-p"] * (len(rest) // 3), rest
    given = given_by(command)
    declared = parameters_of(ROOT / notebook)
    injected = "\n".join(f"{name} = {value!r}" for name, value in given.items())
    assert check(declared, injected, assigned_values(declared) | given) == given
    if notebook.endswith("train.ipynb"):
        RunConfig.of(**{name: value for name, value in given.items() if name in RunConfig.model_fields})
        return
    # The runs that it asks for can be made: of every study that the notebook opens and that takes them.
    fields = {name: value for name, value in given.items() if name in RunConfig.model_fields}
    for name in opened_by(ROOT / notebook, given):
        assert studies.load(name).runs(given.get("levels"), given.get("seeds"), **fields)


def test_there_are_commands_to_check():
    assert len({page.stem for page, _ in COMMANDS if page in CHAPTERS}) >= 10


# --- executed ---------------------------------------------------------------------------------------------------------


def execute(notebook: str, out: str, results: str, parameters: dict[str, Any]) -> str:
    """Run a notebook by papermill, in a kernel; returns what it failed with, empty where it did not."""
    from labbook.runs.kernels import talk_through_files

    talk_through_files()
    os.environ["LABBOOK_RESULTS"] = results
    try:
        papermill.execute_notebook(
            notebook, out, parameters=parameters, cwd=str(Path(notebook).parent), progress_bar=False,
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"], shutdown_kernel="immediate")
    except papermill.PapermillExecutionError as error:
        return f"{error.ename}: {error.evalue}"
    return ""


def smoke_of(path: Path, **more: Any) -> dict[str, Any]:
    """The smoke preset, as far as the notebook has such parameters, with nothing to be trained."""
    known = assigned_values(parameters_of(path))
    wanted = {"preset": "smoke", "seeds": SEEDS, "side_studies": True, "train": False} | more
    return {name: value for name, value in wanted.items() if name in known}


@pytest.fixture(scope="module")
def thin_results(smoke_results, tmp_path_factory) -> Path:
    """The smoke runs without those of any study's reference, and with one seed of every other level diverged."""
    folder = tmp_path_factory.mktemp("thin")
    shutil.copytree(smoke_results / "runs", folder / "runs")
    for name in studies.names():
        study = studies.load(name)
        for level in study.levels:
            for seed in SEEDS:
                path = folder / "runs" / f"{study.config(level, seed, preset='smoke').id}.json"
                if level == study.reference:
                    path.unlink(missing_ok=True)
                elif seed == 1 and path.exists():
                    result = json.loads(path.read_text())
                    result["final"]["diverged"] = True
                    path.write_text(json.dumps(result))
    return folder


def given_by(command: list[str]) -> dict[str, Any]:
    """The parameters of a papermill command."""
    _, _, _, *rest = [word for word in command if word.strip()]
    return {name: strict_yaml.parse(value) for name, value in zip(rest[1::3], rest[2::3], strict=True)}


def opened_by(path: Path, given: dict[str, Any]) -> list[str]:
    """The studies whose runs a chapter trains."""
    source = "\n".join(cell.source for cell in code_of(path))
    return [*re.findall(r'book\.study\(\s*"([\w-]+)"', source), *(
        value for name, value in (assigned_values(parameters_of(path)) | given).items() if name == "study")]


# What each chapter's exercise asks the reader to predict and then to run, by a name that tells two of them apart.
EXERCISES = {f"{page.stem}-{number}": (page, given_by(command)) for number, (page, command) in enumerate(COMMANDS)
             if page in CHAPTERS and page.name in command[1]}


@pytest.fixture(scope="module")
def exercise_results(tmp_path_factory) -> Path:
    """The committed results, and the runs that the exercises train, under the smoke preset."""
    from labbook.runs import runner

    folder = tmp_path_factory.mktemp("exercises") / "results"
    shutil.copytree(ROOT / "results", folder, ignore=shutil.ignore_patterns(".scratch", "models"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABBOOK_RESULTS", str(folder))
        for path, given in EXERCISES.values():
            fields = {name: value for name, value in given.items() if name in RunConfig.model_fields}
            for name in opened_by(path, given):
                for _, config in studies.load(name).runs(given.get("levels"), given.get("seeds"), "smoke", **fields):
                    if not store.path_of(config.id).exists():
                        runner.run(config)
    return folder


@pytest.fixture(scope="module")
def damaged_results(tmp_path_factory) -> Path:
    """What the chapter of the test reads, with one file of predictions cut short."""
    committed, copy = ROOT / "results", tmp_path_factory.mktemp("damaged") / "results"
    shutil.copytree(committed / "runs", copy / "runs")
    shutil.copytree(committed / "predictions", copy / "predictions")
    first = min((copy / "predictions").glob(f"{studies.load('recipe').config('studies alone', 0).id}.npz"))
    first.write_bytes(first.read_bytes()[:1000])
    return copy


MISTYPED = {
    "a parameter": ("04-dropout", {"epoch": 2}, "unknown parameter 'epoch' (did you mean 'epochs'?)"),
    "a value": ("06-learning-rate", {"epochs": -3}, "epochs: -3 is refused"),
}


@pytest.fixture(scope="module")
def executed(smoke_results, thin_results, damaged_results, exercise_results, tmp_path_factory):
    """Every notebook, executed once for all tests that read what it put out; and what it failed with."""
    folder = tmp_path_factory.mktemp("executed")
    held_out = PRESETS["smoke"] | {"val_images": 0, "epochs": 1}
    jobs = {("smoke", path.stem): (path, smoke_results, smoke_of(path)) for path in CHAPTERS}
    jobs |= {("thin", path.stem): (path, thin_results, smoke_of(path)) for path in OF_A_STUDY}
    jobs |= {("exercise", name): (path, exercise_results, smoke_of(path, side_studies=False) | given)
             for name, (path, given) in EXERCISES.items()}
    jobs["train", "train"] = ROOT / "notebooks" / "train.ipynb", folder / "trained", held_out
    jobs["damaged", "09-test"] = ROOT / "notebooks" / "09-test.ipynb", damaged_results, {}
    jobs |= {("mistyped", kind): (ROOT / "notebooks" / f"{name}.ipynb", folder / "untouched", given)
             for kind, (name, given, _) in MISTYPED.items()}
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(cores(), 4), mp_context=spawned) as pool:
        out = {key: folder / f"{'-'.join(key)}.ipynb" for key in jobs}
        failed = {key: pool.submit(execute, str(path), str(out[key]), str(results), given)
                  for key, (path, results, given) in jobs.items()}
        return {key: (out[key], failed[key].result()) for key in jobs}, folder


def shown_by(path: Path) -> str:
    """What the cells of an executed notebook put out, as text."""
    shown = []
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            kinds = output.get("data", {})
            shown += [str(output.get("text", "")), *(
                str(kinds[kind]) for kind in kinds if kind.endswith(("text/html", "text/markdown", "text/plain")))]
    return "\n".join(shown)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_runs_under_the_smoke_preset(executed, path):
    out, failed = executed[0]["smoke", path.stem]
    assert not failed
    shown = shown_by(out)
    assert not re.findall(r".{,40}\bnan\b.{,40}", shown, flags=re.I)
    if smoke_of(path).keys() & {"preset"}:
        assert "preset = 'smoke'" in shown   # it says what it was drawn with


@pytest.mark.parametrize("path", OF_A_STUDY, ids=lambda path: path.stem)
def test_a_studys_chapter_is_drawn_without_its_references_and_with_runs_that_diverged(executed, path):
    out, failed = executed[0]["thin", path.stem]
    assert not failed
    assert not re.findall(r".{,40}\bnan\b.{,40}", shown_by(out), flags=re.I)


def solution_of(path: Path) -> str:
    """What a chapter's solutions say of the run that an exercise asks for."""
    return "\n".join(re.findall(r"```\{solution\}.*?```", prose_of(path), flags=re.S))


@pytest.mark.parametrize("name", EXERCISES)
def test_an_exercise_runs_and_shows_the_lines_that_its_solution_names(executed, name):
    out, failed = executed[0]["exercise", name]
    assert not failed
    path = EXERCISES[name][0]
    shown = shown_by(out)
    named = re.findall(r"[Ll]ines? \*(\w+)\*(?: and \*(\w+)\*)?", solution_of(path))
    for line in filter(None, (one for pair in named for one in pair)):
        assert re.search(rf"\b{line}: ", shown), f"{path.stem}: no line {line}"
    # It shows the runs that it was asked for, of one seed or two: not all is sure.
    assert re.search("too few seeds|not shown by these runs", shown) or path.name[:2] in ("01", "10")


def test_every_chapter_of_a_study_has_an_exercise_to_predict_and_run():
    assert {path for path, _ in EXERCISES.values()} >= {*OF_A_STUDY, *(
        path for path in CHAPTERS if path.name[:2] in ("01", "02", "03", "09", "10", "12", "13"))}


def test_a_run_without_held_out_images_is_trained_and_shown(executed):
    notebooks, folder = executed
    assert not notebooks["train", "train"][1]
    (run,) = store.read_all(folder / "trained" / "runs")
    assert run.final.val_accuracy is None
    assert run.final.train_loss > 0
    assert run.id in shown_by(notebooks["train", "train"][0])


def test_damaged_predictions_are_named_on_the_page_of_the_test(executed, damaged_results):
    """The rest is drawn without them."""
    out, failed = executed[0]["damaged", "09-test"]
    assert not failed
    (aside,) = (damaged_results / "predictions").glob("*.damaged")
    assert aside.name in shown_by(out)


@pytest.mark.parametrize("kind", MISTYPED)
def test_what_is_mistyped_stops_the_notebook_and_nothing_is_trained(executed, kind):
    notebooks, folder = executed
    assert MISTYPED[kind][2] in notebooks["mistyped", kind][1]
    assert not (folder / "untouched" / "runs").exists()


def test_nbval_runs_the_template(smoke_results, tmp_path):
    """For whoever checks notebooks by it; every notebook's cells were run by papermill above."""
    path = ROOT / "notebooks" / "study-template.ipynb"
    notebook = papermill.parameterize.parameterize_notebook(
        papermill.iorw.load_notebook_node(str(path)), smoke_of(path))
    nbformat.write(notebook, tmp_path / path.name)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", str(tmp_path)], cwd=tmp_path,
        env=os.environ | {"LABBOOK_RESULTS": str(smoke_results)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.dataset
def test_a_chapter_re_run_on_real_cifar10_trains_what_is_missing_once(results, tmp_path):
    """One epoch, narrow; one of its two runs is there already. Then again, with nothing left to train."""
    path, out = str(ROOT / "notebooks" / "study-template.ipynb"), str(tmp_path / "out.ipynb")
    given = {"study": "warm-up", "epochs": 1, "width": 2, "seeds": [0]}
    there, missing = (studies.load("warm-up").config(level, 0, epochs=1, width=2)
                      for level in ("constant", "warm-up cosine"))
    before = store.write(made.plausible(there)).read_bytes()
    assert not execute(path, out, str(results), given)
    assert store.path_of(there.id).read_bytes() == before
    run = store.read(missing.id)
    assert run.config["dataset"] == "cifar10"
    assert run.config["train_images"] == 40_000
    assert run.provenance.dataset_md5
    # One epoch of real images through two channels is enough to beat guessing.
    assert run.final.val_accuracy > 0.12
    assert "epochs = 1" in shown_by(Path(out))
    trained = {entry: entry.stat().st_mtime_ns for entry in (results / "runs").iterdir()}
    assert len(trained) == 2
    assert not execute(path, out, str(results), given)
    assert {entry: entry.stat().st_mtime_ns for entry in (results / "runs").iterdir()} == trained
