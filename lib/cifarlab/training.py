"""The loop: train, evaluate, checkpoint, resume. Everything here can change a run's numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from labbook.runs import checkpoints, store
from torch import Tensor, nn

from cifarlab import data, models
from cifarlab.config import FIT_IMAGES, RunConfig
from cifarlab.optimizers import make_optimizers
from cifarlab.precision import autocast, bfloat16_products
from cifarlab.schedules import image_side, learning_rate, steps_per_epoch, trains_whitening_bias
from cifarlab.speednet import WHITENING_IMAGES, SpeedNet
from cifarlab.streams import stream, stream_seed

Views = Literal["one", "mirror", "mirror_shift"]
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


def make_schedulers(
    config: RunConfig, optimizers: Sequence[torch.optim.Optimizer]
) -> list[torch.optim.lr_scheduler.LambdaLR]:
    """The per-step schedule of ``config`` for each of its optimizers."""
    def rate(step: int) -> float:
        return learning_rate(config, step) / config.learning_rate

    return [torch.optim.lr_scheduler.LambdaLR(optimizer, rate) for optimizer in optimizers]


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Choose algorithms whose result does not vary from run to run, and leave global random state as it was."""
    cudnn = torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False, allow_tf32=False)
    devices = [device] if device.type == "cuda" else []
    with cudnn, torch.random.fork_rng(devices=devices):
        yield


def gradient_norms(model: nn.Module) -> dict[str, Tensor]:
    """The L2 norm of the gradient of each convolution's and linear layer's weights, first layer first."""
    return {
        name.removesuffix(".weight"): parameter.grad.norm()
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and parameter.grad is not None
    }


def train_epoch(
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    schedulers: Sequence[torch.optim.lr_scheduler.LRScheduler],
    images: data.Images,
    config: RunConfig,
    epoch: int,
    on_step: Callable[[], object] | None = None,
    gradients: list[dict[str, Any]] | None = None,
) -> tuple[float, float]:
    """One pass over ``images``. Returns the mean training (loss, accuracy) as met on the way, in training mode.

    Rows for the steps of ``GRADIENT_STEPS`` are added to ``gradients``. No number is read from the device before the
    last step: on a GPU, the host would wait for it.
    """
    device = images.pixels.device
    # Dropout layers know only PyTorch's global stream; it too is set from the run's seed and the epoch.
    torch.manual_seed(stream_seed(config.seed, "dropout", epoch))
    shuffle = stream(config.seed, "order", epoch)
    augmentation = stream(config.seed, "augmentation", epoch, device)
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    seen = 0
    norms: dict[int, dict[str, Tensor]] = {}
    model.train()
    cut = data.batches(images, config, shuffle, augmentation, epoch)
    first_step = epoch * steps_per_epoch(config)
    for step, (inputs, labels) in enumerate(cut, start=first_step):
        if (side := image_side(config, step)) < 32:
            inputs = F.interpolate(inputs, size=side, mode="bilinear", antialias=True)
        if isinstance(model, SpeedNet):
            # Once they are held, no gradient passes through the first trained convolution to its input.
            model.whitening.bias.requires_grad_(trains_whitening_bias(config, step))
        with autocast(config, device):
            logits = model(inputs)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
        loss.backward()
        if gradients is not None and step in GRADIENT_STEPS:
            norms[step] = gradient_norms(model)
        with bfloat16_products(device):  # Muon's
            for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
                optimizer.step()
                scheduler.step()
        model.zero_grad(set_to_none=True)
        loss_sum += loss.detach() * len(labels)
        correct += (logits.argmax(1) == labels).sum()
        seen += len(labels)
        if on_step:
            on_step()
    for step, of_layer in norms.items():
        values = torch.stack(list(of_layer.values())).tolist()
        gradients.append({"step": step, "norms": dict(zip(of_layer, values, strict=True))})
    return loss_sum.item() / seen, correct.item() / seen


