"""What this machine's processor is, as far as it decides how fast a run is."""

from __future__ import annotations

import os
import platform
import re
import shutil
from pathlib import Path
from typing import Any

# The instruction sets that decide how fast products are, smallest first; and how many of them PyTorch's library uses
# at most where a user holds it to less by the variable ONEDNN_MAX_CPU_ISA.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
HELD_TO = {
    "SSE41": 0, "AVX": 0, "AVX2": 1, "AVX2_VNNI": 1, "AVX512_CORE": 2, "AVX512_CORE_VNNI": 2, "AVX512_CORE_BF16": 3,
}


def cpu_description() -> dict[str, Any]:
    """The processor's model, and of the instruction sets that decide how fast products are those that may be used;
    ``held_to`` says where a user allows fewer than there are.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {"model": platform.processor() or platform.machine(), "instructions": []}
    model = re.search(r"model name\s*:\s*(.+)", text)
    flags = re.search(r"flags\s*:\s*(.+)", text)
    present = set(flags[1].split()) if flags else set()
    held_to = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    used = INSTRUCTIONS[: HELD_TO.get(held_to, len(INSTRUCTIONS))]
    return {
        "model": model[1].strip() if model else platform.machine(),
        "instructions": [name for name in used if name in present],
    } | ({"held_to": held_to} if held_to in HELD_TO else {})


def compiler() -> str:
    """The C++ compiler that ``torch.compile`` calls: ``CXX``, or g++."""
    return (os.environ.get("CXX") or "g++").split()[0]


def has_compiler() -> bool:
    """Whether :func:`compiler` is here."""
    return shutil.which(compiler()) is not None


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
