"""What this machine's processor is, as far as it decides how fast a run is."""

from __future__ import annotations

import functools
import os
import platform
import re
import shutil
from pathlib import Path
from typing import Any


def cpu_description() -> dict[str, Any]:
    """The processor's model and the instruction sets that decide how fast bfloat16 is."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {"model": platform.processor() or platform.machine(), "instructions": []}
    model = re.search(r"model name\s*:\s*(.+)", text)
    flags = re.search(r"flags\s*:\s*(.+)", text)
    present = set(flags[1].split()) if flags else set()
    return {
        "model": model[1].strip() if model else platform.machine(),
        "instructions": [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in present],
    }


@functools.cache
def has_fast_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16 natively (AVX512-BF16 or AMX)."""
    return bool({"avx512_bf16", "amx_bf16"} & set(cpu_description()["instructions"]))


def compiler() -> str:
    """The C++ compiler that ``torch.compile`` calls: ``CXX``, or g++."""
    return (os.environ.get("CXX") or "g++").split()[0]


def has_compiler() -> bool:
    """Whether :func:`compiler` is here."""
    return shutil.which(compiler()) is not None


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
