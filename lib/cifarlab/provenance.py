"""Where, when and with what a result was made: facts about a run that are not part of its identity."""

from __future__ import annotations

import ast
import contextlib
import datetime
import functools
import hashlib
import itertools
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from cifarlab.paths import project_root
from cifarlab.processor import cpu_description

# The modules that can change a run's numbers.
NUMERIC_MODULES = (
    "data", "models", "optimizers", "precision", "processor", "schedules", "speednet", "streams", "training",
    "winograd",
)
# What they import beside each other, and why it need not be in the digest.
NOT_NUMERIC = {
    "checkpoints": "a test holds a resumed run to the uninterrupted one, bit for bit",
    "config": "a run's configuration is written in its result",
    "errors": "names of errors", "paths": "where files lie", "store": "reads and writes files",
}


# Digests of earlier code that gives the same numbers, and why; oldest first.
SAME_NUMBERS = {
    "4ba24fc3714a": "the digest was computed another way; since then only GPU settings and records of sittings changed",
    "e4a8656ef35b": "since then only the function that finds the dataset's folder moved to another module",
    "53f69c5cf282": "since then gradient norms are noted, blocks may have one convolution, prediction may mirror",
    "5d1a501bf4f9": "since then the optimizers moved to a module of their own, and a new network and Muon came",
    "9255b098597e": "since then processors without bfloat16 units have a way of their own; nothing changed for others",
    "20b69931ffc6":
        "since then large convolutions are computed another way where there are no bfloat16 units; "
        "the networks trained so were too narrow for it",
    "da488e20b22c":
        "since then Winograd's tiles are padded in one pass less, operands passed by name are rounded too, and "
        "one more of the dataset's files is checked",
    "2d3f3860539b":
        "since then numbers are read from the device only at an epoch's end, statistics of the pixels are copied to it "
        "once, and a network can be compiled, which is a choice of its own",
    "3d65de1277af": "since then a schedule was added, a warm-up without decay",
    "ad4388323dcb":
        "since then the dataset's files are checked once, to the same arrays, and Muon has Adam beside it for the "
        "networks that it was not made for",
    "f711aa70c9ec":
        "since then a checkpoint that does not fit is set aside, the fit on training images is a function of its own, "
        "and the digest sees the module that asks for the processor's units",
    "cef6fe4e58c6":
        "since then a processor with AVX512 but no units for bfloat16 convolves by the definition, and what a user "
        "holds PyTorch's library to counts; no run was made on the one or with the other",
    "4e29c242c847":
        "since then images may grow in several stages and SpeedNet's first biases be held, each a choice of its own; "
        "and first weights, which are drawn on the CPU, leave a GPU's random state alone",
}

# Runs for which a digest above does not hold, and why. A test finds any that should be here.
OTHER_NUMBERS = {
    "speednet-w64-e8-linear-s0-7c8fdc00":
        "its large convolutions would be computed by Winograd's algorithm today: the same but for float32's rounding",
}

# Digests that were computed in an earlier way, which differs between versions of Python, and what they are now, of the
# same code: first that of the numeric modules, then those of the benchmarks.
COMPUTED_ANEW = {
    "565a7cefde37": "4b13597ee23d",
    "a1f350a548a9": "75ea10fe1f3b",  # building
    "8be916b0e55c": "9070c06e2a6d",  # ceiling
    "26924870aeb2": "e5fe07f1453b",  # gpu
    "d2e2390000b5": "a7ca46f84f49",  # growth
    "af938af7316f": "c61c17fee1a5",  # loops
    "72716e866eb3": "46b42c8d12f1",  # operations
    "e3bf32d73cac": "fe5fa8097e30",  # packing
    "09ae756cf961": "f81026c868d5",  # processes
    "049a00d2d71e": "0743173609eb",  # products
    "a7253fc18fc2": "72d4647195b1",  # race
    "c6356937168f": "c7bbb6cfa4c9",  # trials
}

Code = Literal["today's", "same numbers", "other"]


def digests(facts: dict[str, Any]) -> set[str]:
    """The digests of the code that made a run: one, or more where it was resumed by other code than began it."""
    found = facts["code_digest"], *(sitting["code_digest"] for sitting in facts.get("sittings", []))
    return set(map(as_computed_today, found))


