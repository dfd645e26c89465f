"""Freed memory: kept by the process where the C library can."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cifarlab import allocator

# In a process of its own: what is told to malloc holds until its end.
STEPS = """
import resource
from cifarlab import allocator
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        bytearray(64 * 2**20).replace(b"0", b"1")   # written to: a step's large array, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), allocator.keep_freed_memory())
faults()
print(faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux") or Path("/etc/alpine-release").exists(),
                    reason="only glibc's malloc can be told")
def test_a_step_takes_its_memory_from_the_process_and_not_from_the_system():
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    mapped_anew, kept, taken_again = done.stdout.split()
    assert kept == "True"
    assert int(taken_again) < 1_000 < int(mapped_anew)


def test_elsewhere_nothing_is_told(monkeypatch):
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert allocator.keep_freed_memory() is False
