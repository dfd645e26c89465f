"""Freed memory: kept by the process where the C library can, and never a change of numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

STEPS = """
import resource
import torch
from cifarlab import allocator
if {keep}:
    print(allocator.keep_freed_memory())
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.zeros(16 * 2**20).add_(1)   # 64 MiB: a step's large array, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def printed(keep: bool) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", STEPS.format(keep=keep)], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.skipif(not sys.platform.startswith("linux") or Path("/etc/alpine-release").exists(),
                    reason="only glibc's malloc can be told")
def test_a_step_takes_its_memory_from_the_process_and_not_from_the_system():
    kept, pages = printed(keep=True)
    (mapped_anew,) = printed(keep=False)
    assert kept == "True"
    assert int(pages) < 100 < int(mapped_anew)


def test_elsewhere_nothing_is_told(monkeypatch):
    from cifarlab import allocator

    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert allocator.keep_freed_memory() is False
