"""Where things lie: the project, its results, and the scratch folder that git ignores."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "CIFARLAB_RESULTS"


def project_root() -> Path:
    """The folder that holds ``lib/``, ``notebooks/`` and ``studies/`` (the package is installed editable)."""
    return Path(__file__).resolve().parents[2]


def results_root() -> Path:
    """``$CIFARLAB_RESULTS``, else ``results/``; a relative path counts from the project.

    Kernels run in ``notebooks/`` and papermill wherever it is called: counting from there, one name would mean two
    folders.
    """
    return project_root() / (os.environ.get(VARIABLE) or "results")


@contextlib.contextmanager
def results_in(folder: Path) -> Iterator[None]:
    """Let this process, and those that it starts, keep their results in another folder."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE) if before is None else os.environ.update({VARIABLE: before})


def runs_folder() -> Path:
    return results_root() / "runs"


def scratch_folder() -> Path:
    """Checkpoints, locks, weights and executed notebooks: nothing here is evidence."""
    return results_root() / ".scratch"
