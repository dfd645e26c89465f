"""Fixtures: a results folder of one's own, a store of smoke runs, and where the dataset is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from tests import made

# One thread: tests are small, and as many kernels as there are cores may run beside them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
SEEDS = [0, 1, 2]


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
    """A results folder with the smoke version of every study's runs, three seeds each: made up, but for two.

    Of each study's last level one run diverged. Every process of the tests reads the same folder, which the first that
    asks makes: a test that adds files copies it.
    """
    from labbook.runs import runner, store
    from labbook.studies import study as studies

    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder = shared / "smoke" / "results"
    with FileLock(shared / "smoke.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABBOOK_RESULTS", str(folder))
        if not folder.exists():
            for level, seed in (("constant", 0), ("warm-up cosine", 0)):   # two by training, as every run of the book
                runner.run(studies.load("warm-up").config(level, seed, preset="smoke"))
            for name in studies.names():
                study = studies.load(name)
                for level in study.levels:
                    # One by one: under so small a budget two may be one run, batches of 64 being the preset's own.
                    for seed in SEEDS:
                        ((_, config),) = study.runs([level], seeds=[seed], preset="smoke")
                        if not store.path_of(config.id).exists():
                            lost = seed == 1 and level == list(study.levels)[-1] and level != study.reference
                            store.write(made.plausible(config, diverged=lost))
    return folder
