"""How much arithmetic a run takes, counted from its model object."""

from __future__ import annotations

from collections import Counter

from torch import nn

from cifarlab import layers, models, schedules
from cifarlab.config import RunConfig


def training_flops(config: RunConfig) -> float:
    """Floating-point operations of a run's training: forward and both gradients of every convolution and product.

    Each multiply-accumulate is two operations, and the two gradients cost as much as the forward pass each. A first
    layer's gradients that nobody needs are counted too, a hundredth; but not those that SpeedNet's first trained
    convolution would pass on, ten times that, in steps that train nothing before it.
    """
    model = models.build(config)
    first = next(name for name, layer in model.named_modules()
                 if isinstance(layer, nn.Conv2d) and layer.weight.requires_grad)
    an_epoch = schedules.steps_per_epoch(config)
    kinds = Counter((schedules.image_side(config, step), schedules.trains_whitening_bias(config, step))
                    for step in range(config.epochs * an_epoch))
    macs = 0.0
    for (side, trains_bias), steps in kinds.items():
        of_layer = {row["layer"]: row["macs"] for row in layers.layer_table(model, side)}
        macs += steps * (3 * sum(of_layer.values()) - (0 if trains_bias else of_layer[first]))
    return 2 * macs * config.train_images / an_epoch


def whole_image_flops(config: RunConfig) -> float:
    """What :func:`training_flops` counts for one image of 32 x 32 pixels in a step that trains every layer."""
    return 6 * sum(row["macs"] for row in layers.layer_table(models.build(config)))
