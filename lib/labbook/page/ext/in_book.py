"""Tell the chapters that the website is built: figures and sentences then stand in the prose, not below their cells."""

from __future__ import annotations

import os

from labbook.page.chapter import IN_BOOK


def setup(app):
    os.environ[IN_BOOK] = "1"
    return {"version": "1", "parallel_read_safe": True}
