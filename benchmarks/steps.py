"""Make one training step: ours, ours with a part taken away, and the original's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from cifarlab import data, models
from cifarlab.config import RunConfig
from cifarlab.optimizers import make_optimizers
from cifarlab.precision import bfloat16_products
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


@dataclass(frozen=True)
class Step:
    """A way to make one training step. The defaults are what :mod:`cifarlab.training` does."""

    channels_last: bool = True
    bfloat16: bool = True
    fast_convolutions: bool = True
    fused: bool = True
    one_by_one: bool = False
    inplace: bool = True
    read_loss: bool = False
    batch_size: int = 128


# What the original's loop computes in a step: float32, NCHW, and Adam as it comes.
AS_THE_ORIGINAL = Step(channels_last=False, bfloat16=False, fused=False, inplace=False)

# Left out one at a time: what each part of our step is worth.
WITHOUT = {
    "NCHW instead of channels_last": Step(channels_last=False),
    "float32 instead of bfloat16": Step(bfloat16=False),
    "every convolution by its definition": Step(fast_convolutions=False),
    "optimizer not fused": Step(fused=False),
    "ReLU not in place": Step(inplace=False),
    "loss read every step": Step(read_loss=True),
    "images decoded and stacked one by one": Step(one_by_one=True),
}


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


def network_of(step: Step, config: RunConfig) -> nn.Module:
    """The network of ``config``, in training mode, changed as ``step`` says."""
    model = models.build(config)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = step.inplace
    return (model.to(memory_format=torch.channels_last) if step.channels_last else model).train()


def stepper(step: Step, width: int, pool: data.Images) -> Callable[[], None]:
    """Return a function that trains on the same images at each call, cut into batches as ``step`` says."""
    config = RunConfig.of(width=width, batch_size=step.batch_size)
    network = network_of(step, config)
    if step.fused:
        (optimizer,) = make_optimizers(config, network)
    else:
        optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, foreach=False)
    layout = torch.channels_last if step.channels_last else torch.contiguous_format

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        if step.one_by_one:
            yield from DataLoader(AsPictures(pool), step.batch_size)
            return
        for start in range(0, len(pool), step.batch_size):
            some = slice(start, start + step.batch_size)
            yield data.normalise(pool.pixels[some], config.input_norm), pool.labels[some]

    def train() -> None:
        for inputs, labels in batches():
            rounds = torch.autocast("cpu", dtype=torch.bfloat16, enabled=step.bfloat16)
            with rounds, bfloat16_products(torch.device("cpu"), step.fast_convolutions):
                logits = network(inputs.contiguous(memory_format=layout))
            loss = F.cross_entropy(logits.float(), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if step.read_loss:
                loss.item()

    return train
