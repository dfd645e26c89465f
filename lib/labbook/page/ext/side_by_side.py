"""Run several pages' notebooks at once, one a core: jupyter-book has no option for it, Sphinx and myst-nb can.

No page depends on the order: each reads the committed results only. ``pages_at_once`` in the configuration says how
many (0: one a core, at most four; 1: one after the other); Sphinx's own ``-j`` counts where it is more than 1.
"""

from __future__ import annotations

import os
import sys
import tempfile
import uuid
from pathlib import Path

from labbook.machine import cores

# A kernel that has imported pandas and SciPy takes a quarter of a gigabyte.
MOST = 4
# A socket's path has at most 107 bytes on Linux and 103 on macOS; of them a kernel's name takes 30.
LONGEST_FOLDER = 70


def socket_folder() -> Path:
    """A folder whose path is short enough for the name of a socket: the usual one, or a short one beside it."""
    usual = Path(tempfile.gettempdir())
    if len(os.fsencode(usual)) <= LONGEST_FOLDER:
        return usual
    short = Path("/tmp") / f"labbook-{os.getuid()}"
    short.mkdir(mode=0o700, exist_ok=True)
    if short.stat().st_uid != os.getuid():   # somebody else's, or a link to it
        return Path(tempfile.mkdtemp(prefix="labbook-", dir="/tmp"))
    return short


def socket_prefix(_: object) -> str:
    """The beginning of the names of one kernel's socket files. Jupyter's own is the same for all kernels."""
    return str(socket_folder() / f"kernel-{uuid.uuid4().hex[:12]}")


def kernels_talk_through_files() -> None:
    """Kernels that start at the same moment can be given the same TCP port; a socket file is each kernel's own."""
    from jupyter_client.connect import ConnectionFileMixin
    from jupyter_client.manager import AsyncKernelManager

    ConnectionFileMixin.transport.default_value = "ipc"
    AsyncKernelManager._ip_default = socket_prefix


def choose(app, config) -> None:
    """Sphinx's ``config-inited``: how many pages to read and write at once."""
    # Sphinx forks its readers: Windows cannot, and on macOS a forked process that uses the system's libraries dies.
    if os.name != "posix" or sys.platform == "darwin":
        return
    if app.parallel <= 1:
        app.parallel = config.pages_at_once or min(cores(), MOST)
    if app.parallel > 1:
        kernels_talk_through_files()


def declare(app) -> None:
    """Some extensions do not say whether pages may be read at once. Those used here keep nothing while reading."""
    for extension in app.extensions.values():
        if extension.parallel_read_safe is None:
            extension.parallel_read_safe = True


def setup(app):
    app.add_config_value("pages_at_once", 0, "", int)
    app.connect("config-inited", choose)
    app.connect("builder-inited", declare)
    return {"version": "1", "parallel_read_safe": True}
