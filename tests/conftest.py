"""Fixtures: a results folder of one's own, a store of smoke runs, a small study, and where the dataset is."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

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
    """A results folder with the smoke version of every study's runs, one seed, made by a process a core.

    Every process of the tests reads the same one, which the first that asks makes: a test that adds files copies it.
    """
    from labbook.machine import cores
    from labbook.runs import runner, store
    from labbook.studies import study as studies

    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder = shared / "smoke" / "results"
    with FileLock(shared / "smoke.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABBOOK_RESULTS", str(folder))
        configs = {}
        for name in studies.names():
            study = studies.load(name)
            for level in study.levels:
                # One by one: under so small a budget two may be one run, batches of 64 being the preset's own.
                (_, config), = study.runs([level], seeds=[0], preset="smoke")
                configs[config.id] = config
        missing = [config for config in configs.values() if not store.path_of(config.id).exists()]
        with ProcessPoolExecutor(cores(), mp_context=multiprocessing.get_context("spawn")) as pool:
            list(pool.map(runner.run, missing))
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
