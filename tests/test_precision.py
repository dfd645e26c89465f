"""bfloat16 without units for it is the same arithmetic, and the code that has units is left alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from cifarlab import data, precision, training
from cifarlab.config import RunConfig

CPU = torch.device("cpu")
# bfloat16 keeps 8 significant bits: rounding moves a value by at most this part of itself.
HALF_A_STEP = 2.0**-8


@pytest.fixture
def without_units(monkeypatch):
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda: False)


def rounded_once(ours: torch.Tensor, exact: torch.Tensor) -> bool:
    """Whether ``ours`` is ``exact`` (float64), but for one rounding to bfloat16 and float32's sums before it."""
    sums = 1e-6 * exact.abs().max()
    return bool(((ours.double() - exact).abs() <= HALF_A_STEP * exact.abs() + sums).all())


OPERATIONS = {
    "convolution": lambda a, b: F.conv2d(a.view(4, 8, 6, 6), b[:, :9].reshape(4, 8, 3, 3), padding=1),
    "linear": lambda a, b: F.linear(a, b),
    "linear by name": lambda a, b: F.linear(a, weight=b),
    "matmul": lambda a, b: a @ b.T,
    "Tensor.matmul": lambda a, b: torch.Tensor.matmul(a, b.T),
    "addmm": lambda a, b: torch.addmm(a[:, :32], a, b.T, beta=2.0, alpha=0.5),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_products_of_bfloat16_numbers_are_rounded_once(without_units, name):
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(32, 36, generator=generator).bfloat16() for _ in range(2))
    with precision.bfloat16_products(CPU):
        ours = OPERATIONS[name](a, b)
    assert ours.dtype == torch.bfloat16
    assert rounded_once(ours, OPERATIONS[name](a.double(), b.double()))


def test_gradients_are_rounded_once(without_units):
    generator = torch.Generator().manual_seed(2)
    inputs, weights, upstream = (
        torch.randn(*shape, generator=generator).bfloat16()
        for shape in ((4, 8, 6, 6), (16, 8, 3, 3), (4, 16, 6, 6))
    )

    def gradients(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        x, w = (value.detach().to(dtype).requires_grad_() for value in (inputs, weights))
        F.conv2d(x, w, padding=1).backward(upstream.to(dtype))
        return x.grad, w.grad

    with precision.bfloat16_products(CPU):
        ours = gradients(torch.bfloat16)
    for one, exact in zip(ours, gradients(torch.float64), strict=True):
        assert one.dtype == torch.bfloat16
        assert rounded_once(one, exact)


def test_float32_is_left_alone(without_units):
    generator = torch.Generator().manual_seed(3)
    inputs, weights = torch.randn(2, 3, 8, 8, generator=generator), torch.randn(4, 3, 3, 3, generator=generator)
    exact = F.conv2d(inputs, weights)
    with precision.autocast(RunConfig.of(precision="float32"), CPU):
        assert torch.equal(F.conv2d(inputs, weights), exact)
    with precision.autocast(RunConfig.of(precision="bfloat16"), CPU):
        rounded = F.conv2d(inputs, weights)
    assert rounded.dtype == torch.bfloat16
    assert not torch.equal(rounded.float(), exact)


def test_with_units_nothing_is_put_in_between(monkeypatch):
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda: True)
    assert not isinstance(precision.bfloat16_products(CPU), torch.overrides.TorchFunctionMode)
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda: False)
    assert isinstance(precision.bfloat16_products(CPU), torch.overrides.TorchFunctionMode)
    assert not isinstance(precision.bfloat16_products(torch.device("cuda")), torch.overrides.TorchFunctionMode)


@pytest.mark.parametrize(("instructions", "units", "winograd"), [
    (["avx2", "avx512f", "avx512_bf16"], True, False), (["avx2", "avx512f", "amx_bf16"], True, False),
    (["avx2", "avx512f"], False, False), (["avx2"], False, True), ([], False, True),
])
def test_what_a_processor_has_decides_how_products_are_made(monkeypatch, instructions, units, winograd):
    monkeypatch.setattr(precision, "cpu_description", lambda: {"instructions": instructions})
    # Past their caches, which hold this machine's answers.
    assert precision.has_fast_bfloat16.__wrapped__() is units
    assert precision.gains_by_winograd.__wrapped__() is winograd


@pytest.mark.parametrize("gains", [True, False])
def test_convolutions_go_by_winograd_only_where_a_processor_gains_by_it(monkeypatch, gains):
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda: False)
    monkeypatch.setattr(precision, "gains_by_winograd", lambda: gains)
    assert precision.bfloat16_products(CPU).fast_convolutions is gains
    assert precision.bfloat16_products(CPU, fast_convolutions=False).fast_convolutions is False


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_training_goes_the_same_way_with_and_without_units(monkeypatch, optimizer):
    model = {"model": "speednet", "batch_size": 64} if optimizer == "muon" else {"batch_size": 32}
    config = RunConfig.of(
        dataset="synthetic", train_images=128, val_images=64, width=4, epochs=2, precision="bfloat16",
        optimizer=optimizer, learning_rate=0.02, **model,
    )
    images = data.split(data.load(config), config)
    losses = {}
    for units in (True, False):
        monkeypatch.setattr(precision, "has_fast_bfloat16", lambda units=units: units)
        losses[units] = [row["train_loss"] for row in training.Training(config, *images).epochs()]
    assert losses[True] == pytest.approx(losses[False], rel=0.05)
    assert losses[True] != losses[False]  # the order of sums differs: both ways were taken
