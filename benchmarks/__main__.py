"""Run benchmarks and write their answers: ``python -m benchmarks loops --folder results/bench-of-mine``."""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module

from cifarlab import data
from cifarlab.allocator import keep_freed_memory
from labbook.errors import LabError

from benchmarks.common import write

ON_A_PROCESSOR = (
    "loops", "ceiling", "operations", "trials", "processes", "products", "growth", "packing", "costs")
# Only when it is named.
ON_A_GPU = ("gpu",)


def main(argv: list[str] | None = None) -> int:
    """Measure, print the answer in a few lines, write it; a wrong argument or a missing dataset is one sentence."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = ON_A_PROCESSOR + ON_A_GPU
    # Not argparse's choices: with nargs="*" it would hold the empty list against them.
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(names)}; none: all but gpu")
    parser.add_argument("--folder", help="where the answers go (default: results/bench)")
    arguments = parser.parse_args(argv)
    if unknown := [name for name in arguments.names if name not in names]:
        parser.error(f"{unknown[0]!r} is no benchmark. There are: {', '.join(names)}.")
    try:
        data.check_files(data.cifar10_root())
        keep_freed_memory()  # as a run does
        for name in arguments.names or ON_A_PROCESSOR:
            script = import_module(f"benchmarks.{name}")
            started = time.monotonic()
            answer = script.measure() | {"wall_seconds": time.monotonic() - started}
            print(f"{name}: {(script.__doc__ or '').splitlines()[0]}", *script.lines(answer), sep="\n  ")
            print(f"  written to {write(name, answer, arguments.folder)}", flush=True)
    except LabError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
