"""The second lab on the same machinery: it trains, and its page builds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    """A copy of the example, elsewhere, as a teacher makes it."""
    copy = tmp_path_factory.mktemp("a teacher's") / "lab"
    shutil.copytree(ROOT / "examples" / "digits", copy, ignore=shutil.ignore_patterns("_build", ".scratch"))
    return copy


def call(folder: Path, *command: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name != "LABBOOK_RESULTS"}
    environment["PYTHONPATH"] = str(ROOT / "lib")
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_missing_run_is_trained_by_papermill_to_the_committed_accuracy(digits):
    kept = sorted((digits / "results" / "runs").glob("hidden64-*-s0-*.json"))
    assert len(kept) == 1
    committed = kept[0].read_text()
    kept[0].unlink()
    assert "missing" in call(digits, "labbook", "status", "hidden-layer").stdout
    done = call(digits, "labbook", "results", "--workers", "1")
    assert done.returncode == 0, done.stderr
    before, after = (json.loads(text)["final"]["val_accuracy"] for text in (committed, kept[0].read_text()))
    assert after == pytest.approx(before, abs=0.02)


def test_the_page_builds_and_shows_its_claim(digits):
    done = subprocess.run(
        [str(Path(sys.executable).parent / "jupyter-book"), "build", ".", "-W", "--keep-going"], cwd=digits,
        env=os.environ | {"PYTHONPATH": str(ROOT / "lib")}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    page = (digits / "_build" / "html" / "notebooks" / "hidden-layer.html").read_text()
    assert "popover" in page
    assert "points" in page
