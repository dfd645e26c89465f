"""What memory the process that starts runs takes, for several of them; each number in a process of its own."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any

from cifarlab.config import PRESETS, RunConfig
from labbook.runs import execution, provenance

RUNS = (1, 2, 4, 8)


def measure() -> list[dict[str, Any]]:
    """``runs`` and ``peak_memory_bytes`` of the process that starts so many of the smallest, one after the other."""
    from benchmarks.measuring import points  # imports much that a process that starts runs does not need

    return [points([{"runs": count}], "starting")[0] for count in RUNS]


def start(runs: int) -> dict[str, Any]:
    """Train so many runs, as ``make results`` does, and say what memory this process needed."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CIFARLAB_RESULTS"] = folder
        provenance.forget_peak_memory()
        failures = execution.execute_all([RunConfig.of(**PRESETS["smoke"], seed=seed) for seed in range(runs)])
        found = provenance.peak_memory()
    if failures:
        raise execution.RunFailedError(f"{len(failures)} of {runs} runs failed: {failures[0]}")
    return found


if __name__ == "__main__":
    print(json.dumps(start(**json.loads(sys.argv[1]))))
