"""What this machine is: its processor, as far as it decides how fast a run is and how it rounds, cores, memory."""

from __future__ import annotations

import os
import platform
import re
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


def cores() -> int:
    """The processor cores that this process may use, at most as many as its container is granted."""
    from loky import cpu_count  # counts affinity, quota and the user's limit

    return cpu_count()


def free_memory() -> float:
    """The free memory in GB, at most what this process's container (cgroup v2) is granted and does not need."""
    import psutil

    free = psutil.virtual_memory().available
    if (limit := _granted("memory.max", r"(\d+)")) and (used := _granted("memory.current", r"(\d+)")):
        cached = _granted("memory.stat", r"inactive_file (\d+)") or 0  # of files, given back when asked for
        free = min(free, limit - used + cached)
    return free / 1e9


def _granted(name: str, pattern: str, folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The number in a file of what a Linux container is granted and uses; None where it is not there or not limited."""
    try:
        found = re.search(rf"^{pattern}$", (folder / name).read_text(), re.M)
    except OSError:
        return None
    return int(found[1]) if found else None
