"""Networks: shapes and parameter counts for every architecture argument."""

from __future__ import annotations

import pytest
import torch
from cifarbook import original
from cifarlab import models, summary
from cifarlab.config import RunConfig
from torch import nn


def convolutions(model: nn.Module) -> int:
    return sum(isinstance(module, nn.Conv2d) for module in model.modules())


def test_resnet9_is_the_originals():
    model = models.build(RunConfig())
    facts = original.facts()
    assert summary.parameter_count(model) == facts["parameters"]
    macs = sum(row["macs"] for row in summary.layer_table(model))
    assert macs == pytest.approx(facts["multiply_accumulates"], rel=0.01)
    assert convolutions(model) == 8


def counted(config: RunConfig) -> int:
    """Weights and biases by hand: every convolution, its norm or bias, and the classifier."""
    w, k = config.width, config.kernel_size
    each = 1 if config.norm == "none" else 2   # a bias, or a norm's scale and shift
    pairs = [(3, w), (w, 2 * w), (2 * w, 4 * w)]
    classified = 4 * w * 4 * 4
    if config.model == "resnet9":
        pairs.append((4 * w, 8 * w))
        classified = 8 * w
    total = sum(a * b * k * k + each * b for a, b in pairs) + 10 * classified + 10
    if config.model == "resnet9":
        # Blocks are dealt to the stages of 2w, 8w and 4w channels in turn.
        own = config.block_kernel_size or k
        for number in range((config.depth - 5) // 2):
            c = w * (2, 8, 4)[number % 3]
            total += config.block_convolutions * (c * c * own * own + each * c)
    return total


@pytest.mark.parametrize("changes", [
    *({"norm": norm} for norm in ("none", "batch", "layer", "group", "instance")),
    *({"kernel_size": size} for size in (1, 3, 5, 7)),
    *({"depth": depth} for depth in (5, 7, 9, 13, 17, 29)),
    {"dropout": 0.5}, {"dropout": 0.5, "dropout_at": "blocks"}, {"shortcut": False}, {"width": 3},
    *({"model": "plaincnn", "norm": norm} for norm in ("none", "batch")),
    {"model": "plaincnn", "kernel_size": 5, "dropout": 0.3, "dropout_at": "blocks"},
    {"block_convolutions": 1}, {"block_convolutions": 1, "block_kernel_size": 5},
])
def test_every_argument_gives_ten_logits_and_trains_one_step(changes):
    config = RunConfig.of(**({"width": 8} | changes))
    model = models.build(config)
    assert summary.parameter_count(model) == counted(config)
    logits = model(torch.randn(4, 3, 32, 32))
    assert logits.shape == (4, 10)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(("depth", "expected"), [(5, (0, 0, 0)), (7, (1, 0, 0)), (9, (1, 0, 1)), (11, (1, 1, 1)),
                                                 (13, (2, 1, 1)), (17, (2, 2, 2))])
def test_depth_counts_weighted_layers(depth, expected):
    assert models.blocks_per_stage(depth) == expected
    assert convolutions(models.ResNet9(width=2, depth=depth)) + 1 == depth


def test_a_plain_network_has_its_residual_twins_parameters():
    plain, residual = (models.build(RunConfig.of(width=8, shortcut=flag)) for flag in (False, True))
    assert summary.parameter_count(plain) == summary.parameter_count(residual)
    for a, b in zip(plain.parameters(), residual.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_residual_block_adds_its_input():
    torch.manual_seed(0)
    block = models.ResidualBlock(4, 3, "batch", shortcut=True)
    x = torch.randn(2, 4, 8, 8)
    with_shortcut = block(x)
    block.shortcut = False
    assert torch.allclose(with_shortcut - block(x), x, atol=1e-5)


def test_initialisation_depends_on_the_seed_alone():
    torch.manual_seed(1)
    first = models.build(RunConfig.of(width=4))
    torch.manual_seed(2)
    second = models.build(RunConfig.of(width=4))
    other = models.build(RunConfig.of(width=4, seed=1))
    assert torch.equal(first.prep.conv.weight, second.prep.conv.weight)
    assert not torch.equal(first.prep.conv.weight, other.prep.conv.weight)


def test_layer_norm_is_group_norm_of_one():
    x = torch.randn(2, 8, 4, 4)
    ours = models.norm_layer("layer", 8)(x)
    assert torch.allclose(ours, nn.functional.layer_norm(x, (8, 4, 4)), atol=1e-5)
    instance = models.norm_layer("instance", 8)(x)
    assert torch.allclose(instance, nn.functional.instance_norm(x), atol=1e-5)


def test_the_layer_table_counts_every_parameter():
    model = models.build(RunConfig.of(width=4))
    rows = summary.layer_table(model)
    assert sum(row["parameters"] for row in rows) == summary.parameter_count(model)
    assert rows[0]["output"] == (4, 32, 32)


def test_a_block_of_one_convolution_has_half_the_blocks_weights():
    pair, single, wide = (models.build(RunConfig.of(width=8, **changes)) for changes in (
        {}, {"block_convolutions": 1}, {"block_convolutions": 1, "block_kernel_size": 5}))
    weights = [sum(p.numel() for name, p in model.named_parameters() if ".conv1.conv" in name or ".conv2.conv" in name)
               for model in (pair, single, wide)]
    assert weights[0] == 2 * weights[1]
    assert weights[2] * 9 == weights[1] * 25


def test_whitened_inputs_are_uncorrelated_with_variance_one():
    net = models.build(RunConfig.of(model="speednet", width=8))
    generator = torch.Generator().manual_seed(0)
    # Neighbouring pixels and channels alike, as in photographs.
    images = torch.nn.functional.avg_pool2d(torch.randn(200, 3, 34, 34, generator=generator), 3, stride=1)
    images = images + images.mean(1, keepdim=True)
    net.prepare(images)
    with torch.no_grad():
        out = nn.functional.conv2d(images, net.whitening.weight).permute(0, 2, 3, 1).reshape(-1, 24)
    half, negative = out[:, :12], out[:, 12:]
    assert torch.equal(half, -negative)
    correlation = half.T @ half / len(half)
    # The floor keeps directions of little variance below 1.
    assert correlation.diag().max() < 1.01
    assert correlation.diag()[-1] > 0.9
    assert (correlation - correlation.diag().diag()).abs().max() < 1e-3


def test_speednet_takes_other_sides_and_begins_near_indifference():
    net = models.build(RunConfig.of(model="speednet", width=8)).eval()
    net.prepare(torch.randn(100, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    for side in (32, 24, 16):
        logits = net(torch.randn(4, 3, side, side))
        assert logits.shape == (4, 10)
        assert logits.abs().max() < 3
    assert not net.whitening.weight.requires_grad
