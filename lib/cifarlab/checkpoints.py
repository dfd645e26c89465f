"""A training run's state on disk, written whole or not at all."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch

FORMAT = 4


def save(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` so that a kill at any moment leaves either the old file or the new one.

    Raises:
        OSError: the disk refused (full, read-only); the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any] | None:
    """Read what :func:`save` wrote, or return None where there is nothing to resume from.

    A damaged file is set aside (``.damaged`` added to its name) with a warning, and the run starts again.
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["format"] != FORMAT:
            raise ValueError(f"format {state['format']}, expected {FORMAT}")
    except Exception as error:  # torch.load raises many kinds for a truncated file
        aside = path.with_name(path.name + ".damaged")
        path.replace(aside)
        warnings.warn(
            f"The checkpoint {path.name} is damaged ({type(error).__name__}); it is set aside as {aside.name} "
            "and the run starts from its first epoch.",
            stacklevel=2,
        )
        return None
    return state
