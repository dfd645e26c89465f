"""Which code made a run: the digest that says it, what it sees, and what it takes no notice of."""

from __future__ import annotations

import ast

import pytest
from cifarlab.lab import LAB
from labbook.paths import project_root
from labbook.runs import digests

CODE = """
from cifarlab.data import Images
from torch import nn
import labbook.machine
def f(x, *, y: int = 1) -> str:
    '''Says what.'''
    from cifarlab.streams import stream
    return f"{x!r:>{y}}"  # and why
"""


@pytest.fixture
def digest(tmp_path):
    """The digest of a module with this code."""
    path = tmp_path / "code.py"

    def of(code, internal=("cifarlab", "labbook")):
        path.write_text(code)
        return digests.digest_of([path], internal)

    return of


@pytest.mark.parametrize(("before", "after"), [
    ("from cifarlab.data import Images", "from cifarlab.images import Images"),
    ("from cifarlab.data import Images\n", ""),
    ("import labbook.machine", "import labbook.machine as machine, cifarlab.data"),
    ("    from cifarlab.streams import stream\n", "    from labbook.streams import stream, more\n"),
    ("Says what", "Says more"), ("  # and why", ""), ("from torch import nn", "from torch import nn   # layers"),
])
def test_moved_code_comments_and_docstrings_do_not_change_it(digest, before, after):
    assert before in CODE
    assert digest(CODE.replace(before, after)) == digest(CODE)


@pytest.mark.parametrize(("before", "after"), [
    ("from torch import nn", "from torch import nn, optim"), ("y: int = 1", "y: int = 2"), ("!r:>", "!s:>"),
    ("import labbook.machine", "import labbook.machine, math"), ("f(x", "g(x"),
])
def test_other_code_does(digest, before, after):
    assert before in CODE
    assert digest(CODE.replace(before, after)) != digest(CODE)


def test_without_internal_packages_every_import_counts(digest):
    moved = CODE.replace("cifarlab.data", "cifarlab.images")
    assert digest(moved, ()) != digest(CODE, ())


def test_it_is_the_same_under_every_python(digest):
    code = '''
def f(x, *, y: int = 1) -> str:
    """Says what."""
    return f"a{x!r:>{y}}b" 'c' f"{y}{{}}" "" + f'{x["k"]} "q" {1.5}' + f""  # and why
'''
    assert digest(code) == "7977eabf957b"   # of 3.10, 3.11, 3.12 and 3.13
    assert digest(code.replace('"a{x', '"b{x')) != "7977eabf957b"


def test_the_digest_covers_every_module_that_training_imports():
    """Whatever can change a run's numbers: all that the loop reaches within the lab."""
    lab_package, reached, todo = "cifarlab", set(), ["cifarlab.training"]
    while todo:
        if (name := todo.pop()) in reached:
            continue
        reached.add(name)
        for node in ast.walk(ast.parse(digests.file_of(name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == lab_package:
                todo += [f"{lab_package}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module.startswith(f"{lab_package}."):
                todo.append(node.module)
    # A configuration's values are recorded with the run itself.
    assert reached - {"cifarlab.config"} == set(LAB.numeric_modules)


def test_todays_digest_is_known_or_new_and_never_that_of_other_numbers():
    today = digests.code_digest(tuple(LAB.numeric_modules))
    assert len(today) == 12
    assert int(today, 16) >= 0


@pytest.mark.parametrize(("made", "run_id", "expected"), [
    ({"today"}, "", "today's"), ({"today"}, "listed", "today's"),   # trained again
    ({"today", "earlier"}, "", "same numbers"), ({"earlier", "older"}, "", "same numbers"),
    ({"today", "another"}, "", "other"), ({"another"}, "", "other"), ({"earlier"}, "listed", "other"),
])
def test_a_run_counts_as_the_code_of_all_its_parts_says(monkeypatch, made, run_id, expected):
    known = {"same_numbers": {"earlier": "why", "older": "why"}, "other_numbers": {"listed": "why"}}
    monkeypatch.setattr(digests, "equivalences", lambda: known)
    assert digests.made_by(made, run_id, "today") == expected


def test_what_is_known_of_earlier_code_has_a_reason_each():
    known = digests.equivalences()
    assert known.keys() >= {"same_numbers", "other_numbers"}
    assert all(isinstance(reason, str) and len(reason.split()) > 3
               for name in known for reason in known[name].values())
    assert all(len(digest) == 12 and int(digest, 16) >= 0 for digest in known["same_numbers"])
    runs = {path.stem for path in (project_root() / "results" / "runs").glob("*.json")}
    assert known["other_numbers"].keys() <= runs


def test_without_that_file_nothing_is_known(tmp_path):
    known = digests.equivalences(tmp_path / "equivalences.yml")
    assert not any(known.values())
