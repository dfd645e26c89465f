"""One run from its configuration to its file: what ``train.ipynb`` calls."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from cifarlab import data, precision, training
from cifarlab.allocator import keep_freed_memory
from cifarlab.config import RunConfig
from filelock import FileLock

from labbook import machine as processor
from labbook.errors import ConfigError, LabError
from labbook.paths import scratch_folder
from labbook.runs import checkpoints, execution, provenance, store


class DeviceError(LabError):
    """The device that was asked for is not there."""


def choose_device(name: str = "auto") -> torch.device:
    """``auto`` takes a GPU where there is one.

    Raises:
        DeviceError: a GPU was asked for and there is none, or the name is not known.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"device: {name!r} is not known. Allowed: auto, cpu, cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "device: 'cuda' was asked for, but PyTorch sees no GPU here. Use device auto or cpu, "
            "or install a driver and a CUDA build of torch."
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def resolve_precision(config: RunConfig, device: torch.device) -> tuple[RunConfig, str]:
    """Make ``precision: auto`` concrete. Returns the configuration and one line that says what was chosen and why."""
    if device.type == "cuda":
        # By default the question counts emulation, which every card has.
        units, where = torch.cuda.is_bf16_supported(including_emulation=False), torch.cuda.get_device_name(device)
    else:
        units, where = precision.has_fast_bfloat16(), "this processor"
    # A processor without units computes bfloat16 at least as fast as float32 (cifarlab.precision); a GPU does not.
    fast = units or device.type == "cpu"
    chosen = config.precision if config.precision != "auto" else "bfloat16" if fast else "float32"
    line = f"precision {chosen}" + ("" if config.precision == "auto" else ", as asked")
    if config.precision == "auto" or (chosen == "bfloat16" and not units):
        line += f": {where} has {'' if units else 'no '}bfloat16 units"
        line += "; rounded numbers are multiplied in float32" if chosen == "bfloat16" and not units else ""
    return config.with_(precision=chosen), line


def check_compiler(config: RunConfig, device: torch.device) -> None:
    """Refuse ``compiled`` where PyTorch has nothing to compile with, or would compile past what rounds the products.

    Raises:
        ConfigError: there is no C++ compiler (``CXX`` or g++) or, for a GPU, no Triton; or the run is in bfloat16 on a
            processor without units for it.
    """
    if not config.compiled:
        return
    there, needed = processor.has_compiler(), f"the C++ compiler {processor.compiler()}"
    if device.type == "cuda":
        there, needed = importlib.util.find_spec("triton") is not None, "the package triton"
    elif config.precision == "bfloat16" and not precision.has_fast_bfloat16():
        raise ConfigError(
            "compiled: True is refused with precision bfloat16 on a processor without units for it: there it is made "
            "of float32 products, which a compiler would pass by. Set precision to float32, or leave compiled False."
        )
    if not there:
        raise ConfigError(f"compiled: True needs {needed}, which is not here. Install it, or leave compiled False.")


