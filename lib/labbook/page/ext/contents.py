"""Only pages of the contents are built, whatever the project's folder is called.

The extension that reads ``_toc.yml`` looks for other files by a pattern that begins with the folder's own path, so that
a path with brackets in it matches nothing and every stray notebook is built too.
"""

from __future__ import annotations

import glob
import os
from pathlib import Path


def only_listed(app, config) -> None:
    """Exclude each source file that the contents do not list, where the folder's path is itself a pattern."""
    if not glob.has_magic(str(app.srcdir)) or not config.external_toc_exclude_missing:
        return
    root, listed, unlisted = Path(app.srcdir), config.external_site_map, []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith((".", "_build"))]
        names = ((Path(folder) / name).relative_to(root).as_posix() for name in files)
        unlisted += [name for name in names for suffix in config.source_suffix
                     if name.endswith(suffix) and name not in listed and name.removesuffix(suffix) not in listed]
    config.exclude_patterns = [*config.exclude_patterns, *map(glob.escape, unlisted)]


def setup(app):
    app.connect("config-inited", only_listed, priority=950)   # after the contents are read
    return {"version": "1", "parallel_read_safe": True}
