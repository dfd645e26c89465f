"""A training run's state on disk, written whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from labbook.runs import store

FORMAT = 4


def save(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` so that a kill at any moment leaves either the old file or the new one.

    Raises:
        StoreError: the disk refused (full, read-only); the old file is untouched.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    store.write_bytes(path, buffer.getvalue())


def load(path: Path) -> dict[str, Any] | None:
    """Read what :func:`save` wrote, or return None where there is nothing to resume from.

    A file that is damaged or of another format is set aside (``.damaged`` added to its name) with a warning, and the
    run starts again.

    Raises:
        OSError, MemoryError: it could not be read now; the file stays.
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = state["format"]
    except (MemoryError, OSError):
        raise  # of the machine at this moment, not of the file
    except Exception as error:  # torch.load raises many kinds for a truncated file
        why = f"is damaged ({type(error).__name__})"
    else:
        if found == FORMAT:
            return state
        why = f"is of format {found}; this code reads format {FORMAT}"
    store.put_aside(path, f"The checkpoint {path.name} {why}", "The run starts from its first epoch.")
    return None
