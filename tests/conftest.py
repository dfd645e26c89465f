"""Fixtures: a results folder of one's own, a store of smoke runs, a small study, and where the dataset is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# One thread: tests are small, and as many kernels as there are cores may run beside them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items):
    root = ROOT / (os.environ.get("CIFAR10_ROOT") or "data")
    absent = pytest.mark.skip(reason="CIFAR-10 is not here; set CIFAR10_ROOT or run `python -m cifarlab download`")
    for item in items:
        if item.get_closest_marker("dataset") and not (root / "cifar-10-batches-py").is_dir():
            item.add_marker(absent)


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    """An empty results folder that the library and every process it starts use."""
    folder = tmp_path / "results"
    monkeypatch.setenv("LABBOOK_RESULTS", str(folder))
    return folder


@pytest.fixture(scope="session")
def smoke_results(tmp_path_factory) -> Path:
    """A results folder with a record for the smoke version of every study's runs, one seed; none of them is trained.

    The accuracies are made up, and differ from run to run. A test that adds files copies the folder.
    """
    from labbook.studies import study as studies
    from made import put

    folder = tmp_path_factory.mktemp("smoke") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABBOOK_RESULTS", str(folder))
        made = {}
        for name in studies.names():
            study = studies.load(name)
            for level in study.levels:
                # One by one: under so small a budget two may be one run, batches of 64 being the preset's own.
                (_, config), = study.runs([level], seeds=[0], preset="smoke")
                made.setdefault(config.id, config)
        for number, config in enumerate(made.values()):
            put(config, accuracy=0.3 + 0.4 * number / len(made))
    return folder


@pytest.fixture(scope="session")
def small_study_file() -> str:
    return """
title: T
question: Q?
factor: dropout
preset: smoke
seeds: [0, 1]
reference: none
levels:
  none: {}
  half: {dropout: 0.5}
  lost: {optimizer: sgd, learning_rate: 10, weight_decay: 1, norm: none, epochs: 8}
"""


@pytest.fixture(scope="session")
def small_study(tmp_path_factory, small_study_file):
    """The results of a small study, one level of which diverges."""
    from labbook.runs import runner
    from labbook.studies import study as studies
    from labbook.studies.results import ensure

    folder = tmp_path_factory.mktemp("small-study")
    (folder / "mine.yml").write_text(small_study_file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABBOOK_RESULTS", str(folder / "results"))
        study = studies.load("mine", folder)
        for _, config in study.runs():
            runner.run(config)
        return ensure(study, train=False)
