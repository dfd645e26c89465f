"""The base of this lab's networks: a module with two hooks into the training loop, which do nothing by default."""

from __future__ import annotations

from torch import Tensor, nn

from cifarlab.config import RunConfig


class Network(nn.Module):
    """Takes images (N, 3, 32, 32) float32, returns logits (N, 10)."""

    # How many training images :meth:`prepare` wants to see; 0: none.
    prepare_images = 0

    def prepare(self, inputs: Tensor) -> None:
        """Set what is computed from the first training images, normalised (N, 3, 32, 32), before training."""

    def before_step(self, inputs: Tensor, step: int, config: RunConfig) -> Tensor:
        """Change the network or a batch before optimizer step ``step`` (from 0); return the batch."""
        return inputs