def half_precision_bytes(model: torch.nn.Module) -> bytes:
    """The state of ``model`` as a file, floating-point values in float16: half the size, 13 MB for ResNet-9."""
    state = {
        name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def run(
    config: RunConfig,
    device: torch.device | None = None,
    threads: int | None = None,
    on_epoch: Callable[[list[dict[str, float]]], object] | None = None,
    on_step: Callable[[], object] | None = None,
) -> store.Result:
    """Return the result of ``config``: from the store, or by training (or resuming) it and writing its file.

    Two processes that ask for the same run at once train it once: the second waits and reads. A run that goes on keeps
    the number of threads that it began with, whatever ``threads`` says.

    Raises:
        ConfigError: ``threads`` is not a number from 1, or there is no compiler for ``compiled``. DatasetError,
        StoreError: see :mod:`cifarlab.data` and :mod:`labbook.runs.store`.
    """
    if threads is not None:
        if type(threads) is not int or threads < 1:
            raise ConfigError(f"threads: {threads!r} is refused: it must be a whole number from 1, or None for all.")
        torch.set_num_threads(threads)
    device = device or choose_device()
    if device.type == "cpu":
        keep_freed_memory()
    provenance.code_digest()  # once, of what is imported here: the files may be edited while another trains this run
    store.make_folder(scratch_folder())
    with FileLock(execution.lock_path(config.id)):
        if found := store.read(config.id):
            execution.clear(config.id)
            return found
        check_compiler(config, device)
        train_images, val_images = (part.to(device) for part in data.split(data.load(config), config))
        checkpoint, progress = execution.checkpoint_path(config.id), execution.progress_path(config.id)
        begun = begun_with(config.id)
        if begun and "threads" in begun:
            torch.set_num_threads(begun["threads"])  # with other threads sums are rounded in another order

        def note(epochs: int) -> None:
            store.write_text(progress, json.dumps({
                "epochs": epochs, "of": config.epochs, "threads": torch.get_num_threads()}))

        def report(history: list[dict[str, float]]) -> None:
            note(len(history))
            if on_epoch:
                on_epoch(history)

        if not begun:
            note(0)  # before there is a checkpoint, which would otherwise not say its threads after a kill

        facts = provenance.describe(
            device, torch.get_num_threads(), data.dataset_md5() if config.dataset == "cifar10" else None
        )
        started = time.perf_counter()
        trained = training.train(
            config, train_images, val_images, checkpoint, report, on_step,
            {name: facts[name] for name in ("date", "code_digest", "device", "cpu", "threads", "versions")},
        )
        with training.reproducible(device):  # on a GPU also: with float32's own products
            fit_score = training.fit_score(trained.model, train_images, config)
        earlier = trained.history[: trained.sittings[-1]["after_epochs"]]
        wall_seconds = time.perf_counter() - started + sum(row["seconds"] + row["val_seconds"] for row in earlier)
        store.write_bytes(execution.weights_path(config.id), half_precision_bytes(trained.model))
        result = make_result(config, trained, fit_score, wall_seconds, facts | provenance.peak_memory(device))
        store.put_aside_evidence(config.id)
        store.write(result)
        execution.clear(config.id)
    return result


def begun_with(run_id: str) -> dict[str, Any] | None:
    """What an unfinished run's note says of it, or without a note its checkpoint; None where there is none to go on."""
    checkpoint = execution.checkpoint_path(run_id)
    if not checkpoint.is_file():
        return None
    if noted := execution.progress_of(run_id):
        return noted
    state = checkpoints.load(checkpoint)
    return state and {"epochs": len(state["history"])} | state["sittings"][-1]


def make_result(
    config: RunConfig, trained: training.Trained, fit_score: tuple[float, float], wall_seconds: float,
    facts: dict[str, Any],
) -> store.Result:
    """Put a finished run into the form of its file.

    ``fit_score`` is the (loss, accuracy) on training images in evaluation mode. ``wall_seconds`` is the last
    sitting's, and of a resumed run what the epochs of earlier sittings took.
    """
    history = [{name: _finite(value) for name, value in row.items()} for row in trained.history]
    seconds = sum(row["seconds"] for row in trained.history)
    last = history[-1]
    final = {name: last[name] for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy")}
    return store.Result(
        schema_version=store.SCHEMA,
        id=config.id,
        config=config.model_dump(),
        history=history,
        final={
            **final,
            # The last steps can have spoiled a network of which no held-out image would tell.
            "diverged": trained.diverged or not math.isfinite(fit_score[0]),
            "fit_loss": _finite(fit_score[0]), "fit_accuracy": fit_score[1],
        },
        gradients=[
            {"step": row["step"], "norms": {name: _finite(norm) for name, norm in row["norms"].items()}}
            for row in trained.gradients
        ],
        provenance={
            **facts,
            "precision": config.precision,
            "wall_seconds": wall_seconds,
            "training_seconds": seconds,
            "images_per_second": config.train_images * len(history) / seconds,
            "sittings": trained.sittings,
        },
    )


def _finite(value: float | None) -> float | None:
    """JSON has no NaN; a value that is not a number is recorded as null."""
    return value if value is not None and abs(value) < float("inf") else None
