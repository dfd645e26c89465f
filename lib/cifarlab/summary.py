"""What a network is made of: its layers, parameters and multiply-accumulates; and the arithmetic of a whole run.

Reading this module needs no PyTorch; describing a network does. The book's networks are described once, in
``results/networks.json``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from cifarlab.config import RunConfig
from cifarlab.schedules import image_side, steps_per_epoch, trains_whitening_bias

if TYPE_CHECKING:
    from torch import nn

# The fields that decide which layers a network has.
SHAPE = ("model", "width", "depth", "kernel_size", "norm", "block_convolutions", "block_kernel_size")
WHOLE = 32   # the side of CIFAR-10's images in pixels


def shape(config: RunConfig) -> dict[str, Any]:
    """The fields of ``config`` that decide which layers its network has."""
    return {name: getattr(config, name) for name in SHAPE}


def layer_table(model: nn.Module, side: int = WHOLE) -> list[dict[str, Any]]:
    """Return one row per weighted layer or pooling, in the order in which an image of ``side`` pixels meets them.

    Keys: ``layer`` (dotted name), ``detail`` (kernel), ``kind``, ``output`` (shape without N), ``parameters``, ``macs``
    (multiply-accumulates per image of convolutions and linear layers; adding a bias counts as one).
    """
    import torch
    from torch import nn

    weighted = (nn.Conv2d, nn.Linear)
    names = {module: name for name, module in model.named_modules()}
    rows: list[dict[str, Any]] = []

    def note(module: nn.Module, _: object, output: torch.Tensor) -> None:
        parameters = sum(parameter.numel() for parameter in module.parameters())
        rows.append({
            "layer": names[module],
            "detail": _detail(module),
            "kind": type(module).__name__,
            "output": tuple(output.shape[1:]),
            "parameters": parameters,
            # Every parameter is used once for each pixel of the output.
            "macs": parameters * output[0, 0].numel() if isinstance(module, weighted) else 0,
        })

    hooks = [module.register_forward_hook(note) for module in names
             if isinstance(module, (*weighted, nn.BatchNorm2d, nn.GroupNorm, nn.MaxPool2d))]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, side, side))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return rows


def _detail(module: nn.Module) -> str:
    size = getattr(module, "kernel_size", None)
    height, width = size if isinstance(size, tuple) else (size, size)
    return f"{height} × {width}" if height else ""


def parameter_count(model: nn.Module) -> int:
    """The number of trainable values."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def sides(config: RunConfig) -> Counter[tuple[int, bool]]:
    """How many optimizer steps of a run see images of which side, and whether they train SpeedNet's first biases."""
    steps = config.epochs * steps_per_epoch(config)
    return Counter((image_side(config, step), trains_whitening_bias(config, step)) for step in range(steps))


def describe(config: RunConfig, also: Collection[int] = ()) -> dict[str, Any]:
    """Build the network of ``config`` and describe it.

    Keys: ``parameters`` (trainable values), ``layers`` (:func:`layer_table`), ``first_trained`` (the name of the first
    convolution that is trained) and ``macs``: for each side of image that the run sees, and those in ``also``, a
    dictionary of layer to multiply-accumulates.
    """
    from torch import nn

    from cifarlab import models

    model = models.build(config)
    convolutions = (name for name, layer in model.named_modules()
                    if isinstance(layer, nn.Conv2d) and layer.weight.requires_grad)
    seen = {WHOLE, *also, *(side for side, _ in sides(config))}
    return {
        "parameters": parameter_count(model),
        "layers": layer_table(model),
        "first_trained": next(convolutions),
        "macs": {side: {row["layer"]: row["macs"] for row in layer_table(model, side)} for side in sorted(seen)},
    }


def training_flops(config: RunConfig, network: Mapping[str, Any] | None = None) -> float:
    """Floating-point operations of a run's training: forward and both gradients of every convolution and product.

    Each multiply-accumulate is two operations, and the two gradients cost as much as the forward pass each. A first
    layer's gradients that nobody needs are counted too, a hundredth; but not those that SpeedNet's first trained
    convolution would pass on, ten times that, in steps that train nothing before it. ``network`` is the answer of
    :func:`describe`; without it the network is built.
    """
    network = network or describe(config)
    macs = 0.0
    for (side, trains_bias), steps in sides(config).items():
        of_layer = network["macs"][side]
        macs += steps * (3 * sum(of_layer.values()) - (0 if trains_bias else of_layer[network["first_trained"]]))
    return 2 * macs * config.train_images / steps_per_epoch(config)


def whole_image_flops(network: Mapping[str, Any]) -> float:
    """What :func:`training_flops` counts for one image of 32 x 32 pixels in a step that trains every layer."""
    return 6 * sum(network["macs"][WHOLE].values())
