"""What reading so many runs from the store takes, as a chapter does at its top; each number in a process of its own."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from labbook.paths import runs_folder
from labbook.runs import provenance, store

RUNS = (10, 30, 100)


def measure() -> list[dict[str, Any]]:
    """``runs``, ``seconds`` and ``peak_memory_bytes`` of the process, for some of the store's runs up to all."""
    from benchmarks.measuring import points  # imports PyTorch, which a process that reads does not need

    there = len(store.read_all())
    counts = (*(count for count in RUNS if count < there), there)
    return [points([{"runs": count}], "reading")[0] for count in counts]


def read(runs: int) -> dict[str, Any]:
    """Read the first so many runs here and say what it took."""
    ids = [path.stem for path in sorted(runs_folder().glob("*.json"))[:runs]]
    provenance.forget_peak_memory()
    started = time.perf_counter()
    found = [store.read(run_id) for run_id in ids]
    store.history_frame([result for result in found if result])
    seconds = time.perf_counter() - started
    return {"seconds": seconds, **provenance.peak_memory()}


if __name__ == "__main__":
    print(json.dumps(read(**json.loads(sys.argv[1]))))
