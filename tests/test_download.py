"""Fetching CIFAR-10 from a server of the test's own: resumed, checked, repaired, refused in one sentence."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cifarlab import data
from cifarlab import download as fetching
from cifarlab.__main__ import main
from torchvision.datasets import CIFAR10

FILES = {"data_batch_1": b"one" * 50_000, "test_batch": b"two" * 50_000, "batches.meta": b"names"}


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def packed() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in FILES.items():
            entry = tarfile.TarInfo(f"{CIFAR10.base_folder}/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


ARCHIVE = packed()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A small CIFAR-10 of the same form, whose official sums are those of its files."""
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", md5(FILES["data_batch_1"])]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5(FILES["test_batch"])]])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "md5": md5(FILES["batches.meta"])})
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(ARCHIVE))
    monkeypatch.setenv("CIFAR10_ROOT", str(tmp_path / "data"))
    return tmp_path / "data"


@contextmanager
def server(monkeypatch, content: bytes = ARCHIVE, ranges: bool = True, cut: int | None = None, hang: bool = False):
    """Serve ``content``; yields the list of the ranges that were asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            asked.append(wanted)
            begin = int(wanted[6:-1]) if wanted and ranges else 0
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            self.wfile.write(content[begin:][:cut])
            if hang:
                time.sleep(3)

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{running.server_port}/{CIFAR10.filename}")
    try:
        yield asked
    finally:
        running.shutdown()
        running.server_close()


def names(root):
    return sorted(path.name for path in root.iterdir())


def test_it_is_fetched_once_checked_and_unpacked(root, monkeypatch, capsys):
    with server(monkeypatch) as asked:
        assert main(["download"]) == 0
        assert main(["download"]) == 0
    assert asked == [None]
    assert names(root) == [CIFAR10.base_folder, CIFAR10.filename]
    assert f"CIFAR-10 is in {root}" in capsys.readouterr().out


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_or_altered_is_replaced(root, monkeypatch, name):
    with server(monkeypatch):
        assert main(["download"]) == 0
        for damage in (lambda path: path.unlink(), lambda path: path.write_bytes(b"x")):
            damage(root / CIFAR10.base_folder / name)
            with pytest.raises(data.DatasetError, match=name):
                data.check_files(root)
            assert main(["download"]) == 0
            data.check_files(root)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_broke_off_goes_on_or_begins_anew(root, monkeypatch, capsys, ranges):
    with server(monkeypatch, cut=100):
        assert main(["download"]) == 2
    said = capsys.readouterr().err
    assert "the connection ended after 100 of" in said
    assert "What was fetched is kept" in said
    assert "--source PATH" in said
    assert "Traceback" not in said
    assert names(root) == [f"{CIFAR10.filename}.part"]
    with server(monkeypatch, ranges=ranges) as asked:
        assert main(["download"]) == 0
    assert asked == ["bytes=100-"]
    assert names(root) == [CIFAR10.base_folder, CIFAR10.filename]


def test_another_file_is_refused_and_removed(root, monkeypatch, capsys):
    with server(monkeypatch, content=b"an error page"):
        assert main(["download"]) == 2
    assert f"gave another file than CIFAR-10 (md5 {md5(b'an error page')}" in capsys.readouterr().err
    assert names(root) == []


def test_a_server_that_hangs_is_given_up(root, monkeypatch, capsys):
    monkeypatch.setattr(fetching, "TIMEOUT", 0.2)
    with server(monkeypatch, cut=10, hang=True):
        assert main(["download"]) == 2
    assert "timed out" in capsys.readouterr().err


def test_a_copy_may_be_named_by_its_path(root, tmp_path, capsys):
    copy = tmp_path / "copy.tar.gz"
    copy.write_bytes(b"x")
    assert main(["download", "--source", str(copy)]) == 2
    assert f"{copy} is not CIFAR-10's archive" in capsys.readouterr().err
    copy.write_bytes(ARCHIVE)
    assert main(["download", "--source", str(copy)]) == 0
    assert copy.exists()
    assert main(["download", "--source", str(tmp_path / "none")]) == 0   # it is there already


def test_an_interrupt_says_how_to_go_on(root, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "download", interrupted)
    assert main(["download"]) == 130
    assert capsys.readouterr().err == "\nstopped; the next call goes on where this one ended\n"


def test_a_home_folder_may_be_written_as_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CIFAR10_ROOT", "~/images")
    assert data.cifar10_root() == tmp_path / "images"
