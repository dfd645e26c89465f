"""bfloat16 on every processor: in its own units where it has them, else as float32 arithmetic on rounded numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from labbook.machine import cpu_description
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cifarlab import winograd
from cifarlab.config import RunConfig


@functools.cache
def has_fast_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16 natively (AVX512-BF16 or AMX)."""
    return bool({"avx512_bf16", "amx_bf16"} & set(cpu_description()["instructions"]))


@functools.cache
def gains_by_winograd() -> bool:
    """Whether convolutions in float32 gain by Winograd's algorithm here (:mod:`benchmarks.products`).

    They do where multiplications are dear. With AVX512 the processor multiplies faster than the tiles are transformed.
    """
    return "avx512f" not in cpu_description()["instructions"]


# What the networks and optimizers multiply with.
PRODUCTS = {F.conv2d, F.linear, torch.addmm, Tensor.matmul, Tensor.__matmul__}


class RoundedProducts(TorchFunctionMode):
    """Compute products of bfloat16 numbers in float32: operands are rounded before, the result after.

    A unit for bfloat16 does the same: a product of two such numbers is exact in float32, and there it sums. Only the
    order of the sums differs, as it does between two kinds of units. Without units PyTorch's own bfloat16 takes
    many times as long as float32 (:mod:`benchmarks.products` measures by how much); this takes about as long, and
    with ``fast_convolutions`` multiplies less where one is large enough for Winograd's algorithm. Gradients go
    the same way.
    """

    def __init__(self, fast_convolutions: bool = True) -> None:
        super().__init__()
        self.fast_convolutions = fast_convolutions

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in PRODUCTS:
            return func(*args, **kwargs)
        rounded = torch.is_autocast_enabled("cpu") or args[0].dtype == torch.bfloat16
        if not rounded:
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            if self.fast_convolutions and func is F.conv2d and winograd.pays(*args, **kwargs):
                return winograd.conv2d(*(operand.bfloat16() for operand in args[:2]))
            named = {name: _rounded(value) for name, value in kwargs.items()}
            return func(*map(_rounded, args), **named).bfloat16()


def _rounded(value: Any) -> Any:
    floating = isinstance(value, Tensor) and value.is_floating_point()
    return value.bfloat16().float() if floating else value


def multiplies_in(precision: str) -> torch.dtype:
    """The dtype that this machine's processor multiplies in when a run's precision is ``precision``."""
    return torch.bfloat16 if precision == "bfloat16" and has_fast_bfloat16() else torch.float32


def bfloat16_products(device: torch.device, fast_convolutions: bool = True) -> AbstractContextManager[Any]:
    """Within it, products of bfloat16 numbers are fast on this device's processor, whatever that is.

    ``fast_convolutions`` as :class:`RoundedProducts` has it; a processor that has units, or gains nothing by
    Winograd's algorithm, takes no notice.
    """
    emulate = device.type == "cpu" and not has_fast_bfloat16()
    return RoundedProducts(fast_convolutions and gains_by_winograd()) if emulate else nullcontext()


@contextmanager
def autocast(config: RunConfig, device: torch.device) -> Iterator[None]:
    """Run convolutions and products in bfloat16 where ``config`` says so; the weights stay float32."""
    rounds = torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16")
    with rounds, bfloat16_products(device):
        yield
