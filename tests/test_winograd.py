"""Winograd's algorithm computes what the definition of a convolution says, and is taken only where it can and pays."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
import torch.nn.functional as F
from cifarlab import models, winograd
from cifarlab.config import RunConfig
from cifarlab.precision import RoundedProducts


def case(side: int | tuple[int, int], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    height, width = (side, side) if isinstance(side, int) else side
    shapes = ((3, 7, height, width), (5, 7, 3, 3), (3, 5, height, width))
    return tuple(torch.randn(*shape, generator=generator).to(dtype) for shape in shapes)


def results(convolution, inputs, weights, upstream, dtype):
    x, w = (value.detach().to(dtype).requires_grad_() for value in (inputs, weights))
    result = convolution(x, w)
    result.backward(upstream.to(dtype))
    return result.detach(), x.grad, w.grad


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 7, 8, 11, 15, 16, (6, 9)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2.0**-8)])
def test_result_and_gradients_are_the_definitions(side, dtype, tolerance):
    inputs, weights, upstream = case(side, dtype)
    exact = results(lambda x, w: F.conv2d(x, w, padding=1), inputs, weights, upstream, torch.float64)
    for ours, theirs in zip(results(winograd.conv2d, inputs, weights, upstream, dtype), exact, strict=True):
        assert ours.dtype == dtype
        assert ours.shape == theirs.shape
        assert (ours.double() - theirs).abs().max() <= tolerance * theirs.abs().max()


def test_computed_in_float32_under_autocast_too():
    inputs, weights, _ = case(8, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = winograd.conv2d(inputs, weights)
    assert torch.equal(under, winograd.conv2d(inputs, weights))


def test_images_are_cut_into_portions_without_a_trace(monkeypatch):
    inputs, weights, upstream = case(8, torch.float32)
    whole = results(winograd.conv2d, inputs, weights, upstream, torch.float32)
    monkeypatch.setattr(winograd, "TILES_AT_ONCE", 8)  # two images of four tiles; the third is alone
    for one, other in zip(whole, results(winograd.conv2d, inputs, weights, upstream, torch.float32), strict=True):
        assert (one - other).abs().max() <= 1e-5 * one.abs().max()


@pytest.mark.parametrize(("m", "saved"), [(2, 2.25), (3, 3.24), (4, 4.0)])
def test_multiplications_saved(m, saved):
    positions = winograd.transforms(m).inputs.shape[0]
    assert 9 * m * m / positions == pytest.approx(saved)


def test_tile_covers_the_side_with_the_fewest_multiplications():
    assert [winograd.tile_side(side, side) for side in (2, 3, 5, 7, 8, 16, 31)] == [2, 3, 3, 4, 4, 4, 4]


LARGE = {"input": (1, 64, 32, 32), "weight": (128, 64, 3, 3), "padding": (1, 1)}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"padding": 1}, True),
        ({"weight": (128, 64, 5, 5), "padding": 2}, False),
        ({"padding": 0}, False),
        ({"stride": 2}, False),
        ({"dilation": (2, 2)}, False),
        ({"weight": (128, 32, 3, 3), "groups": 2}, False),
        ({"input": (1, 3, 32, 32), "weight": (512, 3, 3, 3)}, False),
        ({"input": (1, 64, 4, 4)}, False),
        ({"bias": (128,)}, False),
    ],
)
def test_taken_only_where_it_can_and_pays(change, expected):
    call = {name: torch.empty(v) if isinstance(v, tuple) and name in ("input", "weight", "bias") else v
            for name, v in {**LARGE, **change}.items()}  # fmt: skip
    assert winograd.pays(**call) is expected


def test_a_wide_network_is_as_near_to_float32_as_without():
    model = models.build(RunConfig.of(width=64)).to(memory_format=torch.channels_last).train()
    inputs = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(4))

    def gradients(ways: AbstractContextManager[object], bfloat16: bool = True) -> torch.Tensor:
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16), ways:
            logits = model(inputs)
        F.cross_entropy(logits.float(), torch.arange(32) % 10).backward()
        return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

    exact = gradients(nullcontext(), bfloat16=False)
    errors = [(gradients(RoundedProducts(fast_convolutions=fast)) - exact).norm() for fast in (False, True)]
    assert errors[0] != errors[1]
    assert errors[1] < 1.1 * errors[0]
