"""The optimizers of a run. Everything here can change a run's numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cifarlab.config import RunConfig

# Beside Muon, which moves the filters, what else is trained has an optimizer with rates in units of Muon's.
# SpeedNet: SGD, for a loss that is summed over the batch, so that they grow with its size when it is a mean, and for
# its small logits; after Jordan 2024.
BIAS_RATE, CLASSIFIER_RATE = 0.22, 2.8
SGD_MOMENTUM, DECAY_PER_IMAGE = 0.85, 2e-6
# The other networks: Adam, as where there is no Muon.
ADAM_RATE = 0.2


def make_optimizers(config: RunConfig, model: nn.Module) -> list[torch.optim.Optimizer]:
    """The optimizers of ``config``: one, or two for ``muon``.

    ``fused`` updates all parameters in one pass over memory.
    """
    shared = {"lr": config.learning_rate, "weight_decay": config.weight_decay, "fused": True}
    match config.optimizer:
        case "sgd":
            return [torch.optim.SGD(model.parameters(), momentum=config.momentum, **shared)]
        case "muon":
            trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
            beside = sgd_beside_muon if config.model == "speednet" else adam_beside_muon
            return [
                muon(config, [parameter for _, parameter in trained if parameter.dim() == 4]),
                beside(config, [parameter for _, parameter in trained if parameter.dim() < 4]),
            ]
    adam = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return [adam(model.parameters(), betas=(config.momentum, 0.999), **shared)]


def as_matrix(filters: Tensor) -> Tensor:
    """View filters (O, I, k, k) as a matrix (O, k k I); no copy where they lie in channels_last order."""
    return filters.permute(0, 2, 3, 1).flatten(1)


def muon(config: RunConfig, filters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Muon for the convolutions' ``filters``, each (O, I, k, k) (Jordan et al. 2024).

    Muon replaces a filter matrix's momentum by the nearest orthogonal matrix, approximately. PyTorch's takes matrices
    only, so it is given views of the filters, and their gradients before each step. Each filter matrix is brought back
    to norm sqrt(O) first: what follows it is a normalization, so its scale means nothing but a smaller relative step.
    """
    # Channels_last whatever the model's layout: otherwise the views below would be copies.
    for parameter in filters:
        parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    views = [nn.Parameter(as_matrix(parameter.data)) for parameter in filters]
    optimizer = torch.optim.Muon(
        views, lr=config.learning_rate, momentum=config.momentum, nesterov=True, weight_decay=0.0, ns_steps=3
    )

    @torch.no_grad()
    def bring_gradients(*_: object) -> None:
        for parameter, view in zip(filters, views, strict=True):
            view.grad = as_matrix(parameter.grad)
            view.mul_(len(view) ** 0.5 / view.norm())

    optimizer.register_step_pre_hook(bring_gradients)
    return optimizer


def sgd_beside_muon(config: RunConfig, others: list[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum for SpeedNet's biases and classifier."""
    groups = []
    for ratio, chosen in (
        (BIAS_RATE, [p for p in others if p.dim() < 2]),
        (CLASSIFIER_RATE, [p for p in others if p.dim() == 2]),
    ):
        rate = ratio * config.batch_size * config.learning_rate
        groups.append({"params": chosen, "lr": rate, "weight_decay": DECAY_PER_IMAGE * config.batch_size / rate})
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=SGD_MOMENTUM, nesterov=True, fused=True)


def adam_beside_muon(config: RunConfig, others: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Adam for the norms' values and the classifier of the other networks."""
    return torch.optim.Adam(others, lr=ADAM_RATE * config.learning_rate, fused=True)
