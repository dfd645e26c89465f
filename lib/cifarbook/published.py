"""What others published of their fastest runs: quoted, never measured here."""

from __future__ import annotations

from typing import Any

import yaml
from labbook.paths import project_root


def speedruns() -> dict[str, Any]:
    """Source, machine and records (name, test accuracy as a fraction, seconds, petaflops)."""
    path = project_root() / "results" / "published" / "speedruns.yml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))
