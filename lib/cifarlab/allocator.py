"""What becomes of memory that a process frees: kept for its next step, not given back to the system in between."""

from __future__ import annotations

import ctypes
import sys

# mallopt(3)'s parameters, and "no limit".
M_TRIM_THRESHOLD, M_MMAP_MAX, NO_LIMIT = -1, -4, -1


def keep_freed_memory() -> bool:
    """Let glibc's malloc keep freed memory, for the rest of this process. Returns whether it does (glibc on Linux).

    By default every large array is mapped anew and unmapped when it is freed, and the system clears each of its pages
    at the first touch: a fifth of a training step on large batches. Kept, the pages serve the next step; numbers do not
    change, and the peak of memory hardly.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    return bool(mallopt and mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, NO_LIMIT))
