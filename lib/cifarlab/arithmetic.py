"""How much arithmetic a run takes, counted from its model object."""

from __future__ import annotations

from cifarlab import layers, models
from cifarlab.config import RunConfig


def training_flops(config: RunConfig) -> float:
    """Floating-point operations of a run's training: forward and both gradients of every convolution and product.

    Each multiply-accumulate is two operations, and the two gradients cost as much as the forward pass each. A first
    layer's gradients that nobody needs are counted too, a hundredth.
    """
    model = models.build(config)

    def macs(side: int) -> int:
        return sum(row["macs"] for row in layers.layer_table(model, side))

    small = min(config.low_resolution_epochs, config.epochs) if config.low_resolution else 0.0
    images = small * macs(config.low_resolution) if small else 0.0
    return 6.0 * config.train_images * (images + (config.epochs - small) * macs(32))
