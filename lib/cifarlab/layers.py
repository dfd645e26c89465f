"""What a network is made of, read off the model object: the layer table and the parameter count."""

from __future__ import annotations

from typing import Any

from torch import nn


def layer_table(model: nn.Module, side: int = 32) -> list[dict[str, Any]]:
    """Return one row per weighted layer or pooling, from one forward pass of one image of ``side`` pixels.

    Keys: ``layer`` (dotted name), ``detail`` (kernel), ``kind``, ``output`` (shape without N), ``parameters``, ``macs``
    (multiply-accumulates per image, of convolutions and linear layers).
    """
    from torchinfo import summary  # counts what a forward pass does; needed by chapters only

    model = model.eval()
    names = {id(module): name for name, module in model.named_modules()}
    report = summary(model, input_size=(1, 3, side, side), verbose=0, device="cpu")
    rows = []
    for layer in report.summary_list:
        weighted = isinstance(layer.module, nn.Conv2d | nn.Linear)
        normalises = isinstance(layer.module, nn.BatchNorm2d | nn.GroupNorm)
        if weighted or normalises or isinstance(layer.module, nn.MaxPool2d):
            rows.append({
                "layer": names[id(layer.module)],
                "detail": _detail(layer.module),
                "kind": type(layer.module).__name__,
                "output": tuple(layer.output_size[1:]),
                "parameters": sum(p.numel() for p in layer.module.parameters()),
                "macs": layer.macs if weighted else 0,
            })
    return rows


def _detail(module: nn.Module) -> str:
    size = getattr(module, "kernel_size", None)
    height, width = size if isinstance(size, tuple) else (size, size)
    return f"{height} × {width}" if height else ""


def parameter_count(model: nn.Module) -> int:
    """The number of trainable values."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
