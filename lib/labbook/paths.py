"""Where things lie: the project, its results, and the scratch folder that git ignores."""

from __future__ import annotations

import os
from pathlib import Path


def project_root() -> Path:
    """The folder that holds ``lib/``, ``notebooks/`` and ``studies/`` (the package is installed editable)."""
    return Path(__file__).resolve().parents[2]


def results_root() -> Path:
    """``$CIFARLAB_RESULTS``, else ``results/``; a relative path counts from the project.

    Kernels run in ``notebooks/`` and papermill wherever it is called: counting from there, one name would mean two
    folders.
    """
    return project_root() / (os.environ.get("CIFARLAB_RESULTS") or "results")


def runs_folder() -> Path:
    return results_root() / "runs"


def scratch_folder() -> Path:
    """Checkpoints, locks, weights and executed notebooks: nothing here is evidence."""
    return results_root() / ".scratch"
