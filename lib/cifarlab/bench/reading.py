"""What reading so many runs from the store takes, as a chapter does at its top; each number in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from cifarlab import provenance, store
from cifarlab.paths import runs_folder

RUNS = (10, 30, 100)


def measure() -> list[dict[str, Any]]:
    """``runs``, ``seconds`` and ``peak_memory_bytes`` of the process, for some of the store's runs up to all."""
    there = len(store.read_all())
    answers = []
    for count in (*(count for count in RUNS if count < there), there):
        done = subprocess.run(
            [sys.executable, "-m", "cifarlab.bench.reading", str(count)], stdout=subprocess.PIPE, text=True, check=True)
        answers.append(json.loads(done.stdout))
    return answers


def read(count: int) -> dict[str, Any]:
    """Read the first ``count`` runs here and say what it took."""
    ids = [path.stem for path in sorted(runs_folder().glob("*.json"))[:count]]
    provenance.forget_peak_memory()
    started = time.perf_counter()
    found = [store.read(run_id) for run_id in ids]
    store.history_frame([result for result in found if result])
    seconds = time.perf_counter() - started
    return {"runs": count, "seconds": seconds, **provenance.peak_memory()}


if __name__ == "__main__":
    print(json.dumps(read(int(sys.argv[1]))))
