"""The loop: train, evaluate, checkpoint, resume. Everything here can change a run's numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifarlab import checkpoints, data, models
from cifarlab.config import RunConfig
from cifarlab.schedules import factor
from cifarlab.streams import stream, stream_seed

# The optimizer steps, counted from 0, at which each layer's gradient norm is noted: early, where networks differ most.
GRADIENT_STEPS = (0, 1, 3, 10, 30, 100, 300)


@dataclass(frozen=True)
class Trained:
    """The final model, one history row per finished epoch, and whether the loss stopped being a number.

    ``sittings`` says for each sitting after how many epochs it began, and what the caller said of it. ``gradients``
    holds one row per step of ``GRADIENT_STEPS``: the step and each layer's gradient norm.
    """

    model: nn.Module
    history: list[dict[str, float]]
    diverged: bool
    sittings: list[dict[str, Any]]
    gradients: list[dict[str, Any]]


def steps_per_epoch(config: RunConfig) -> int:
    """Optimizer steps in one epoch, as :func:`cifarlab.data.batches` cuts them."""
    whole, rest = divmod(config.train_images, config.batch_size)
    return whole + (rest > 1 or whole == 0)


def warmup_steps(config: RunConfig) -> int:
    """The warm-up's length in optimizer steps."""
    return round(config.warmup_epochs * steps_per_epoch(config))


def make_optimizer(config: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of ``config``. ``fused`` updates all parameters in one pass over memory."""
    shared = {"lr": config.learning_rate, "weight_decay": config.weight_decay, "fused": True}
    if config.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), momentum=config.momentum, **shared)
    adam = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return adam(model.parameters(), betas=(config.momentum, 0.999), **shared)


def learning_rate(config: RunConfig, step: int) -> float:
    """The rate of optimizer step ``step``, counted from 0 over the whole run."""
    total = config.epochs * steps_per_epoch(config)
    return config.learning_rate * factor(
        config.schedule, step, total, warmup_steps(config), config.warmup_offset
    )


def make_scheduler(config: RunConfig, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
    """The per-step schedule of ``config``."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate(config, step) / config.learning_rate
    )


def autocast(config: RunConfig, device: torch.device) -> torch.autocast:
    """Run convolutions and products in bfloat16 where ``config`` says so; the weights stay float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16")


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Choose algorithms whose result does not vary from run to run, and leave global random state as it was."""
    cudnn = torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False, allow_tf32=False)
    devices = [device] if device.type == "cuda" else []
    with cudnn, torch.random.fork_rng(devices=devices):
        yield


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """The L2 norm of the gradient of each convolution's and linear layer's weights, first layer first."""
    return {
        name.removesuffix(".weight"): parameter.grad.norm().item()
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and parameter.grad is not None
    }


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    images: data.Images,
    config: RunConfig,
    epoch: int,
    on_step: Callable[[], object] | None = None,
    gradients: list[dict[str, Any]] | None = None,
) -> tuple[float, float]:
    """One pass over ``images``. Returns the mean training (loss, accuracy) as met on the way, in training mode.

    Rows for the steps of ``GRADIENT_STEPS`` are added to ``gradients``.
    """
    device = images.pixels.device
    # Dropout layers know only PyTorch's global stream; it too is set from the run's seed and the epoch.
    torch.manual_seed(stream_seed(config.seed, "dropout", epoch))
    shuffle = stream(config.seed, "order", epoch)
    augmentation = stream(config.seed, "augmentation", epoch, device)
    # Sums stay on the device: reading one every step would make a GPU wait.
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    seen = 0
    model.train()
    first_step = epoch * steps_per_epoch(config)
    for step, (inputs, labels) in enumerate(data.batches(images, config, shuffle, augmentation), start=first_step):
        with autocast(config, device):
            logits = model(inputs)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
        loss.backward()
        if gradients is not None and step in GRADIENT_STEPS:
            gradients.append({"step": step, "norms": gradient_norms(model)})
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        scheduler.step()
        loss_sum += loss.detach() * len(labels)
        correct += (logits.argmax(1) == labels).sum()
        seen += len(labels)
        if on_step:
            on_step()
    return loss_sum.item() / seen, correct.item() / seen


@torch.no_grad()
def predict(
    model: nn.Module, images: data.Images, config: RunConfig, batch_size: int = 500, mirrored: bool = False
) -> Tensor:
    """Return logits (N, 10) float32 on the CPU, in evaluation mode, without augmentation.

    With ``mirrored`` they are the mean of the image's and its mirror image's: test-time augmentation by flip.
    """
    model.eval()
    device = images.pixels.device
    logits = []
    for pixels in images.pixels.split(batch_size):
        inputs = data.normalise(pixels, config.input_norm)
        with autocast(config, device):
            found = model(inputs).float()
            logits.append((found + model(inputs.flip(3)).float()) / 2 if mirrored else found)
    return torch.cat(logits).cpu()


def score(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the mean cross-entropy (nats) and the accuracy (fraction) of ``logits`` (N, 10)."""
    labels = labels.cpu()
    return F.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).double().mean().item()


def train(
    config: RunConfig,
    train_images: data.Images,
    val_images: data.Images,
    checkpoint: Path | None = None,
    on_epoch: Callable[[list[dict[str, float]]], object] | None = None,
    on_step: Callable[[], object] | None = None,
    sitting: dict[str, Any] | None = None,
) -> Trained:
    """Train the network of ``config`` on the device that holds the images.

    With ``checkpoint``, the state is saved after every epoch and a run that was killed goes on from there, to the same
    numbers bit for bit (same machine, same number of threads). Nothing of the random state needs saving: see
    :mod:`cifarlab.streams`. ``sitting`` (plain values: code, device, threads) is kept with it, so that a run made in
    several sittings says by what each was made. A loss that is not finite ends the run with ``diverged``.
    """
    device = train_images.pixels.device
    model = models.build(config).to(device, memory_format=torch.channels_last)
    optimizer = make_optimizer(config, model)
    scheduler = make_scheduler(config, optimizer)
    history: list[dict[str, float]] = []
    sittings: list[dict[str, Any]] = []
    gradients: list[dict[str, Any]] = []
    diverged = False
    if checkpoint and (state := checkpoints.load(checkpoint)):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        history, diverged = state["history"], state["diverged"]
        sittings, gradients = state["sittings"], state["gradients"]
        if on_epoch:
            on_epoch(history)
    sittings = [*sittings, {"after_epochs": len(history), **(sitting or {})}]

    with reproducible(device):
        for epoch in range(len(history), config.epochs):
            if diverged:
                break
            started = time.perf_counter()
            train_loss, train_accuracy = train_epoch(
                model, optimizer, scheduler, train_images, config, epoch, on_step, gradients
            )
            trained = time.perf_counter()
            val_loss, val_accuracy = score(predict(model, val_images, config), val_images.labels)
            diverged = not (math.isfinite(train_loss) and math.isfinite(val_loss))
            history.append({
                "epoch": epoch + 1,
                "train_loss": train_loss,
                "train_accuracy": train_accuracy,
                "val_loss": val_loss,
                "val_accuracy": val_accuracy,
                "learning_rate": learning_rate(config, (epoch + 1) * steps_per_epoch(config) - 1),
                "seconds": trained - started,
                "val_seconds": time.perf_counter() - trained,
            })
            if checkpoint:
                checkpoints.save(checkpoint, {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "scheduler": scheduler.state_dict(),
                    "history": history,
                    "diverged": diverged,
                    "sittings": sittings,
                    "gradients": gradients,
                })
            if on_epoch:
                on_epoch(history)
    return Trained(model, history, diverged, sittings, gradients)
