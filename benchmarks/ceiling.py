"""What could the processor do at most, in one large matrix product and in each bare convolution?"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import torch
from cifarlab import models
from cifarlab.config import RunConfig
from cifarlab.precision import multiplies_in
from torch import nn

from benchmarks.common import CPU, alternate, settle


def multiplied_in(precision: str, device: torch.device) -> torch.dtype:
    """The dtype in which ``device`` multiplies the numbers of a run in ``precision``."""
    return multiplies_in(precision) if device.type == "cpu" else getattr(torch, precision)


def matmul_rates(device: torch.device = CPU, size: int = 0, rounds: int = 8) -> dict[str, float]:
    """FLOP/s of one large square matrix product, in float32 and, where the device has units for it, in bfloat16.

    Args:
        size: the side; 0: as large as a device takes to be busy.
    """
    size = size or (8192 if device.type == "cuda" else 2048)
    config, *_ = settle(device.type)
    types = {torch.float32, multiplied_in(config.precision, device)}
    pairs = {str(kind).removeprefix("torch."): tuple(torch.randn(size, size, device=device).to(kind) for _ in range(2))
             for kind in sorted(types, key=str, reverse=True)}
    seconds = alternate({name: lambda pair=pair: pair[0] @ pair[1] for name, pair in pairs.items()}, rounds, device)
    return {name: 2 * size**3 / statistics.median(times) for name, times in seconds.items()}


def layer_shapes(config: RunConfig) -> dict[str, tuple[nn.Conv2d, torch.Size, torch.Size]]:
    """Each convolution of the network: the layer, and the shapes of its input and output for one image."""
    shapes: dict[str, tuple[nn.Conv2d, torch.Size, torch.Size]] = {}
    model = models.build(config).eval()
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda layer, inputs, output, name=name: shapes.update({name: (layer, inputs[0].shape, output.shape)}))
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    return shapes


def convolutions(config: RunConfig, device: torch.device = CPU, rounds: int = 5) -> list[dict[str, Any]]:
    """Each convolution of a step alone, by its definition, channels_last: milliseconds of its three parts.

    ``forward``, ``weights`` (the gradient of the filters), ``input`` (the gradient of the input; the first needs none).
    """
    dtype = multiplied_in(config.precision, device)
    rows = []
    for number, (name, (layer, inputs, outputs)) in enumerate(layer_shapes(config).items()):
        def tensor(shape: tuple) -> torch.Tensor:
            filled = torch.randn(config.batch_size, *shape[1:], device=device).to(dtype)
            return filled.contiguous(memory_format=torch.channels_last)

        x, y = tensor(inputs), tensor(outputs)
        w = layer.weight.detach().to(device, dtype).contiguous(memory_format=torch.channels_last)
        fixed = (None, layer.stride, layer.padding, layer.dilation, False, [0, 0], 1)

        def backward(mask: list[bool], x=x, y=y, w=w, fixed=fixed) -> object:
            return torch.ops.aten.convolution_backward(y, x, w, *fixed, mask)

        parts = {
            "forward": lambda x=x, w=w, layer=layer: nn.functional.conv2d(x, w, padding=layer.padding),
            "weights": lambda backward=backward: backward([False, True, False]),
        }
        if number:
            parts["input"] = lambda backward=backward: backward([True, False, False])
        seconds = alternate(parts, rounds, device)
        flops = 2 * config.batch_size * outputs[2] * outputs[3] * w.numel()
        rows.append({
            "layer": name, "flops": flops, "input": list(inputs[1:]), "output": list(outputs[1:]),
            "milliseconds": {part: 1e3 * statistics.median(times) for part, times in seconds.items()},
        })
    return rows


def measure(widths: tuple[int, ...] = (16, 64)) -> dict[str, Any]:
    """The matrix product's rates, and the bare convolutions of ResNet-9 at each width, on a GPU where there is one."""
    config, device, why = settle()
    return {
        "device": device.type, "precision": why, "matmul_flops": matmul_rates(device),
        "convolutions": {str(width): convolutions(config.with_(width=width), device) for width in widths},
    }


def lines(answer: Mapping[str, Any]) -> list[str]:
    """The matrix product's rates, and of each width the slowest and the fastest bare convolution."""
    rates = {width: [row["flops"] / took / 1e9 for row in rows for took in row["milliseconds"].values()]
             for width, rows in answer["convolutions"].items()}
    return [f"matrix product in {name}: {rate / 1e12:.2f} TFLOP/s" for name, rate in answer["matmul_flops"].items()] + [
        f"bare convolutions at width {width}: {min(found):.2f} to {max(found):.2f} TFLOP/s"
        for width, found in rates.items()]