def as_computed_today(digest: str | None) -> str | None:
    """The digest that the same code has today, where it was computed in an earlier way; else as it is."""
    return COMPUTED_ANEW.get(digest, digest)


def made_by(facts: dict[str, Any], run_id: str = "") -> Code:
    """Whose code made a run in all its sittings: today's, earlier code judged to give the same numbers, or other.

    ``facts`` is the run's provenance; ``run_id`` tells whether it is one of the few that :data:`OTHER_NUMBERS` names.
    """
    found = digests(facts)
    if found == {code_digest()}:
        return "today's"
    return "same numbers" if found <= {code_digest(), *SAME_NUMBERS} and run_id not in OTHER_NUMBERS else "other"


def made_by_todays_code(facts: dict[str, Any], run_id: str = "") -> bool:
    """Whether a run's numbers are those of today's code: made by it, or by earlier code that gives the same."""
    return made_by(facts, run_id) != "other"


@functools.cache
def code_digest() -> str:
    """The :func:`digest_of` the numeric modules."""
    return digest_of(map(path_of, NUMERIC_MODULES))


def path_of(module: str) -> Path:
    """The file of one of the library's modules: ``training``, ``bench.point``."""
    return (Path(__file__).parent / module.replace(".", "/")).with_suffix(".py")


def reached(module: str, follow: Callable[[str], bool]) -> set[str]:
    """``module`` and the library's modules that it imports, they again, and so on; only those to ``follow``."""
    seen, todo = set(), [module]
    while todo:
        if (name := todo.pop()) in seen or not follow(name):
            continue
        seen.add(name)
        for node in ast.walk(ast.parse(path_of(name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "cifarlab":
                inner = node.module.removeprefix("cifarlab").lstrip(".")
                # What a package's name is followed by are modules.
                packaged = not path_of(inner).is_file()
                todo += [f"{inner}.{alias.name}".lstrip(".") for alias in node.names] if packaged else [inner]
    return seen


def digest_of(paths: Iterable[Path]) -> str:
    """Twelve hex digits of the code in these files: a comment or docstring does not change it."""
    digest = hashlib.sha256()
    for path in paths:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
                value = body[0].value
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    del body[0]
        digest.update(repr(_plain(tree)).encode())
    return digest.hexdigest()[:12]


def _plain(part: Any) -> Any:
    """A syntax tree as nested tuples of strings, the same under every version of Python.

    What is not there is left out, since later versions have more fields; and the text between an f-string's values is
    one piece, which is cut in other places from version to version.
    """
    if isinstance(part, ast.AST):
        fields = {name: value for name, value in ast.iter_fields(part) if value is not None and value != []}
        if isinstance(part, ast.JoinedStr):
            runs = itertools.groupby(fields.get("values", []), key=lambda value: isinstance(value, ast.Constant))
            fields["values"] = [
                piece for text, values in runs
                for piece in (["".join(value.value for value in values)] if text else values) if piece != ""]
        return type(part).__name__, *((name, _plain(value)) for name, value in fields.items())
    return tuple(map(_plain, part)) if isinstance(part, list) else ascii(part)


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


def peak_memory(device: Any = None) -> dict[str, int]:
    """The largest memory so far: of the GPU's tensors where ``device`` is one, else this process's resident size."""
    if device is not None and device.type == "cuda":
        import torch

        return {"peak_memory_bytes": torch.cuda.max_memory_allocated(device)}
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


def describe(device: Any, threads: int, dataset_md5: str | None) -> dict[str, Any]:
    """Return the provenance of a run that is about to be recorded; ``device`` is a ``torch.device``."""
    import torch

    on_gpu = device.type == "cuda"
    # Results are data, made by this code: writing one does not make the tree another.
    changed = _git("status", "--porcelain", "--", ".", ":(exclude)results")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "cpu": cpu_description(),
        "threads": threads,
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": {
            "python": platform.python_version(),
            "torch": version("torch"),
            "torchvision": version("torchvision"),
            "numpy": version("numpy"),
        },
        "dataset_md5": dataset_md5,
        "git_commit": _git("rev-parse", "HEAD"),
        "git_clean": None if changed is None else changed == "",
        "code_digest": code_digest(),
    }
