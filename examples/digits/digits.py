"""A small lab: handwritten digits of 8 x 8 pixels, and a network with or without a hidden layer."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from labbook.lab import Config, Lab
from pydantic import Field
from sklearn.datasets import load_digits
from torch import Tensor, nn


class DigitsConfig(Config):
    """Every choice that can change a run's numbers."""

    hidden: int = Field(0, ge=0, le=1024, description="units of the hidden layer; 0: none")
    learning_rate: float = Field(0.1, gt=0, le=10)
    batch_size: int = Field(32, ge=1)
    epochs: int = Field(20, ge=1, le=1000)
    seed: int = Field(0, ge=0)

    @property
    def name(self) -> str:
        """The beginning of a run's id."""
        return f"hidden{self.hidden}-e{self.epochs}-s{self.seed}"


def images() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Training and validation digits, every fourth held out: pixels (N, 64) float32 in 0..1, labels (N,) int64."""
    found = load_digits()
    pixels, labels = torch.tensor(found.data / 16, dtype=torch.float32), torch.tensor(found.target)
    held_out = torch.arange(len(labels)) % 4 == 0
    return (pixels[~held_out], labels[~held_out]), (pixels[held_out], labels[held_out])


def network(hidden: int) -> nn.Module:
    """Logits (N, 10) of pixels (N, 64): a linear classifier, or one with a hidden layer before it."""
    return nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10)) if hidden else nn.Linear(64, 10)


class DigitsTraining:
    """One run: the network, its optimizer and its history."""

    def __init__(self, config: DigitsConfig) -> None:
        self.config = config
        self.train_images, self.val_images = images()
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.model = network(config.hidden)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=config.learning_rate, momentum=0.9)
        self.history: list[dict[str, Any]] = []
        self.gradients: list[dict[str, Any]] = []
        self.diverged = False

    def epochs(self, on_step: Callable[[], object] | None = None) -> Iterator[dict[str, Any]]:
        """Train epoch after epoch, and yield each one's figures."""
        while len(self.history) < self.config.epochs and not self.diverged:
            epoch, started = len(self.history), time.perf_counter()
            # The order of the images is a function of seed and epoch: a run that goes on repeats no batch.
            order = torch.Generator().manual_seed(1000 * self.config.seed + epoch)
            pixels, labels = self.train_images
            for index in torch.randperm(len(labels), generator=order).split(self.config.batch_size):
                loss = F.cross_entropy(self.model(pixels[index]), labels[index])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                if on_step:
                    on_step()
            trained = time.perf_counter()
            train_loss, train_accuracy = self.score(self.train_images)
            val_loss, val_accuracy = self.score(self.val_images)
            self.diverged = not math.isfinite(train_loss)
            self.history.append({
                "epoch": epoch + 1, "train_loss": train_loss, "train_accuracy": train_accuracy, "val_loss": val_loss,
                "val_accuracy": val_accuracy, "learning_rate": self.config.learning_rate,
                "seconds": trained - started, "val_seconds": time.perf_counter() - trained,
            })
            yield self.history[-1]

    @torch.no_grad()
    def score(self, some: tuple[Tensor, Tensor]) -> tuple[float, float]:
        """Mean cross-entropy in nats, and accuracy as a fraction."""
        logits = self.model(some[0])
        return F.cross_entropy(logits, some[1]).item(), (logits.argmax(1) == some[1]).double().mean().item()

    def state_dict(self) -> dict[str, Any]:
        """Everything from which the run goes on."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                "history": self.history, "gradients": [], "diverged": self.diverged}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history, self.diverged = list(state["history"]), state["diverged"]

    def final(self) -> dict[str, Any]:
        """No further figures of the finished run."""
        return {}

    def weights(self) -> None:
        """The network is not kept: training it again takes a second."""


class DigitsLab(Lab):
    """What this lab hands to the machinery."""

    name = "digits"
    config = DigitsConfig
    presets: Mapping[str, Mapping[str, Any]] = {"smoke": {"epochs": 2}, "laptop": {}}
    numeric_modules = ("digits",)
    packages = ("torch", "scikit-learn")

    def training(self, config: DigitsConfig, device: Any) -> DigitsTraining:
        """A run before its first epoch."""
        return DigitsTraining(config)

    def dump(self, state: Mapping[str, Any]) -> bytes:
        """A training state as bytes."""
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        return buffer.getvalue()

    def load(self, content: bytes) -> dict[str, Any]:
        """What :meth:`dump` wrote; tensors and plain values only."""
        return torch.load(io.BytesIO(content), weights_only=True)

    def set_threads(self, count: int | None) -> int:
        """One thread: the network is too small for more."""
        torch.set_num_threads(1)
        return 1


LAB = DigitsLab()
