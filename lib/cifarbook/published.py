"""What others published of their fastest runs: quoted, never measured here."""

from __future__ import annotations

from typing import Any

import yaml
from labbook.paths import project_root


def speedruns() -> dict[str, Any]:
    """Source, machine and records (name, test accuracy as a fraction, seconds, petaflops) of the program raced here.

    ``time_is`` says which time of many runs a record's seconds are, ``minimum`` or ``mean``. Records of other programs
    are under ``elsewhere``, each with its own source and machine.
    """
    path = project_root() / "results" / "published" / "speedruns.yml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))
