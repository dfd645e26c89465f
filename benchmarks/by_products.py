"""A convolution whose filters' gradient is computed as matrix products, one a tap: tried by the benchmarks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ByProducts(nn.Conv2d):
    """``nn.Conv2d`` (stride 1, no bias); its filters' gradient is a product for each tap, of the input moved by it."""

    def forward(self, x: Tensor) -> Tensor:
        kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        return _Function.apply(x.to(kind), self.weight.to(kind), self.padding[0])


def by_products(layer: nn.Conv2d) -> ByProducts:
    """The same layer with the same filters."""
    other = ByProducts(layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.padding, bias=False)
    other.weight = layer.weight
    return other


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return nn.functional.conv2d(x, weight, padding=padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        p = ctx.padding
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, [1, 1], [p, p], [1, 1], False, [0, 0], 1, [True, False, False])[0]
        height, width = gradient.shape[2:]
        padded = nn.functional.pad(x, (p, p, p, p)).permute(0, 2, 3, 1)
        flat = gradient.permute(0, 2, 3, 1).reshape(-1, gradient.shape[1])
        d_weight = torch.empty_like(weight)
        for row in range(weight.shape[2]):
            for column in range(weight.shape[3]):
                seen = padded[:, row : row + height, column : column + width].reshape(len(flat), -1)
                d_weight[:, :, row, column] = flat.T @ seen
        return d_x, d_weight, None
