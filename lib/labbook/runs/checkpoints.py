"""A run's state on disk: written whole or not at all, and trusted only when its digest holds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labbook.lab import Lab
from labbook.runs.files import quarantine, read_bytes, write_bytes

# The first line of a checkpoint: this, and the SHA-256 of all that follows.
HEAD = b"labbook checkpoint 1 "
AGAIN = "The run starts from its first epoch."


def save(path: Path, state: Mapping[str, Any], lab: Lab) -> None:
    """Write ``state`` so that a kill at any moment leaves either the old file or the new one.

    Raises:
        StoreError: the disk refused (full, read-only); the old file is untouched.
    """
    content = lab.dump(state)
    write_bytes(path, HEAD + hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def load(path: Path, lab: Lab) -> dict[str, Any] | None:
    """Read what :func:`save` wrote, or return None where there is nothing to resume from.

    A file that is cut short, altered by a single bit, or of another format is set aside (``.damaged`` added to its
    name) with a warning, and the run starts again.

    Raises:
        StoreError: it could not be read now; the file stays.
    """
    if (content := read_bytes(path)) is None:
        return None
    head, _, state = content.partition(b"\n")
    if not head.startswith(HEAD):
        why = "is of another format"
    elif head != HEAD + hashlib.sha256(state).hexdigest().encode():
        why = "is damaged: its digest does not hold"
    else:
        try:
            return lab.load(state)
        except MemoryError:
            raise  # of the machine at this moment, not of the file
        except Exception as error:  # whole, as its digest says, but of another version of the lab
            why = f"cannot be read by this code ({type(error).__name__})"
    quarantine(path, f"The checkpoint {path.name} {why}", AGAIN)
    return None
