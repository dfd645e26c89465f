"""Run several pages' notebooks at once, one a core: jupyter-book has no option for it, Sphinx and myst-nb can.

No page depends on the order: each reads the committed results only.
"""

from __future__ import annotations

import os
import tempfile
import uuid

from labbook.machine import cores

# A kernel that has imported PyTorch and pandas takes half a gigabyte.
MOST = 4


def socket_prefix(_: object) -> str:
    """The beginning of the names of one kernel's socket files. Jupyter's own is the same for all kernels."""
    return os.path.join(tempfile.gettempdir(), f"kernel-{uuid.uuid4().hex[:12]}")


def kernels_talk_through_files() -> None:
    """Kernels that start at the same moment can be given the same TCP port; a socket file is each kernel's own."""
    from jupyter_client.connect import ConnectionFileMixin
    from jupyter_client.manager import AsyncKernelManager

    ConnectionFileMixin.transport.default_value = "ipc"
    AsyncKernelManager._ip_default = socket_prefix


def declare(app) -> None:
    """Some extensions do not say whether pages may be read at once. Those used here keep nothing while reading."""
    for extension in app.extensions.values():
        if extension.parallel_read_safe is None:
            extension.parallel_read_safe = True


def setup(app):
    # Sphinx forks its readers, which Windows cannot.
    if os.name == "posix":
        app.parallel = max(app.parallel, min(cores(), MOST))
        kernels_talk_through_files()
        app.connect("builder-inited", declare)
    return {"version": "1", "parallel_read_safe": True}
