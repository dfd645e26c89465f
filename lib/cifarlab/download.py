"""Fetch CIFAR-10, or unpack a copy of it: checked, resumable, and never half there under its own name."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from cifarlab.data import DatasetError, check_files

# Seconds without a single byte after which a server counts as hanging.
TIMEOUT = 30
BLOCK = 1 << 20


def download(root: Path, source: str | None = None) -> None:
    """Put CIFAR-10 into ``root``, unless it is there and whole; a missing or altered file is replaced.

    ``source`` is another address of the archive, or the path of a copy; by default its home page. What an earlier call
    fetched is kept as ``….part``, and the next call goes on from there.

    Raises:
        DatasetError: it could not be fetched or is not the official archive; the message says what else can be done.
    """
    from torchvision.datasets import CIFAR10

    if _whole(root):
        return
    archive = root / CIFAR10.filename
    part = archive.with_name(f"{archive.name}.part")
    try:
        root.mkdir(parents=True, exist_ok=True)
        if source is not None and "://" not in source:
            archive = Path(source).expanduser()
        elif not archive.is_file() or _md5(archive) != CIFAR10.tgz_md5:
            _fetch(source or CIFAR10.url, part)
            if (found := _md5(part)) != CIFAR10.tgz_md5:
                part.unlink()
                raise DatasetError(f"{source or CIFAR10.url} gave another file than CIFAR-10 (md5 {found}, expected "
                                   f"{CIFAR10.tgz_md5}); it was removed. {remedy(root)}")
            part.replace(archive)
        if (found := _md5(archive)) != CIFAR10.tgz_md5:
            raise DatasetError(f"{archive} is not CIFAR-10's archive (md5 {found}, expected {CIFAR10.tgz_md5}). "
                               f"{remedy(root)}")
        _unpack(archive, root)
    except (OSError, EOFError, tarfile.TarError) as error:
        kept = f" What was fetched is kept: the next call goes on at {part.stat().st_size / 1e6:.0f} MB." if (
            part.is_file()) else ""
        reason = str(getattr(error, "reason", error)).rstrip(".") or type(error).__name__
        raise DatasetError(f"CIFAR-10 could not be put into {root}: {reason}.{kept} {remedy(root)}") from error
    check_files(root)


def remedy(root: Path) -> str:
    """What to do where the download does not work."""
    from torchvision.datasets import CIFAR10

    return (f"Try again; or fetch {CIFAR10.url} by other means, such as a browser, and run "
            "`python -m cifarlab download --source PATH`; or set CIFAR10_ROOT to a folder that holds "
            "cifar-10-batches-py.")


def _whole(root: Path) -> bool:
    try:
        check_files(root)
    except (DatasetError, OSError):
        return False
    return True


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _fetch(url: str, part: Path) -> None:
    """Append to ``part`` what is missing of it, or begin anew where the server cannot go on."""
    from tqdm import tqdm

    there = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={there}-"} if there else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:   # 416: nothing follows what is there
            raise
        return
    goes_on = there > 0 and getattr(answer, "status", None) == 206
    length = int(answer.headers.get("Content-Length") or 0)
    with answer, part.open("ab" if goes_on else "wb") as file, tqdm(
        total=(length + there * goes_on) or None, initial=there * goes_on, unit="B", unit_scale=True, file=sys.stderr,
        leave=False, disable=None,
    ) as bar:
        received = 0
        while block := answer.read(BLOCK):
            file.write(block)
            received += len(block)
            bar.update(len(block))
    if received < length:
        raise OSError(f"the connection ended after {received} of {length} bytes")


def _unpack(archive: Path, root: Path) -> None:
    """Unpack beside the place, then move each file into it whole."""
    from torchvision.datasets import CIFAR10

    with tempfile.TemporaryDirectory(dir=root, prefix=".cifar-10.") as folder, tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
        place = root / CIFAR10.base_folder
        place.mkdir(exist_ok=True)
        for path in (Path(folder) / CIFAR10.base_folder).iterdir():
            if (target := place / path.name).is_dir():
                shutil.rmtree(target)
            os.replace(path, target)
