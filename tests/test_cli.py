"""The command line: what is planned, refused, counted; exit statuses; nothing is trained here."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import typer
from labbook import cli, terminal
from labbook.runs import engine, scratch, store
from labbook.studies import study as studies

from tests import made
from tests.test_studies import GOOD, written


@pytest.fixture
def asked(monkeypatch) -> list:
    """Training replaced by nothing; the configurations that would have been trained."""
    configs = []
    monkeypatch.setattr(engine, "execute", lambda todo, *_, **__: configs.extend(todo) or [])
    return configs


@pytest.fixture
def mine(results, tmp_path, monkeypatch) -> studies.Study:
    """A study of four runs, the only one."""
    study = studies.load("mine", written(tmp_path, GOOD))
    monkeypatch.setattr(studies, "names", lambda: ["mine"])
    monkeypatch.setattr(studies, "load", lambda name: study)
    return study


@pytest.mark.parametrize(("text", "seconds"), [
    ("2h", 7200), ("1h30m", 5400), ("45s", 45), ("45m", 2700), ("2 hours", 7200), ("0.5h", 1800)])
def test_durations(text, seconds):
    assert terminal.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "soon", "nat", "nan", "-2h", "0h", "99999999999999h", "9000h", "h", "1h30",
                                  "1e400h", "inf", "9" * 5000 + "h", "2\x00h"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(typer.BadParameter, match="is not a duration such as 45m, 2h or 1h30m"):
        terminal.seconds(text)


@pytest.mark.parametrize(("arguments", "expected"), [
    (["results", "warmup"], "did you mean 'warm-up'"),
    (["results", "--preset", "lapto"], "did you mean 'laptop'"),
    (["results", "--budget", "soon"], "'soon' is not a duration such as 45m"),
    (["results", "--budget", "99999999999999h"], "is not a duration such as 45m"),
    (["status", "--preset", "smoke"], "preset: 'smoke' is not the budget of any study. Found: laptop, report."),
    (["results", "baseline", "--preset", "report"], "'report' is not the budget of study 'baseline'"),
    (["status", "kernel", "depht"], "did you mean 'depth'"),
    (["results", "--seeds", "-1"], "'-1' is refused: it must be a whole number from 1 to 1000"),
    (["results", "--seeds", "0"], "'0' is refused"),
    (["results", "--workers", "-3"], "'-3' is refused"),
    (["results", "--workers", "3000000000"], "'3000000000' is refused: it must be a whole number from 1 to 1000"),
    (["results", "--workers", "9" * 5000], "is refused: it must be a whole number from 1 to 1000"),
    (["results", "speedrun", "--level", "8 epoch"], "'8 epoch' is not known (did you mean '8 epochs'?)"),
    (["reproduce", "--count", "none"], "'none' is refused"),
    (["frob"], "No such command 'frob'"),
    (["results", "--sedes", "1"], "No such option"),
])
def test_a_wrong_value_is_refused_in_a_sentence_with_status_2(results, asked, capsys, arguments, expected):
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert len(said) < 1500
    assert not asked


@pytest.mark.parametrize("name", [None, "results", "status", "reproduce"])
def test_help_says_what_each_command_does(capsys, name):
    assert cli.main([name, "--help"] if name else ["--help"]) == 0
    said = capsys.readouterr().out
    assert "Usage:" in said
    if not name:
        assert {"results", "status", "reproduce"} <= set(said.split())


def test_a_device_that_is_not_there_is_refused_once_before_any_run(results, monkeypatch, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(engine, "execute_one", lambda *_, **__: pytest.fail("a run was started"))
    assert cli.main(["results", "kernel", "--workers", "1", "--device", "cuda"]) == 2
    assert "device: 'cuda'" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "expected"), [
    ("results", "the next call goes on from the last finished epoch"), ("status", "nothing was changed")])
def test_an_interrupt_ends_in_130_and_says_what_it_leaves(results, monkeypatch, capsys, command, expected):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "chosen_studies", interrupted)
    assert cli.main([command]) == 130
    assert capsys.readouterr().err == f"\nstopped; {expected}\n"


def test_a_reader_who_has_had_enough_gets_no_traceback(results):
    nobody, output = os.pipe()
    os.close(nobody)
    command = [sys.executable, "-m", "labbook", "status", "warm-up"]
    done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True)
    os.close(output)
    assert (done.returncode, done.stderr) == (1, "")


def test_the_matrix_goes_seed_by_seed_through_all_studies():
    chosen = [studies.load(name) for name in ("dropout", "kernel-pairs", "depth")]
    runs = cli.planned(chosen)
    assert [config.seed for config in runs] == sorted(config.seed for config in runs)
    first = {config.id for config in runs if config.seed == 0}
    assert first == {study.config(level, 0).id for study in chosen for level in study.levels}


def test_one_level_of_a_study_may_be_asked_for_alone():
    study = studies.load("speedrun")
    asked = cli.planned([study], first_seeds=2, only="10 epochs")
    assert [(config.epochs, config.seed) for config in asked] == [(10, 0), (10, 1)]
    assert len(cli.planned([study], first_seeds=2)) == 2 * len(study.levels)


def test_several_studies_are_asked_for_at_once_first_seeds_of_each_first(results, asked, capsys):
    assert cli.main(["results", "dropout-wide", "decay-wide"]) == 0
    both = {config.id for name in ("dropout-wide", "decay-wide") for _, config in studies.load(name).runs()}
    assert {config.id for config in asked} == both
    assert [config.seed for config in asked] == sorted(config.seed for config in asked)
    capsys.readouterr()
    assert cli.main(["status", "dropout-wide", "decay-wide"]) == 0
    # A run that both have, such as that with neither dropout nor another schedule, is named once.
    listed = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("missing")]
    assert sorted(listed) == sorted(both)
    assert len(both) < sum(len(list(studies.load(name).runs())) for name in ("dropout-wide", "decay-wide"))


def test_a_study_and_its_own_preset_may_both_be_named(results, capsys):
    assert cli.main(["status", "baseline", "--preset", "laptop"]) == 0
    assert "baseline" in capsys.readouterr().out


def test_a_budget_that_is_spent_says_what_is_left(mine, asked, capsys):
    assert cli.main(["results", "--budget", "1s"]) == 0   # no time for a single run
    assert "the budget is spent: 0 runs finished, 4 are left" in capsys.readouterr().out
    assert cli.main(["results"]) == 0   # another process may have the rest
    assert "budget" not in capsys.readouterr().out


def test_failures_make_the_exit_status_1(mine, monkeypatch, capsys):
    monkeypatch.setattr(engine, "execute", lambda *_, **__: ["one failed"])
    assert cli.main(["results"]) == 1
    assert "failed: 1; the next call tries again" in capsys.readouterr().err


def test_status_counts_what_is_done_missing_diverged_and_of_older_code(mine, capsys):
    from labbook.runs import provenance

    configs = [config for _, config in mine.runs()]
    made.put(configs[0], diverged=True, code_digest=provenance.code_digest(), sittings=[])
    made.put(configs[1], code_digest="another", sittings=[])
    made.put(configs[2], code_digest=provenance.code_digest(), sittings=[])
    assert cli.main(["status"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("mine "))
    # planned, done, missing, diverged, older code
    assert row.split()[1:] == ["4", "3", "1", "1", "1"]
    store.path_of("x").with_suffix(".json.damaged").touch()
    assert cli.main(["status"]) == 1
    assert "set aside as damaged: x.json.damaged" in capsys.readouterr().out


def test_status_says_how_far_runs_are_that_are_under_way_or_were_stopped(mine, capsys):
    (_, first), (_, second), *_ = mine.runs()
    scratch.scratch_folder().mkdir(parents=True)
    for config, epochs in ((first, 0), (second, 1)):
        scratch.note(config.id, epochs, 2)
    with scratch.lock(first.id):
        assert cli.main(["status"]) == 0
    said = capsys.readouterr().out
    assert f"{second.id} 1/2 (stopped)" in said
    assert f"{first.id} 0/2" in said
    assert f"{first.id} 0/2 (stopped)" not in said


def test_status_names_every_study_and_counts_what_is_in_none(results, capsys):
    made.put(studies.load("kernel").config("3 × 3", 99))
    assert cli.main(["status"]) == 0
    printed = capsys.readouterr().out
    assert {line.split()[0] for line in printed.splitlines()} >= set(studies.names())
    assert "in the store, in none of these studies: 1" in printed


def test_a_finished_run_is_not_under_way_and_results_tidies_up_after_it(mine, asked, capsys):
    _, config = mine.runs()[0]
    made.put(config)
    # A kill between writing the result and removing these leaves them.
    progress, checkpoint = scratch.progress_path(config.id), scratch.checkpoint_path(config.id)
    progress.parent.mkdir(parents=True, exist_ok=True)
    progress.write_text('{"epochs": 1, "of": 1}')
    checkpoint.touch()
    assert cli.main(["status"]) == 0
    assert "stopped" not in capsys.readouterr().out
    assert cli.main(["results"]) == 0
    assert not progress.exists()
    assert not checkpoint.exists()
    assert len(asked) == 3