def weighted_views(inputs: Tensor, views: Views) -> list[tuple[float, Tensor]]:
    """The views (N, 3, 32, 32) over which :func:`predict` averages, with their weights."""
    if views == "one":
        return [(1.0, inputs)]
    if views == "mirror":
        return [(0.5, inputs), (0.5, inputs.flip(3))]
    side = inputs.shape[3]
    padded = F.pad(inputs, (1, 1, 1, 1), mode="reflect")
    moved = [padded[:, :, place : place + side, place : place + side] for place in (0, 2)]
    straight = [(0.25, inputs), *((0.125, view) for view in moved)]
    return straight + [(weight, view.flip(3)) for weight, view in straight]


@torch.no_grad()
def predict(
    model: nn.Module, images: data.Images, config: RunConfig, batch_size: int = 500, views: Views = "one"
) -> Tensor:
    """Return logits (N, 10) float32 on the CPU, in evaluation mode, without augmentation.

    ``views`` is test-time augmentation: with ``mirror`` the mean over the image and its mirror image; with
    ``mirror_shift`` half of that and half of the same for the image moved by one pixel up and left, and down and right.
    """
    model.eval()
    device = images.pixels.device
    logits = []
    for pixels in images.pixels.split(batch_size):
        inputs = data.normalise(pixels, config.input_norm)
        with autocast(config, device):
            logits.append(sum(weight * model(view).float() for weight, view in weighted_views(inputs, views)))
    return torch.cat(logits).cpu()


def score(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the mean cross-entropy (nats) and the accuracy (fraction) of ``logits`` (N, 10)."""
    labels = labels.cpu()
    return F.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).double().mean().item()


def fit_score(model: nn.Module, train_images: data.Images, config: RunConfig) -> tuple[float, float]:
    """The :func:`score` on the first training images, without augmentation and with the network in evaluation mode."""
    fit = data.Images(train_images.pixels[:FIT_IMAGES], train_images.labels[:FIT_IMAGES])
    return score(predict(model, fit, config), fit.labels)


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
    if isinstance(model, SpeedNet):
        model.whiten(data.normalise(train_images.pixels[:WHITENING_IMAGES], config.input_norm))
    optimizers = make_optimizers(config, model)
    schedulers = make_schedulers(config, optimizers)
    if config.compiled:
        # In place, so that the names of its parameters stay. "reduce-overhead" is CUDA graphs: on a GPU the host then
        # starts one thing a step instead of hundreds.
        model.compile(mode="reduce-overhead" if device.type == "cuda" else "default", dynamic=False)
    history: list[dict[str, float]] = []
    sittings: list[dict[str, Any]] = []
    gradients: list[dict[str, Any]] = []
    diverged = False
    if checkpoint and (state := checkpoints.load(checkpoint)):
        try:
            model.load_state_dict(state["model"])
            for objects, states in ((optimizers, state["optimizers"]), (schedulers, state["schedulers"])):
                for one, its_state in zip(objects, states, strict=True):
                    one.load_state_dict(its_state)
        except torch.OutOfMemoryError:  # a RuntimeError that says nothing of the checkpoint
            raise
        except (KeyError, ValueError, RuntimeError) as error:
            store.put_aside(
                checkpoint, f"The checkpoint {checkpoint.name} is of another network or optimizer "
                f"({type(error).__name__})", "The run starts from its first epoch.")
            return train(config, train_images, val_images, checkpoint, on_epoch, on_step, sitting)
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
                model, optimizers, schedulers, train_images, config, epoch, on_step, gradients
            )
            trained = time.perf_counter()
            val_loss = val_accuracy = None
            if len(val_images):
                val_loss, val_accuracy = score(predict(model, val_images, config), val_images.labels)
            diverged = not all(math.isfinite(loss) for loss in (train_loss, val_loss) if loss is not None)
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
                    "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                    "schedulers": [scheduler.state_dict() for scheduler in schedulers],
                    "history": history,
                    "diverged": diverged,
                    "sittings": sittings,
                    "gradients": gradients,
                })
            if on_epoch:
                on_epoch(history)
    return Trained(model, history, diverged, sittings, gradients)
