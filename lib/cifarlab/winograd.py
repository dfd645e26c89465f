"""3 × 3 convolutions with a third to a quarter of the multiplications, for processors that compute them in float32.

Winograd's minimal filtering (Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks"): a tile of
``m`` × ``m`` outputs takes ``(m + 2)²`` multiplications for each pair of channels where the definition takes ``9 m²``.
A tile is a product of polynomials, and a product is cheap where both are known by their values at ``m + 2`` points:
``output = A'[(G filter G') * (B' tile B)]A``. What stands between the brackets is summed over the input channels, so
over all tiles it is one matrix product for each of the ``(m + 2)²`` positions.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

# Tiles taken through all steps together: their intermediate values then stay in the processor's cache.
TILES_AT_ONCE = 128
# Below these the transforms cost more than the multiplications that they save.
FEWEST_CHANNELS = 32
FEWEST_PRODUCTS = 6_000_000  # multiply-accumulates of the layer for one image


class Transforms(NamedTuple):
    """The three linear maps of one tile size, each over rows and columns at once; float32."""

    inputs: Tensor  # ((m + 2)², (m + 2)²), of a flattened tile
    filters: Tensor  # ((m + 2)², 9), of a flattened filter
    outputs: Tensor  # (m², (m + 2)²), back to the tile's outputs


@functools.cache
def transforms(m: int) -> Transforms:
    """The maps for tiles of ``m`` × ``m`` outputs (1 to 4), from the points 0, 1, -1, 2, -2 and infinity."""
    points = [0, 1, -1, 2, -2][: m + 1]
    others = [[q for q in points if q != p] for p in points]
    last = np.eye(m + 2)[-1:]
    inputs = np.vstack([*(np.append(np.poly(rest)[::-1], 0) for rest in others), np.poly(points)[::-1]])
    scale = np.array([np.prod([p - q for q in rest]) for p, rest in zip(points, others, strict=True)])
    filters = np.vstack([np.vander(points, 3, increasing=True) / scale[:, None], last[:, -3:]])
    outputs = np.vstack([np.vander(points, m, increasing=True), last[:, -m:]]).T
    return Transforms(*(torch.from_numpy(np.kron(one, one)).float() for one in (inputs, filters, outputs)))


def tile_side(height: int, width: int) -> int:
    """The tile that takes the fewest multiplications for an output of this size, borders that hang over included."""
    return min((4, 3, 2), key=lambda m: -(-height // m) * -(-width // m) * (m + 2) ** 2)


def pays(input: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
         groups: int = 1) -> bool:  # fmt: skip
    """Whether this call of ``F.conv2d`` can be done by :func:`conv2d`, and is large enough to gain from it."""
    if tuple(weight.shape[2:]) != (3, 3) or bias is not None or input.dim() != 4:
        return False
    plain = all(value in (1, (1, 1)) for value in (stride, padding, dilation, groups))
    channels, products = min(weight.shape[:2]), 9 * weight.shape[0] * weight.shape[1] * input.shape[2] * input.shape[3]
    return plain and channels >= FEWEST_CHANNELS and products >= FEWEST_PRODUCTS


def conv2d(input: Tensor, weight: Tensor) -> Tensor:
    """``F.conv2d(input, weight, padding=1)``, computed in float32 and returned in the input's dtype, NCHW.

    ``input`` is ``(N, C, H, W)``, ``weight`` ``(K, C, 3, 3)``; the result is stored channels last. Differs from the
    definition by the rounding of float32 (about 1e-5 of the largest value). Gradients go the same way; nothing larger
    than ``input`` is kept for them.
    """
    with torch.autocast("cpu", enabled=False):
        return _Convolution.apply(input, weight)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(input, weight)
        grid = _Grid(input)
        filters = _transformed_filters(weight, grid.m).transpose(1, 2)
        result = input.new_empty(len(input), grid.height, grid.width, len(weight))
        to_outputs = transforms(grid.m).outputs
        images = input.permute(0, 2, 3, 1)
        for some in grid.portions:
            products = torch.bmm(grid.tiles(images[some]), filters)
            result[some] = grid.joined(to_outputs @ products.flatten(1), len(images[some]))
        return result.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        input, weight = ctx.saved_tensors
        with torch.autocast("cpu", enabled=False):
            return _Convolution._gradients(input, weight, gradient)

    @staticmethod
    def _gradients(input: Tensor, weight: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        grid = _Grid(input)
        to_inputs, to_filters, to_outputs = transforms(grid.m)
        filters = _transformed_filters(weight, grid.m)
        d_filters = torch.zeros_like(filters)
        d_input = torch.empty_like(input, memory_format=torch.channels_last)
        images, d_images, d_results = (tensor.permute(0, 2, 3, 1) for tensor in (input, d_input, gradient))
        for some in grid.portions:
            d_products = (to_outputs.T @ grid.parted(d_results[some])).view(len(filters), -1, len(weight))
            d_filters.baddbmm_(d_products.transpose(1, 2), grid.tiles(images[some]))
            d_tiles = to_inputs.T @ torch.bmm(d_products, filters).flatten(1)
            d_images[some] = grid.summed(d_tiles)
        d_weight = (to_filters.T @ d_filters.flatten(1)).view(3, 3, *weight.shape[:2]).permute(2, 3, 0, 1)
        return d_input, d_weight.to(weight.dtype)


class _Grid:
    """How the images of one batch are cut into tiles; images are (N, H, W, C) here."""

    def __init__(self, batch: Tensor) -> None:
        count, self.channels, self.height, self.width = batch.shape
        self.m = tile_side(self.height, self.width)
        self.rows, self.columns = -(-self.height // self.m), -(-self.width // self.m)
        step = max(1, TILES_AT_ONCE // (self.rows * self.columns))
        self.portions = [slice(start, start + step) for start in range(0, count, step)]

    def tiles(self, images: Tensor) -> Tensor:
        """Overlapping tiles of the images, transformed: ((m + 2)², tiles, C), float32."""
        side, m = self.m + 2, self.m
        padded = _padded(images, self.rows * m + 2, self.columns * m + 2, border=1)
        tiles = padded.unfold(1, side, m).unfold(2, side, m).permute(4, 5, 0, 1, 2, 3)
        return (transforms(m).inputs @ tiles.reshape(side * side, -1)).view(side * side, -1, self.channels)

    def parted(self, results: Tensor) -> Tensor:
        """Tiles beside each other of results or their gradients: (m², tiles x K), float32."""
        m = self.m
        padded = _padded(results, self.rows * m, self.columns * m)
        tiles = padded.view(len(results), self.rows, m, self.columns, m, -1)
        return tiles.permute(2, 4, 0, 1, 3, 5).reshape(m * m, -1)

    def joined(self, tiles: Tensor, count: int) -> Tensor:
        """The inverse: ``count`` results (count, H, W, K) from tiles that lie beside each other, (m², tiles x K)."""
        m = self.m
        tiles = tiles.view(m, m, count, self.rows, self.columns, -1).permute(2, 3, 0, 4, 1, 5)
        return tiles.reshape(count, self.rows * m, self.columns * m, -1)[:, : self.height, : self.width]

    def summed(self, tiles: Tensor) -> Tensor:
        """The transpose of cutting: overlapping tiles, ((m + 2)², tiles x C), added up into images."""
        side, m, rows, columns = self.m + 2, self.m, self.rows, self.columns
        tiles = tiles.view(side, side, -1, rows, columns, self.channels).permute(2, 3, 0, 4, 1, 5)
        images = tiles.new_zeros(len(tiles), rows + 1, m, columns + 1, m, self.channels)
        # A tile's last two rows (columns) are the first two of the next tile's.
        images[:, :-1, :, :-1] += tiles[:, :, :m, :, :m]
        images[:, 1:, :2, :-1] += tiles[:, :, m:, :, :m]
        images[:, :-1, :, 1:, :2] += tiles[:, :, :m, :, m:]
        images[:, 1:, :2, 1:, :2] += tiles[:, :, m:, :, m:]
        images = images.view(len(tiles), (rows + 1) * m, (columns + 1) * m, self.channels)
        return images[:, 1 : self.height + 1, 1 : self.width + 1]


def _padded(images: Tensor, height: int, width: int, border: int = 0) -> Tensor:
    """(N, height, width, C), float32: the images after ``border`` rows and columns of zeros, and zeros behind them."""
    padded = images.new_zeros(len(images), height, width, images.shape[3], dtype=torch.float32)
    padded[:, border : border + images.shape[1], border : border + images.shape[2]] = images
    return padded


def _transformed_filters(weight: Tensor, m: int) -> Tensor:
    """((m + 2)², K, C), float32."""
    flat = weight.float().permute(2, 3, 0, 1).reshape(9, -1)
    return (transforms(m).filters @ flat).view(-1, *weight.shape[:2])
