"""Muon on filters: what it moves, how far, and that its views and the filters are the same memory."""

from __future__ import annotations

import pytest
import torch
from cifarlab import models, optimizers
from cifarlab.config import RunConfig

CONFIG = RunConfig.of(model="speednet", width=8, optimizer="muon", learning_rate=0.1, momentum=0.6, batch_size=64)


@pytest.fixture(params=["speednet", "resnet9"])
def stepped(request):
    """A model one step on, its values before, and its optimizers."""
    config = CONFIG.with_(model=request.param)
    model = models.build(config).to(memory_format=torch.channels_last)
    found = optimizers.make_optimizers(config, model)
    inputs = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.nn.functional.cross_entropy(model(inputs), torch.arange(16) % 10).backward()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for optimizer in found:
        optimizer.step()
    return model, before, found


def test_every_trained_value_moves_and_no_other(stepped):
    model, before, _ = stepped
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name


def test_a_filter_moves_by_a_nearly_orthogonal_matrix_times_the_rate(stepped):
    model, before, _ = stepped
    filters = {name: p for name, p in model.named_parameters() if p.dim() == 4 and p.requires_grad}
    assert filters
    for name, parameter in filters.items():
        old = optimizers.as_matrix(before[name])
        old = old * len(old) ** 0.5 / old.norm()
        moved = (old - optimizers.as_matrix(parameter.detach())) / CONFIG.learning_rate
        sizes = torch.linalg.svdvals(moved)
        # Three iterations bring every direction that the gradient has to about 1; a gradient's rank may be lower.
        assert sizes.max() < 1.4, name
        assert sizes.median() > 0.3, name


def test_the_views_are_the_filters_and_survive_loading_a_state(stepped):
    model, _, (muon, _) = stepped
    state = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    assert all(view.abs().sum() == 0 for group in muon.param_groups for view in group["params"])


def test_the_other_networks_have_adam_beside_muon():
    _, beside = optimizers.make_optimizers(CONFIG.with_(model="resnet9"), models.build(CONFIG.with_(model="resnet9")))
    assert type(beside) is torch.optim.Adam
    assert [group["lr"] for group in beside.param_groups] == [pytest.approx(optimizers.ADAM_RATE * 0.1)]
    assert all(parameter.dim() < 4 for group in beside.param_groups for parameter in group["params"])


def test_other_optimizers_are_one():
    model = models.build(RunConfig.of(width=4))
    for name, kind in (("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)):
        (optimizer,) = optimizers.make_optimizers(RunConfig.of(width=4, optimizer=name), model)
        assert type(optimizer) is kind
