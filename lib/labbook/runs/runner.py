"""One run from its configuration to its file: what ``train.ipynb`` calls."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from labbook.errors import ConfigError
from labbook.lab import Config, Training, the_lab
from labbook.paths import scratch_folder
from labbook.runs import checkpoints, provenance, scratch, store
from labbook.runs.files import make_folder, quarantine, write_bytes

MOST_THREADS = 1024


def run(
    config: Config,
    device: Any = None,
    threads: int | None = None,
    on_epoch: Callable[[list[dict[str, Any]]], object] | None = None,
    on_step: Callable[[], object] | None = None,
) -> store.Result:
    """Return the result of ``config``: from the store, or by training (or resuming) it and writing its file.

    Two processes that ask for the same run at once train it once: the second waits and reads. A run that goes on keeps
    the number of threads that it began with, whatever ``threads`` says: sums are rounded in another order with others.

    Raises:
        ConfigError: ``threads`` is not a number from 1. DatasetError: the lab's data are missing. StoreError: see
        :mod:`labbook.runs.store`.
    """
    if threads is not None and (type(threads) is not int or not 1 <= threads <= MOST_THREADS):
        raise ConfigError(f"threads: {threads!r} is refused: it must be a whole number from 1 to {MOST_THREADS}, or "
                          "None for all.")
    if found := store.read(config.id):
        return found
    lab = the_lab()
    device = lab.choose_device() if device is None else device
    provenance.code_digest()  # once, of what is imported here: the files may be edited while another trains this run
    make_folder(scratch_folder())
    with scratch.lock(config.id):
        if found := store.read(config.id):
            scratch.clear(config.id)
            return found
        state = checkpoints.load(scratch.checkpoint_path(config.id), lab)
        threads = lab.set_threads(threads_of(state) or threads)
        facts = provenance.describe(lab, config, device, threads)
        training, sittings = begin(config, device, state)
        sittings.append({"after_epochs": len(training.history)} | {
            name: facts[name] for name in ("date", "code_digest", "device", "cpu", "threads", "versions")})

        def report() -> None:
            scratch.note(config.id, len(training.history), config.epochs)
            if on_epoch and training.history:
                on_epoch(training.history)

        report()
        earlier = sum(row["seconds"] + row["val_seconds"] for row in training.history)
        started = time.perf_counter()
        for _ in training.epochs(on_step):
            checkpoints.save(
                scratch.checkpoint_path(config.id), training.state_dict() | {"sittings": sittings}, lab)
            report()
        final = training.final()
        facts |= {"wall_seconds": earlier + time.perf_counter() - started} | provenance.peak_memory(lab, device)
        if weights := training.weights():
            write_bytes(scratch.weights_path(config.id), weights)
        result = make_result(config, training, final, facts, sittings)
        store.quarantine_evidence(config.id)
        store.write(result)
        scratch.clear(config.id)
    return result


def threads_of(state: Mapping[str, Any] | None) -> int | None:
    """The number of threads that a run under way began with; None where its state does not say."""
    try:
        found = state["sittings"][-1]["threads"]
    except (KeyError, IndexError, TypeError):
        return None
    return found if type(found) is int and 1 <= found <= MOST_THREADS else None


def begin(config: Config, device: Any, state: Mapping[str, Any] | None) -> tuple[Training, list[dict[str, Any]]]:
    """The run after its last finished epoch, which ``state`` holds, or before its first; and its sittings so far."""
    training = the_lab().training(config, device)
    if state is None:
        return training, []
    try:
        if not state["history"] or len(state["history"]) > config.epochs:
            raise ValueError(f"it has {len(state['history'])} epochs")
        training.load_state_dict(state)
        return training, list(state["sittings"])
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        if "out of memory" in str(error):  # of the card at this moment, not of the checkpoint
            raise
        path = scratch.checkpoint_path(config.id)
        quarantine(
            path,
            f"The checkpoint {path.name} is of another network or optimizer ({type(error).__name__})",
            checkpoints.AGAIN)
    return the_lab().training(config, device), []  # a part of the state may have been loaded


def make_result(
    config: Config, training: Training, final: dict[str, Any], facts: dict[str, Any], sittings: Sequence[dict[str, Any]]
) -> store.Result:
    """Put a finished run into the form of its file; ``final`` holds the lab's further figures of the finished run."""
    history = [{name: _finite(value) for name, value in row.items()} for row in training.history]
    seconds = sum(row["seconds"] for row in history)
    last = {name: history[-1][name] for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy")}
    # The last steps can have spoiled a network of which no held-out image would tell.
    spoiled = not all(math.isfinite(value) for value in final.values() if value is not None)
    images = getattr(config, "train_images", None)
    return store.Result.model_validate({
        "schema_version": store.SCHEMA,
        "id": config.id,
        "config": config.model_dump(),
        "history": history,
        "final": last | {"diverged": training.diverged or spoiled}
        | {name: _finite(value) for name, value in final.items()},
        "gradients": [
            {"step": row["step"], "norms": {name: _finite(norm) for name, norm in row["norms"].items()}}
            for row in training.gradients
        ],
        "provenance": facts | {
            "training_seconds": seconds,
            "images_per_second": images * len(history) / seconds if images and seconds else None,
            "sittings": sittings,
        },
    })


def _finite(value: float | None) -> float | None:
    """JSON has no NaN; a value that is not a number is recorded as null."""
    return value if value is not None and math.isfinite(value) else None
