"""Files written whole or not at all; what cannot be used is set aside, never deleted."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from labbook.runs import files


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_whole_and_no_other(tmp_path, monkeypatch, call):
    path = tmp_path / "x.json"
    files.write_text(path, "before")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), full)
        with pytest.raises(files.StoreError, match=rf"{path} could not be written: No space left on device\. "
                                                   r"Make room or choose another folder .* LABBOOK_RESULTS"):
            files.write_text(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_very_long_name_can_be_written_and_set_aside(tmp_path):
    path = tmp_path / ("x" * 250 + ".json")
    files.write_text(path, "content")
    with pytest.warns(files.DamagedResultWarning):
        files.quarantine(path, "It is damaged", "Make it again.")
    (aside,) = tmp_path.iterdir()
    assert aside.suffix == ".damaged"
    assert aside.read_text() == "content"


def test_what_was_set_aside_first_is_kept_when_the_name_is_damaged_again(tmp_path):
    path = tmp_path / "x.json"
    for content in ("first", "second", "third"):
        path.write_text(content)
        with pytest.warns(files.DamagedResultWarning, match=r"It is damaged\. It is set aside as .*\. Make it again\."):
            files.quarantine(path, "It is damaged", "Make it again.")
    kept = [tmp_path / f"x.json{number}.damaged" for number in ("", ".2", ".3")]
    assert [aside.read_text() for aside in kept] == ["first", "second", "third"]
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_a_file_that_another_reader_has_set_aside_is_no_error(tmp_path, recwarn):
    """Two pages that are built side by side read one damaged file."""
    files.quarantine(tmp_path / "gone.json", "It is damaged", "Make it again.")
    assert not recwarn.list


def entry(path: Path, kind: str) -> None:
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link to nothing":
            path.symlink_to("nowhere")
        case "link to a pipe":
            os.mkfifo(path.with_suffix(".pipe"))
            path.symlink_to(path.with_suffix(".pipe"))


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to nothing", "link to a pipe"])
def test_what_is_no_file_is_refused_by_name_and_never_waited_for(tmp_path, kind):
    path = tmp_path / "x.json"
    entry(path, kind)
    with pytest.raises(files.StoreError, match=str(path)):
        files.read_bytes(path)
    assert os.path.lexists(path)


def test_what_is_not_there_is_none_and_a_folder_that_is_not_there_is_empty(tmp_path):
    assert files.read_bytes(tmp_path / "no" / "x.json") is None
    assert files.listed(tmp_path / "no", "*.json") == []


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def refused(_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(files.StoreError, match=rf"The folder {tmp_path} could not be read: Permission denied\. .* "
                                               "LABBOOK_RESULTS"):
        files.listed(tmp_path, "*.json")


def test_a_file_that_cannot_be_read_now_is_named_and_stays(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    path.touch()

    def failing(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        with pytest.raises(files.StoreError, match=rf"{path} could not be read: Input/output error"):
            files.read_bytes(path)
    assert files.read_bytes(path) == b""


def test_a_folder_in_the_place_of_which_a_file_lies_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(files.StoreError, match=r"The folder .*file/runs could not be made.*LABBOOK_RESULTS"):
        files.write_text(tmp_path / "file" / "runs" / "x.json", "{}")
    with pytest.raises(files.StoreError, match=r"x\.json could not be read: Not a directory"):
        files.read_bytes(tmp_path / "file" / "x.json")
