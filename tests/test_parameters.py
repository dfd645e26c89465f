"""A notebook's parameters: what it does not have is refused by name."""

from __future__ import annotations

import pytest
from labbook.errors import ConfigError
from labbook.page.parameters import changed_note, check_parameters

DECLARED = "# The parameters of this notebook\nepochs = 2\nseeds = [0]"


def test_known_parameters_pass():
    check_parameters(["", DECLARED])
    check_parameters(["", DECLARED, "# Parameters\nepochs = 3\n"])


def test_an_unknown_parameter_is_named_with_the_near_one():
    with pytest.raises(ConfigError, match=r"unknown parameter 'epoch' \(did you mean 'epochs'\?\). Known: epochs, se"):
        check_parameters(["", DECLARED, "# Parameters\nepoch = 3\nseeds = [1]\n"])


@pytest.mark.parametrize("switch", ["train", "side_studies"])
def test_a_switch_that_is_neither_true_nor_false_is_refused(switch):
    """As text, "no" would count as true and start a training."""
    declared = f"# The parameters of this notebook\n{switch} = None"
    check_parameters([declared, f"# Parameters\n{switch} = True\n"])
    with pytest.raises(ConfigError, match=f"{switch}: 'no' is refused: it must be True or False"):
        check_parameters([declared, f'# Parameters\n{switch} = "no"\n'])


@pytest.mark.parametrize(("declared", "given", "expected"), [
    ("columns = 8", 'columns = "two"', "columns: 'two' is refused: it must be a whole number"),
    ("columns = 8", "columns = 2.5", "columns: 2.5 is refused: it must be a whole number"),
    ("columns = 8", "columns = True", "columns: True is refused: it must be a whole number"),
    ("show_runs = True", 'show_runs = "no"', "show_runs: 'no' is refused: it must be True or False"),
])
def test_a_value_is_of_the_kind_that_the_notebook_declares(declared, given, expected):
    cell = f"# The parameters of this notebook\n{declared}"
    check_parameters([cell, f"# Parameters\n{declared}\n"])
    with pytest.raises(ConfigError, match=expected):
        check_parameters([cell, f"# Parameters\n{given}\n"])


def test_what_a_page_was_drawn_with_is_said_where_no_study_says_it():
    declared = '# The parameters of this notebook\nstudy = "warm-up"\nepochs = None\nseeds = None\ncolumns = 8'
    assert changed_note(declared, "# Parameters\nepochs = 2\nseeds = [0]\ntrain = True\ncolumns = 8\n") == ""
    assert changed_note(declared, '# Parameters\nstudy = "decay"\ncolumns = 4\nepochs = 2\n') == (
        "**Drawn with other parameters than this page's own:** `study = 'decay'`, `columns = 4`.")
