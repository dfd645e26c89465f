"""Where, when and with what a result was made: facts about a run that are not part of its identity."""

from __future__ import annotations

import contextlib
import datetime
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from labbook.lab import Config, Lab, the_lab
from labbook.machine import cpu_description
from labbook.paths import project_root
from labbook.runs import digests


def code_digest() -> str:
    """The digest of the lab's numeric modules."""
    return digests.code_digest(tuple(the_lab().numeric_modules))


def digests_of(facts: Mapping[str, Any]) -> set[str]:
    """The digests of the code that made a run: one, or more where it was resumed by other code than began it."""
    return {facts["code_digest"], *(sitting["code_digest"] for sitting in facts.get("sittings", ()))}


def made_by(facts: Mapping[str, Any], run_id: str = "") -> digests.Code:
    """Whose code made a run in all its sittings: today's, earlier code that gives the same numbers, or other."""
    return digests.made_by(digests_of(facts), run_id, code_digest())


def made_by_todays_code(facts: Mapping[str, Any], run_id: str = "") -> bool:
    """Whether a run's numbers are those of today's code: made by it, or by earlier code that gives the same."""
    return made_by(facts, run_id) != "other"


def _git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            # Without taking the index's lock, which a commit at that moment needs.
            ["git", "--no-optional-locks", *arguments],
            cwd=project_root(), capture_output=True, text=True, timeout=10, check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def peak_memory(lab: Lab, device: Any) -> dict[str, int]:
    """The largest memory so far: of the device where it counts its own, else this process's resident size."""
    if (own := lab.peak_memory(device)) is not None:
        return {"peak_memory_bytes": own}
    try:
        # Linux's ru_maxrss begins at the peak of the process that started this one.
        peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))[1]) * 1024
    except (OSError, TypeError):
        import resource  # not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"peak_memory_bytes": peak}


def forget_peak_memory() -> None:
    """Let :func:`peak_memory` of this process count from now on, where the system can: on Linux."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def describe(lab: Lab, config: Config, device: Any, threads: int) -> dict[str, Any]:
    """Return the provenance of a run that is about to be recorded."""
    # Results are data, made by this code: writing one does not make the tree another.
    changed = _git("status", "--porcelain", "--", ".", ":(exclude)results")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": cpu_description(),
        "threads": threads,
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version()} | {name: version(name) for name in lab.packages},
        "git_commit": _git("rev-parse", "HEAD"),
        "git_clean": None if changed is None else changed == "",
        "code_digest": code_digest(),
    } | lab.facts(config, device)
