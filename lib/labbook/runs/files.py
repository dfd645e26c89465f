"""Writing files whole or not at all, and putting aside those that cannot be used."""

from __future__ import annotations

import itertools
import os
import uuid
import warnings
from contextlib import suppress
from pathlib import Path

from labbook.errors import LabError


class StoreError(LabError):
    """A file of the store cannot be written or read; the message names the file and the remedy."""


class DamagedResultWarning(UserWarning):
    """A file in the results folder was damaged or foreign and has been quarantined."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` so that ``path`` holds all of it or what it held before.

    Raises:
        StoreError: the disk refused.
    """
    # Not by process id alone: two hosts may share the folder.
    part = path.with_name(f".{path.name[:120]}.{uuid.uuid4().hex[:12]}.part")
    make_folder(path.parent)
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise StoreError(
            f"{path} could not be written: {error.strerror or error}. Make room or choose another folder for results "
            "with LABBOOK_RESULTS; a run goes on from its last checkpoint."
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """As :func:`write_bytes`, for text."""
    write_bytes(path, text.encode())


def read_bytes(path: Path) -> bytes | None:
    """A file's content, or None where there is none.

    Raises:
        StoreError: it is there and cannot be read now, or is no regular file.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError(None, "it is not a regular file")
        return path.read_bytes()
    except FileNotFoundError:
        if path.is_symlink():
            raise StoreError(f"{path} is a link to a file that is not there. Restore that file, or remove the link."
                             ) from None
        return None
    except OSError as error:
        raise StoreError(
            f"{path} could not be read: {error.strerror or error}. See to its permissions and its disk, or choose "
            "another folder for results with LABBOOK_RESULTS."
        ) from error


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are not there.

    Raises:
        StoreError: the disk refused.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"The folder {path} could not be made: {error.strerror or error}. Choose another for results with "
            "LABBOOK_RESULTS."
        ) from error


def listed(folder: Path, pattern: str) -> list[Path]:
    """The entries of ``folder`` that match a file name's ``pattern``, by name; none where there is no such folder.

    Raises:
        StoreError: the folder is there and cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if path.match(pattern)) if folder.exists() else []
    except OSError as error:
        raise StoreError(f"The folder {folder} could not be read: {error.strerror or error}. See to its permissions, "
                         "or choose another for results with LABBOOK_RESULTS.") from error


def remove(path: Path) -> None:
    """Remove a file that is needed no more; where the disk refuses, it stays: nothing depends on it."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def quarantine(path: Path, why: str, remedy: str) -> None:
    """Rename a file that cannot be used to its first free ``.damaged`` name, with a warning: it is never deleted.

    Raises:
        StoreError: it could not be renamed.
    """
    # A long name has no room for an ending.
    stem = path.name if len(path.name.encode()) <= 230 else f"{path.name[:100]}-{uuid.uuid4().hex[:8]}"
    names = itertools.chain([f"{stem}.damaged"], (f"{stem}.{n}.damaged" for n in itertools.count(2)))
    aside = next(place for name in names if not os.path.lexists(place := path.with_name(name)))
    try:
        path.rename(aside)
    except FileNotFoundError:
        return  # Another process read it at the same time, has put it aside and says so.
    except OSError as error:
        raise StoreError(f"{why}, and it could not be set aside as {aside.name}: {error.strerror or error}. {remedy}"
                         ) from error
    warnings.warn(
        f"{why}. It is set aside as {aside.name}, not deleted. {remedy}", DamagedResultWarning, stacklevel=4
    )
