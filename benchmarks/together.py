"""Several networks of one configuration as one: what training their seeds in the same step comes to."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from cifarlab import data, models
from cifarlab.config import RunConfig
from cifarlab.optimizers import make_optimizers
from cifarlab.precision import autocast
from torch import Tensor, nn


class Classifiers(nn.Module):
    """One linear classifier for each network: features (N, S · C), network by network, to logits (N, S, classes)."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))

    def forward(self, features: Tensor) -> Tensor:
        networks, channels, _ = self.weight.shape
        by_network = features.view(len(features), networks, channels).transpose(0, 1)
        return by_network.matmul(self.weight).transpose(0, 1) + self.bias


def together(networks: Sequence[models.ResNet9]) -> nn.Module:
    """One network that does what each of ``networks`` does, of images (N, S · 3, 32, 32): three channels for each.

    They are alike, with batch normalization. Convolutions become grouped ones, norms have the channels of all, and each
    network keeps a classifier of its own.
    """
    joined = copy.deepcopy(networks[0])
    parts = [dict(network.named_modules()) for network in networks]
    for name, module in list(joined.named_modules()):
        same = [modules[name] for modules in parts]
        if isinstance(module, nn.Conv2d):
            other: nn.Module = nn.Conv2d(
                len(same) * module.in_channels, len(same) * module.out_channels, module.kernel_size,
                padding=module.padding, groups=len(same), bias=False)
        elif isinstance(module, nn.BatchNorm2d):
            other = nn.BatchNorm2d(len(same) * module.num_features)
        elif isinstance(module, nn.Linear):
            joined.set_submodule(name, Classifiers(same))
            continue
        else:
            continue
        other.load_state_dict({
            key: torch.cat([one.state_dict()[key] for one in same]) if value.dim() else value
            for key, value in module.state_dict().items()
        })
        joined.set_submodule(name, other)
    return joined


def trainer(config: RunConfig, pool: data.Images, seeds: int, times: int = 1) -> Callable[[], None]:
    """Return a function that trains ``seeds`` networks on all of ``pool`` in the same steps, ``times`` over."""
    networks = [models.build(config.with_(seed=seed)) for seed in range(seeds)]
    model = together(networks).to(memory_format=torch.channels_last).train()
    optimizers = make_optimizers(config, model)

    def train() -> None:
        for _ in range(times):
            for start in range(0, len(pool), config.batch_size):
                some = slice(start, start + config.batch_size)
                inputs = data.normalise(pool.pixels[some], config.input_norm).repeat(1, seeds, 1, 1)
                with autocast(config, inputs.device):
                    logits = model(inputs.contiguous(memory_format=torch.channels_last))
                labels = pool.labels[some].repeat_interleave(seeds)
                # The sum of the networks' mean losses: each has the gradient that it would have alone.
                loss = seeds * F.cross_entropy(logits.float().flatten(0, 1), labels)
                loss.backward()
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)

    return train
