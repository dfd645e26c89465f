"""Side by side on one machine: the published program airbench94_muon.py (Jordan 2024) and this library's speedrun.

The program is not part of this project. It is read from where the reader keeps a copy (``AIRBENCH94``), and only what
ties it to one kind of GPU is changed: device, half precision, compilation, its clock, and the number of runs. It runs
as it comes, and once more with the memory it frees kept, which ours does and which needs no change of a program.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from cifarbook import final_test
from cifarlab import data, precision, training
from cifarlab.config import RunConfig
from labbook.studies import study as studies

from benchmarks.answers import BenchmarkError

HOME = "https://github.com/KellerJordan/cifar10-airbench"
# The speedrun's quoted recipe.
LEVEL = "9 epochs, 5 of them at 24 × 24, batches of 1,000"
# What cifarlab.allocator sets, as glibc reads it from the environment; the limit is as good as none.
KEEPING_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62)}
# (what the program says, what it says on a processor); each must be there.
CHANGES = (
    ("@torch.compile\n", ""),
    ('torch.device("cuda")', 'torch.device("cpu")'),
    ("self.images.half() / 255", "self.images.float() / 255"),
    ("                mod.half()", "                mod.float()"),
    ("CifarNet().cuda()", "CifarNet()"),
    ('    model.compile(mode="max-autotune")\n', ""),
    ('    main("warmup", model)\n', ""),
    ("main(run, model) for run in range(200)", "main(run, model) for run in range(1)"),
    ("starter = torch.cuda.Event(enable_timing=True)", "import time"),
    ("ender = torch.cuda.Event(enable_timing=True)", "started = 0.0"),
    ("        starter.record()", "        nonlocal started; started = time.perf_counter()"),
    ("        ender.record()\n        torch.cuda.synchronize()\n", ""),
    ("1e-3 * starter.elapsed_time(ender)", "time.perf_counter() - started"),
)
IN_BFLOAT16 = (
    ("outputs = model(inputs, whiten_bias_grad=(step < whiten_bias_train_steps))",
     "with torch.autocast('cpu', torch.bfloat16): "
     "outputs = model(inputs, whiten_bias_grad=(step < whiten_bias_train_steps))\n"
     "            outputs = outputs.float()"),
    ("    with torch.no_grad():\n", "    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):\n"),
)


def adapted(program: str, bfloat16: bool) -> str:
    """The program's text for a processor.

    Raises:
        BenchmarkError: it is another version, and a place that should be changed is not there.
    """
    for old, new in CHANGES + (IN_BFLOAT16 if bfloat16 else ()):
        if old not in program:
            raise BenchmarkError(f"AIRBENCH94: no {old.strip()!r} in this file; is it airbench94_muon.py of {HOME}?")
        program = program.replace(old, new)
    return program


def their_run(
    program: str, train_images: data.Images, test_images: data.Images, environment: Mapping[str, str] | None = None
) -> dict[str, float]:
    """One run of the adapted program: its own seconds (whitening, training, final evaluation) and test accuracy.

    ``environment``: variables that it is started with.

    Raises:
        BenchmarkError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cifar10").mkdir()
        for name, images in (("train", train_images), ("test", test_images)):
            torch.save(
                {"images": images.pixels, "labels": images.labels, "classes": []},
                Path(folder) / "cifar10" / f"{name}.pt",
            )
        (Path(folder) / "program.py").write_text(program, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "program.py"], cwd=folder, capture_output=True, text=True,
            env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())} | (environment or {}),
        )
    last = re.search(r"\|\s+eval\s+\|(.+)", done.stdout)
    if done.returncode or not last:
        *_, why = ["it printed no row 'eval'", *done.stderr.strip().splitlines()]
        raise BenchmarkError(f"the program in AIRBENCH94 ended with exit status {done.returncode}: {why}")
    *_, accuracy, seconds = (float(cell) for cell in last[1].split("|") if cell.strip())
    return {"seconds": seconds, "test_accuracy": accuracy}


def our_run(config: RunConfig, train_images: data.Images, test_images: data.Images) -> dict[str, float]:
    """One run of ``config``: seconds (whitening, training, final evaluation) and test accuracy, as the program counts.

    The file of no run is written: seeds here are the race's own.
    """
    config = config.with_(train_images=len(train_images), val_images=0)
    started = time.perf_counter()
    trained = training.train(config, train_images, data.synthetic(0))
    logits = training.predict(trained.model, test_images, config, views=final_test.SPEEDRUN_VIEWS)
    return {
        "seconds": time.perf_counter() - started,
        "test_accuracy": training.score(logits, test_images.labels)[1],
    }


def measure(rounds: int = 1, level: str = LEVEL, first_seed: int = 1000) -> dict[str, Any]:
    """The program as it comes, the program keeping its memory, and a level of the speedrun, in turn.

    Raises:
        BenchmarkError: ``AIRBENCH94`` does not name the program's file.
    """
    place = os.environ.get("AIRBENCH94", "")
    if not Path(place).is_file():
        raise BenchmarkError(f"AIRBENCH94: {place!r} is no file; name your copy of airbench94_muon.py ({HOME})")
    bfloat16 = precision.has_fast_bfloat16()
    program = adapted(Path(place).read_text(encoding="utf-8"), bfloat16)
    train_images, test_images = data.load_cifar10(train=True), data.load_cifar10(train=False)
    study = studies.load("speedrun")
    config = study.config(level, 0)
    theirs, kept, ours = [], [], []
    for number in range(rounds):
        theirs.append(their_run(program, train_images, test_images))
        kept.append(their_run(program, train_images, test_images, KEEPING_MEMORY))
        ours.append(our_run(config.with_(seed=first_seed + number), train_images, test_images))
    return {
        "precision": {"theirs": "bfloat16" if bfloat16 else "float32", "ours": config.precision},
        "level": level, "theirs": theirs, "theirs_keeping_memory": kept, "ours": ours,
        "ratio": [a["seconds"] / b["seconds"] for a, b in zip(theirs, ours, strict=True)],
    }
