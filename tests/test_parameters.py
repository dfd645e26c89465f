"""A notebook's parameters: what it does not declare is refused by name, and so is a value of another kind."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import nbformat
import pytest
from labbook.errors import ConfigError
from labbook.page import parameters
from labbook.page.parameters import DECLARED, changed_note, check

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
OWN = f"""{DECLARED}
study = "warm-up"
epochs = None
seeds = [0]
columns = 8
rate = 0.01
show_runs = True
train = None
"""


def given(injected: str = "", **values) -> dict:
    """What :func:`check` makes of the cell ``injected`` and of values that are what they are at run time."""
    cell = f"# Parameters\n{injected}\n" + "".join(f"{name} = ...\n" for name in values)
    return check(OWN, cell, parameters.assigned_values(OWN) | values)


def test_declared_parameters_of_their_kind_pass():
    assert given() == {}
    fine = {"study": "decay", "epochs": 3, "seeds": "[0, 1]", "columns": 2, "rate": 1, "show_runs": False,
            "train": True}
    assert given(**fine) == fine


def test_an_unknown_parameter_is_named_with_the_near_one():
    with pytest.raises(ConfigError, match=r"unknown parameter 'epoch' \(did you mean 'epochs'\?\). Known: study,"):
        given(epoch=3, seeds=[1])


@pytest.mark.parametrize("name", ["In", "Out", "_ih", "get_ipython", "check_parameters", "DECLARED", "__name__"])
def test_no_parameter_switches_the_check_off(name):
    with pytest.raises(ConfigError, match=f"unknown parameter '{name}'"):
        given(**{name: "x"})


@pytest.mark.parametrize("statement", ["a.b = 1", "a[0] = 1", "epochs = columns = 1", "epochs, b = 1, 2", "x: int = 1",
                                       "import os", "epochs += 1", "print(1)"])
def test_an_injected_statement_other_than_a_name_and_its_value_is_refused(statement):
    with pytest.raises(ConfigError, match="is refused: a parameter is a name with a value"):
        given(statement)


@pytest.mark.parametrize(("name", "value", "expected"), [
    ("train", math.nan, r"train: nan is refused: it must be True or False\."),
    ("train", "no", r"train: 'no' is refused: it must be True or False\.$"),
    ("train", 1, "train: 1 is refused: it must be True or False"),
    ("show_runs", None, "show_runs: None is refused: it must be True or False"),
    ("show_runs", "False", "Its text was given: write show_runs False without quotes"),
    ("columns", "two", r"columns: 'two' is refused: it must be a whole number\.$"),
    ("columns", "10", r"Its text was given: write columns 10 without quotes \(papermill's -p, not -r\)"),
    ("columns", 2.5, "columns: 2.5 is refused: it must be a whole number"),
    ("columns", True, "columns: True is refused: it must be a whole number"),
    ("columns", math.inf, "columns: inf is refused: it must be a whole number"),
    ("rate", math.nan, "rate: nan is refused: it must be a number"),
    ("rate", "0.1", "write rate 0.1 without quotes"),
    ("study", None, "study: None is refused: it must be text such as 'warm-up'"),
    ("study", 0, "study: 0 is refused: it must be text"),
    ("seeds", 3.5, "seeds: 3.5 is refused: it must be a list"),
    ("columns", "9" * 10_000, "columns: '999.{,100}' is refused"),
])
def test_a_value_is_of_the_kind_that_the_notebook_declares(name, value, expected):
    with pytest.raises(ConfigError, match=expected):
        given(**{name: value})


def test_every_parameter_that_is_wrong_is_named():
    with pytest.raises(ConfigError) as refusal:
        given(epoch=1, columns="two", train=math.nan)
    assert [line.split(":")[0] for line in str(refusal.value).splitlines()] == [
        "unknown parameter 'epoch' (did you mean 'epochs'?). Known", "columns", "train"]


def test_in_a_kernel_the_history_is_read_and_not_a_variable(monkeypatch):
    """A parameter named In replaced the list that an earlier check read."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    shell.run_cell(OWN, store_history=True)
    shell.run_cell("from labbook.page.parameters import check_parameters", store_history=True)
    parameters.check_parameters()
    shell.run_cell('# Parameters\nIn = "x"\n', store_history=True)
    with pytest.raises(ConfigError, match="unknown parameter 'In'"):
        parameters.check_parameters()
    shell.run_cell('# Parameters\ntrain = float("nan")\n', store_history=True)
    with pytest.raises(ConfigError, match="train: nan is refused"):
        parameters.check_parameters()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebooks_parameters_are_names_with_plain_values(path):
    """Else their kind would not be known, and not be checked."""
    (cell,) = [cell for cell in nbformat.read(path, as_version=4).cells
               if "parameters" in cell.metadata.get("tags", [])]
    assert cell.source.splitlines()[0] == DECLARED
    names = parameters.assigned_names(cell.source)
    assert names == list(parameters.assigned_values(cell.source))
    assert len(ast.parse(cell.source).body) == len(names)


def test_what_a_page_was_drawn_with_is_said_where_no_study_says_it():
    own = {"study": "warm-up", "epochs": None, "seeds": None, "columns": 8}
    assert changed_note(own, {"epochs": 2, "seeds": [0], "train": True, "columns": 8}) == ""
    assert changed_note(own, {"study": "decay", "columns": 4, "epochs": 2}) == (
        "**Drawn with other parameters than this page's own:** `study = 'decay'`, `columns = 4`.")
