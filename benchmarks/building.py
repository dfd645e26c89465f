"""How long the website takes to build: every page, and once more with nothing changed; no dataset is there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from labbook.paths import project_root

from benchmarks.answers import BenchmarkError


def measure() -> dict[str, Any]:
    """Seconds of ``jupyter-book build .`` on a copy of what is committed: ``whole_seconds``, ``untouched_seconds``.

    Raises:
        BenchmarkError: the project has no git history to copy from, or a build failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "book"
        _call(["git", "clone", "--quiet", str(project_root()), str(copy)], folder)
        whole, untouched = (_build(copy) for _ in range(2))
    return {"whole_seconds": whole, "untouched_seconds": untouched}


def _build(copy: Path) -> float:
    started = time.perf_counter()
    _call([str(Path(sys.executable).parent / "jupyter-book"), "build", ".", "-W", "--keep-going"], copy, {
        "PYTHONPATH": str(copy / "lib"), "CIFARLAB_RESULTS": str(copy / "results"),
        "CIFAR10_ROOT": str(copy / "nowhere"),
    })
    return time.perf_counter() - started


def _call(command: list[str], folder: str | Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=folder, env=os.environ | (environment or {}), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
