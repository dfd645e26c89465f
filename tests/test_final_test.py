"""Which runs the test set is read for: what validation chose, once all of it is there, and nothing else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from labbook.cli import main
from labbook.errors import LabError
from labbook.runs import predictions as evidence
from labbook.runs import runner, scratch
from labbook.studies import final_test
from labbook.studies import results as reading
from labbook.studies import study as studies
from labbook.studies.results import StudyResults, ensure


def test_a_page_reads_only_what_was_evaluated_unless_the_reader_asked_for_runs_of_his_own(results, tmp_path):
    from labbook.runs import runner

    (tmp_path / "mine.yml").write_text(
        "title: T\nquestion: Q?\nfactor: f\npreset: smoke\nseeds: [0, 1]\nreference: one\nlevels:\n  one: {}\n")
    study = studies.load("mine", tmp_path)
    for _, config in study.runs():
        runner.run(config)
    with pytest.raises(evidence.NoPredictionsError, match=r"`labbook final-test mine`"):
        final_test.readable(ensure(study), "one")
    assert set(final_test.readable(ensure(study, seeds=[1], train=False), "one")) == {1}
    evidence.predictions(study.config("one", 0))
    assert set(final_test.readable(ensure(study), "one")) == {0}


def test_predictions_without_weights_are_shown_and_no_model_is_kept(results, tmp_path, capsys):
    (tmp_path / "mine.yml").write_text(
        "title: T\nquestion: Q?\nfactor: f\npreset: smoke\nseeds: [0]\nreference: one\nlevels:\n  one: {}\n")
    study = studies.load("mine", tmp_path)
    runner.run(study.config("one", 0))
    found = ensure(study)
    config = found.config_of("one")
    evidence.predictions(config)
    scratch.weights_path(config.id).unlink()
    final_test.evaluate(found, "one", "one")
    said = capsys.readouterr().out
    assert "seed 0: test accuracy" in said
    assert "model not kept: its weights are on the machine that trained it" in said
    assert not evidence.model_path(config.id).exists()


def test_the_level_is_chosen_on_validation(smoke_results, monkeypatch):
    monkeypatch.setenv("LABBOOK_RESULTS", str(smoke_results))
    found = ensure("baseline", preset="smoke", seeds=[0], train=False)
    best = found.runs.set_index("level")["val_accuracy"].idxmax()
    assert final_test.choose(found) == best
    (config,) = final_test.runs_of(found, best).values()
    assert config.id in set(found.runs[found.runs["level"] == best]["id"])


def study_of(**levels: list[float | None]) -> StudyResults:
    """Results of a study: each level's validation accuracy by seed; NaN: it diverged; None: not trained yet."""
    rows = [
        {"level": level, "seed": seed, "val_accuracy": value, "diverged": value != value}
        for level, values in levels.items() for seed, value in enumerate(values) if value is not None
    ]
    study = SimpleNamespace(name="mine", levels=dict.fromkeys(levels))
    runs = pd.DataFrame(rows).astype({"diverged": bool})
    return StudyResults(study, runs, runs, {}, runs, {}, (), {})


NAN = float("nan")


@pytest.mark.parametrize(("levels", "chosen"), [
    ({"a": [0.7, 0.7, 0.7], "b": [0.8, 0.8, 0.8]}, "b"),
    # One lucky run beside diverged ones is no level to trust.
    ({"a": [0.7, 0.7, 0.7], "b": [0.9, NAN, NAN]}, "a"),
    # Seed 1 is the easy one, and only b has it.
    ({"a": [0.7, None], "b": [0.6, 0.9]}, "a"),
    ({"a": [0.7, NAN], "b": [0.8, NAN]}, "b"),
    # c's seeds do not matter, since it is not chosen from.
    ({"a": [0.7, 0.8], "b": [0.6, 0.6], "c": [NAN, None]}, "a"),
])
def test_levels_are_compared_over_the_seeds_they_share(levels, chosen):
    assert final_test.choose(study_of(**levels)) == chosen


@pytest.mark.parametrize("levels", [{"a": [0.7, None], "b": [None, 0.6]}, {"a": [NAN], "b": [NAN]}])
def test_nothing_is_chosen_where_nothing_can_be_compared(levels):
    with pytest.raises(LabError, match=r"study 'mine': no level can be chosen.*make results STUDY=mine"):
        final_test.choose(study_of(**levels))


def test_the_test_set_is_not_read_while_runs_are_missing(results, monkeypatch, capsys):
    study = studies.load("baseline")
    whole, part = list(study.levels)[:2]
    missing = tuple(study.config(part, seed).id for seed in study.seeds[1:])
    found = SimpleNamespace(study=study, missing=missing, levels=list(study.levels))
    monkeypatch.setattr(reading, "ensure", lambda *_, **__: found)
    assert main(["final-test", "baseline"]) == 2
    planned = len(study.levels) * len(study.seeds)
    assert f"study 'baseline': {len(missing)} of its {planned} runs are missing" in capsys.readouterr().err
    assert main(["final-test", "baseline", "--level", part]) == 2
    said = capsys.readouterr().err
    assert f"level {part!r}: {len(missing)} of its {len(study.seeds)} runs are missing" in said
    # A level that is named and finished is evaluated, whatever the others lack.
    monkeypatch.setattr(final_test, "runs_of", lambda *_: {0: study.config(whole, 0)})
    monkeypatch.setattr(evidence, "predictions", lambda *_: SimpleNamespace(accuracy=0.5))
    monkeypatch.setattr(evidence, "keep_model", lambda config: evidence.model_path(config.id))
    assert main(["final-test", "baseline", "--level", whole]) == 0
    assert "seed 0: test accuracy 50.00 %" in capsys.readouterr().out


def test_the_command_evaluates_again_what_was_evaluated_and_only_that(results, monkeypatch, capsys):
    study = studies.load("baseline")
    level = next(iter(study.levels))
    monkeypatch.setattr(reading, "ensure", lambda *_, **__: SimpleNamespace(
        study=study, missing=("some",), levels=[level], runs=pd.DataFrame({"val_accuracy": [0.5]})))
    monkeypatch.setattr(final_test, "runs_of", lambda *_: {seed: study.config(level, seed) for seed in (0, 1, 2)})
    monkeypatch.setattr(evidence, "evaluated", lambda config, _: config.seed != 1)
    monkeypatch.setattr(evidence, "weights", lambda config: Path("some.pt") if config.seed != 2 else None)
    monkeypatch.setattr(evidence, "again", lambda config, _: f"made again {config.seed}")
    assert main(["final-test", "baseline", "--again"]) == 0
    assert capsys.readouterr().out == f"{level}, seed 0: made again 0\n"
    monkeypatch.setattr(evidence, "evaluated", lambda *_: False)
    assert main(["final-test", "baseline", "--again", "--views", "mirror"]) == 2
    assert "no run has both predictions with views 'mirror' and weights here" in capsys.readouterr().err


def test_a_level_that_was_not_trained_is_refused_by_name(capsys):
    assert main(["final-test", "baseline", "--level", "wide"]) == 2
    assert "level: no finished run of 'wide'" in capsys.readouterr().err
