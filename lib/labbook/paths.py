"""Where things lie: the project, its results, and the scratch folder that git ignores."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

MARK = "labbook.toml"
VARIABLE = "LABBOOK_RESULTS"


def project_root() -> Path:
    """The nearest folder from the working directory upwards that holds ``labbook.toml``.

    From anywhere else it is the project that this library is part of (it is installed editable).
    """
    here = Path.cwd()
    home = Path(__file__).resolve().parents[2]
    return next((folder for folder in (here, *here.parents) if (folder / MARK).is_file()), home)


@contextlib.contextmanager
def results_in(folder: Path) -> Iterator[None]:
    """Let this process, and those that it starts, keep their results in another folder."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE) if before is None else os.environ.update({VARIABLE: before})


def results_root() -> Path:
    """``$LABBOOK_RESULTS``, else ``results/``; a relative path counts from the project.

    Kernels run in ``notebooks/`` and papermill wherever it is called: counting from there, one name would mean two
    folders.
    """
    return project_root() / os.path.expanduser(os.environ.get(VARIABLE) or "results")


def runs_folder() -> Path:
    """Where the result files lie, one a run."""
    return results_root() / "runs"


def scratch_folder() -> Path:
    """Checkpoints, locks, weights and executed notebooks: nothing here is evidence."""
    return results_root() / ".scratch"
