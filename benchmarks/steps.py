"""Ways to make one training step: ours, ours with a part taken away, and what was tried and not kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from cifarlab import data, models
from cifarlab.config import RunConfig
from cifarlab.optimizers import make_optimizers
from cifarlab.precision import RoundedProducts, bfloat16_products
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

from benchmarks.by_products import by_products


@dataclass(frozen=True)
class Step:
    """A way to make one training step. The defaults are what :mod:`cifarlab.training` does."""

    channels_last: bool = True
    bfloat16: bool = True
    fast_convolutions: bool = True
    update: Literal["fused", "foreach", "one by one"] = "fused"
    whole_bfloat16: bool = False
    prepared: bool = False
    one_by_one: bool = False
    input_channels: int = 3
    inplace: bool = True
    pool_first: bool = False
    recomputed: bool = False
    gradient_by_products: tuple[str, ...] = ()
    without_units: bool = False
    frozen: tuple[str, ...] = ()
    onednn_rounds: bool = False
    compiled: bool = False
    read_loss: bool = False
    batch_size: int = 128


# What the original's loop computes in a step: float32, NCHW, and Adam as it comes.
AS_THE_ORIGINAL = Step(channels_last=False, bfloat16=False, update="one by one", inplace=False)

# Left out one at a time: what each part of our step is worth.
WITHOUT = {
    "NCHW instead of channels_last": Step(channels_last=False),
    "float32 instead of bfloat16": Step(bfloat16=False),
    "every convolution by its definition": Step(fast_convolutions=False),
    "optimizer not fused": Step(update="one by one"),
    "ReLU not in place": Step(inplace=False),
    "loss read every step": Step(read_loss=True),
    "images decoded and stacked one by one": Step(one_by_one=True),
}
# Tried and not kept. And ours once more, to see the noise.
TRIED = {
    "nothing": Step(),
    "weights in bfloat16 too": Step(whole_bfloat16=True),
    "images normalised beforehand, in bfloat16": Step(prepared=True),
    "first layer's inputs padded from 3 to 8 channels": Step(input_channels=8),
    "pooling before ReLU": Step(pool_first=True),
    "norm and ReLU computed again in backward": Step(recomputed=True),
    "float32, rounded to bfloat16 within oneDNN": Step(bfloat16=False, onednn_rounds=True),
    "optimizer by foreach": Step(update="foreach"),
    "batch of 256": Step(batch_size=256),
    "batch of 512": Step(batch_size=512),
    "torch.compile": Step(compiled=True),
    "gradient of the filters by matrix products": Step(gradient_by_products=("prep", "stage")),
    "gradient of the last block's filters by matrix products": Step(gradient_by_products=("stage3.1",)),
    "the way of processors without bfloat16 units": Step(without_units=True),
    "first half of the convolutions frozen": Step(frozen=("prep", "stage1")),
}


class Recomputed(nn.Module):
    """A norm and its ReLU of which only the input is kept: they are computed again when backward needs them.

    The norm's running figures then follow each batch twice.
    """

    def __init__(self, norm: nn.Module, relu: nn.Module) -> None:
        super().__init__()
        self.norm, self.relu = norm, relu

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(lambda x: self.relu(self.norm(x)), x, use_reentrant=False, preserve_rng_state=False)


class AsPictures(Dataset):
    """Images one by one as a textbook's loop has them: a PIL image, turned into a tensor and normalised."""

    def __init__(self, pool: data.Images) -> None:
        from torchvision import transforms  # of all ways to make a step only this one needs it

        self.pictures, self.labels = pool.pixels.numpy(), pool.labels
        self.transform = transforms.Compose([
            transforms.ToPILImage(), transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.pictures[index]), self.labels[index]


def padded(layer: nn.Conv2d, channels: int) -> nn.Conv2d:
    """The same convolution for inputs of ``channels`` channels, those that it did not have being ignored."""
    wide = nn.Conv2d(channels, layer.out_channels, layer.kernel_size, padding=layer.padding, bias=False)
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, : layer.in_channels] = layer.weight
    return wide


def network_of(step: Step, config: RunConfig) -> nn.Module:
    """The network of ``config``, in training mode, changed as ``step`` says."""
    model = models.build(config)
    if step.input_channels > 3:
        model.prep.conv = padded(model.prep.conv, step.input_channels)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.ReLU):
            module.inplace = step.inplace
        if isinstance(module, models.ConvBlock) and step.recomputed:
            module.norm, module.relu = Recomputed(module.norm, module.relu), nn.Identity()
        if isinstance(module, models.ConvBlock) and step.pool_first and hasattr(module, "pool"):
            relu = module.relu
            del module.relu
            module.add_module("relu", relu)  # last, after pooling
        if isinstance(module, models.ConvBlock) and name.startswith(step.gradient_by_products):
            module.conv = by_products(module.conv)
    for name in step.frozen:
        model.get_submodule(name).requires_grad_(False)
    if step.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return (model.bfloat16() if step.whole_bfloat16 else model).train()


def stepper(step: Step, width: int, pool: data.Images) -> Callable[[], None]:
    """Return a function that trains on the same images at each call, cut into batches as ``step`` says."""
    config = RunConfig.of(width=width, batch_size=step.batch_size)
    model = network_of(step, config)
    if step.update == "fused":
        (optimizer,) = make_optimizers(config, model)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, foreach=step.update == "foreach")
    network = torch.compile(model) if step.compiled else model
    prepared = data.normalise(pool.pixels, config.input_norm).bfloat16() if step.prepared else None
    loader = DataLoader(AsPictures(pool), step.batch_size) if step.one_by_one else None

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        if loader is not None:
            yield from loader
            return
        for start in range(0, len(pool), step.batch_size):
            some = slice(start, start + step.batch_size)
            inputs = data.normalise(pool.pixels[some], config.input_norm) if prepared is None else prepared[some]
            yield inputs, pool.labels[some]

    def train() -> None:
        for inputs, labels in batches():
            if step.input_channels > 3:
                inputs = F.pad(inputs, (0, 0, 0, 0, 0, step.input_channels - 3))
            if not step.channels_last:
                inputs = inputs.contiguous()
            elif step.one_by_one:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            if step.whole_bfloat16:
                inputs = inputs.bfloat16()
            rounds = torch.autocast("cpu", dtype=torch.bfloat16, enabled=step.bfloat16 and not step.whole_bfloat16)
            products = RoundedProducts() if step.without_units else bfloat16_products(
                torch.device("cpu"), step.fast_convolutions)
            with rounds, products:
                logits = network(inputs)
            loss = F.cross_entropy(logits.float(), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if step.read_loss:
                loss.item()

    def train_rounded_within_onednn() -> None:
        with torch.backends.mkldnn.flags(enabled=True, allow_tf32=None, fp32_precision="bf16"):
            train()

    return train_rounded_within_onednn if step.onednn_rounds else train


def applies(step: Step, units: bool, compiler: bool) -> bool:
    """Whether ``step`` says anything on a processor with or without bfloat16 ``units``, with or without ``compiler``.

    ``torch.compile`` and a gradient of one's own would go around the products that are rounded where there are none.
    """
    needs_units = step.compiled or step.onednn_rounds or bool(step.gradient_by_products) or step.without_units
    return (units or not needs_units) and (compiler or not step.compiled) and (step.fast_convolutions or not units)
