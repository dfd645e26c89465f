"""The training loop: one step, one epoch, a whole run. It takes images and a configuration, and knows no files."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifarlab import data, models
from cifarlab.config import FIT_IMAGES, RunConfig
from cifarlab.network import Network
from cifarlab.optimizers import make_optimizers
from cifarlab.precision import autocast, bfloat16_products
from cifarlab.schedules import learning_rate, steps_per_epoch
from cifarlab.streams import stream, stream_seed

Views = Literal["one", "mirror", "mirror_shift"]
Schedulers = Sequence[torch.optim.lr_scheduler.LRScheduler]
# The optimizer steps, counted from 0, at which each layer's gradient norm is noted: early, where networks differ most.
GRADIENT_STEPS = (0, 1, 3, 10, 30, 100, 300)


def make_schedulers(config: RunConfig, optimizers: Sequence[torch.optim.Optimizer]) -> Schedulers:
    """The schedule of ``config``, step by step, for each of its optimizers."""
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


def forward_backward(model: nn.Module, inputs: Tensor, labels: Tensor, config: RunConfig) -> tuple[Tensor, Tensor]:
    """Compute the mean loss (nats) of one batch and its gradients; returns the loss and the logits (B, 10)."""
    with autocast(config, inputs.device):
        logits = model(inputs)
    loss = F.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
    loss.backward()
    return loss.detach(), logits


def update(optimizers: Sequence[torch.optim.Optimizer], schedulers: Schedulers, device: torch.device) -> None:
    """Move the weights along their gradients, and the learning rate along its schedule."""
    with bfloat16_products(device):  # Muon multiplies matrices itself
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step()


def train_epoch(
    model: Network, optimizers: Sequence[torch.optim.Optimizer], schedulers: Schedulers, images: data.Images,
    config: RunConfig, epoch: int, on_step: Callable[[], object] | None = None,
) -> tuple[float, float, list[dict[str, Any]]]:
    """Train on every image once.

    Returns the mean loss (nats) and the accuracy as met on the way, in training mode, and a row of gradient norms for
    each step of ``GRADIENT_STEPS``. No number is read from the device before the last step: a GPU's host would wait.
    """
    device = images.pixels.device
    # Dropout layers know only PyTorch's global stream; it too is set from the run's seed and the epoch.
    torch.manual_seed(stream_seed(config.seed, "dropout", epoch))
    shuffle = stream(config.seed, "order", epoch)
    augmentation = stream(config.seed, "augmentation", epoch, device)
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    seen, norms = 0, {}

    model.train()
    batches = data.batches(images, config, shuffle, augmentation, epoch)
    for step, (inputs, labels) in enumerate(batches, start=epoch * steps_per_epoch(config)):
        inputs = model.before_step(inputs, step, config)
        loss, logits = forward_backward(model, inputs, labels, config)
        if step in GRADIENT_STEPS:
            norms[step] = gradient_norms(model)
        update(optimizers, schedulers, device)
        model.zero_grad(set_to_none=True)
        loss_sum += loss * len(labels)
        correct += (logits.argmax(1) == labels).sum()
        seen += len(labels)
        if on_step:
            on_step()

    gradients = [
        {"step": step, "norms": dict(zip(of_layer, torch.stack(list(of_layer.values())).tolist(), strict=True))}
        for step, of_layer in norms.items()
    ]
    return loss_sum.item() / seen, correct.item() / seen, gradients


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


class Training:
    """One run: a network, its optimizers and its history, on the device that holds the images.

    ``history`` has a row a finished epoch, ``gradients`` one for each step of ``GRADIENT_STEPS``. A loss that is not
    finite ends the run with ``diverged``. Nothing of the random state needs saving: see :mod:`cifarlab.streams`. So a
    run that goes on from its ``state_dict`` ends with the same numbers, bit for bit (same machine and threads).
    """

    def __init__(self, config: RunConfig, train_images: data.Images, val_images: data.Images) -> None:
        self.config, self.train_images, self.val_images = config, train_images, val_images
        self.device = train_images.pixels.device
        self.model = models.build(config).to(self.device, memory_format=torch.channels_last)
        if count := self.model.prepare_images:
            self.model.prepare(data.normalise(train_images.pixels[:count], config.input_norm))
        self.optimizers = make_optimizers(config, self.model)
        self.schedulers = make_schedulers(config, self.optimizers)
        self.history: list[dict[str, Any]] = []
        self.gradients: list[dict[str, Any]] = []
        self.diverged = False

    def epochs(self, on_step: Callable[[], object] | None = None) -> Iterator[dict[str, Any]]:
        """Train until the last epoch, or until the loss is no number; yield each finished epoch's row."""
        while len(self.history) < self.config.epochs and not self.diverged:
            with reproducible(self.device):
                self.history.append(row := self._epoch(len(self.history), on_step))
            losses = [row[name] for name in ("train_loss", "val_loss") if row[name] is not None]
            self.diverged = not all(map(math.isfinite, losses))
            yield row

    def _epoch(self, epoch: int, on_step: Callable[[], object] | None) -> dict[str, Any]:
        started = time.perf_counter()
        train_loss, train_accuracy, gradients = train_epoch(
            self.model, self.optimizers, self.schedulers, self.train_images, self.config, epoch, on_step)
        trained = time.perf_counter()
        val_loss = val_accuracy = None
        if len(self.val_images):
            val_loss, val_accuracy = score(
                predict(self.model, self.val_images, self.config), self.val_images.labels)
        self.gradients += gradients
        return {
            "epoch": epoch + 1,
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "learning_rate": learning_rate(self.config, (epoch + 1) * steps_per_epoch(self.config) - 1),
            "seconds": trained - started,
            "val_seconds": time.perf_counter() - trained,
        }

    def final(self) -> dict[str, float]:
        """Loss and accuracy on training images of the network as it is now, in evaluation mode: :func:`fit_score`."""
        with reproducible(self.device):  # on a GPU also: TF32 off
            loss, accuracy = fit_score(self.model, self.train_images, self.config)
        return {"fit_loss": loss, "fit_accuracy": accuracy}

    def weights(self) -> bytes:
        """The network's state in PyTorch's format, floating-point values in float16: 13 MB for ResNet-9."""
        state = {
            name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
            for name, value in self.model.state_dict().items()
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        return buffer.getvalue()

    def state_dict(self) -> dict[str, Any]:
        """Everything from which the run goes on to the same numbers."""
        return {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
            "history": self.history, "gradients": self.gradients, "diverged": self.diverged,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned.

        Raises:
            KeyError, ValueError, RuntimeError: it is of another network or optimizer.
        """
        self.model.load_state_dict(state["model"])
        for objects, states in ((self.optimizers, state["optimizers"]), (self.schedulers, state["schedulers"])):
            for one, its_state in zip(objects, states, strict=True):
                one.load_state_dict(its_state)
        self.history, self.gradients = list(state["history"]), list(state["gradients"])
        self.diverged = state["diverged"]
