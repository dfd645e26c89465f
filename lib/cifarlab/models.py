"""The networks: ``ResNet9`` and ``PlainCNN``, and the blocks they are made of.

What the studies vary is an argument: norm, kernel size, dropout, depth, width, shortcut. Inputs are (N, 3, 32, 32),
outputs are logits (N, 10).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cifarlab.config import RunConfig
from cifarlab.network import Network
from cifarlab.speednet import SpeedNet
from cifarlab.streams import stream_seed


def norm_layer(norm: str, channels: int) -> nn.Module:
    """Return the normalisation called ``norm`` (a value of ``RunConfig.norm``) for ``channels`` channels.

    Layer norm is GroupNorm with one group, instance norm with one group per channel (Wu & He 2018, fig. 2).
    """
    match norm:
        case "none":
            return nn.Identity()
        case "batch":
            return nn.BatchNorm2d(channels)
        case "layer":
            return nn.GroupNorm(1, channels)
        case "group":
            return nn.GroupNorm(max(g for g in (1, 2, 4, 8) if channels % g == 0), channels)
        case "instance":
            return nn.GroupNorm(channels, channels)
    raise ValueError(f"norm: {norm!r} is not known")


class ConvBlock(nn.Sequential):
    """Convolution, norm, ReLU and, where asked for, 2x2 max-pooling.

    The convolution has a bias only where no norm follows: a norm would subtract it again.
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int, norm: str, pool: bool = False) -> None:
        super().__init__()
        self.add_module(
            "conv", nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=norm == "none")
        )
        if norm != "none":
            self.add_module("norm", norm_layer(norm, outputs))
        self.add_module("relu", nn.ReLU(inplace=True))
        if pool:
            self.add_module("pool", nn.MaxPool2d(2))


class ResidualBlock(nn.Module):
    """Convolution blocks, two or one, and the identity shortcut around them: y = x + F(x) (He et al. 2016, eq. 1).

    As in other ResNet-9s (Page 2018), the second ReLU comes before the addition; the original does not say. Without
    ``shortcut`` it is y = F(x): the same layers and the same parameters, the plain network that the degradation study
    compares with.
    """

    def __init__(self, channels: int, kernel_size: int, norm: str, shortcut: bool, convolutions: int = 2) -> None:
        super().__init__()
        self.conv1 = ConvBlock(channels, channels, kernel_size, norm)
        self.conv2 = ConvBlock(channels, channels, kernel_size, norm) if convolutions == 2 else nn.Identity()
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


def blocks_per_stage(depth: int) -> tuple[int, int, int]:
    """Return how many residual blocks the three stages get, for ``depth`` weighted layers.

    Four convolutions and the classifier are always there; each block adds two (and counts as two where it is given a
    single convolution). Blocks are dealt out to stages 1, 3, 2, 1, 3, 2, …, so that depth 9 is the original's
    ResNet-9: one block in stage 1, one in stage 3.
    """
    blocks = (depth - 5) // 2
    return (blocks + 2) // 3, blocks // 3, (blocks + 1) // 3


class ResNet9(Network):
    """The original's network, generalised. At depth 9 and width 64 it has 6,573,130 parameters.

    prep: 3 to w channels at 32x32; stage 1: 2w at 16x16; stage 2: 4w at 8x8; stage 3: 8w at 4x4; then 4x4 max-pooling
    and a linear classifier.
    """

    def __init__(
        self,
        width: int = 64,
        depth: int = 9,
        kernel_size: int = 3,
        norm: str = "batch",
        dropout: float = 0.0,
        dropout_at: str = "classifier",
        shortcut: bool = True,
        block_convolutions: int = 2,
        block_kernel_size: int = 0,
    ) -> None:
        super().__init__()
        in_blocks = dropout > 0 and dropout_at == "blocks"
        self.prep = ConvBlock(3, width, kernel_size, norm)
        channels = width
        for number, blocks in enumerate(blocks_per_stage(depth), start=1):
            stage = nn.Sequential(ConvBlock(channels, 2 * channels, kernel_size, norm, pool=True))
            channels *= 2
            for _ in range(blocks):
                stage.append(
                    ResidualBlock(channels, block_kernel_size or kernel_size, norm, shortcut, block_convolutions)
                )
            if in_blocks:
                # Whole feature maps are dropped: neighbouring pixels tell each other's value (Tompson et al. 2015).
                stage.append(nn.Dropout2d(dropout))
            self.add_module(f"stage{number}", stage)
        self.pool = nn.MaxPool2d(4)
        self.dropout = nn.Dropout(dropout if dropout_at == "classifier" else 0.0)
        self.classifier = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage3(self.stage2(self.stage1(self.prep(x))))
        return self.classifier(self.dropout(self.pool(x).flatten(1)))


class PlainCNN(Network):
    """The original's starting point: three convolutions, each followed by 2x2 max-pooling, and a linear classifier.

    Widths w, 2w, 4w at 32x32, 16x16, 8x8; the classifier sees 4w channels at 4x4.
    """

    def __init__(
        self, width: int = 32, kernel_size: int = 3, norm: str = "none", dropout: float = 0.0,
        dropout_at: str = "classifier",
    ) -> None:
        super().__init__()
        self.features = nn.Sequential()
        channels = 3
        for outputs in (width, 2 * width, 4 * width):
            self.features.append(ConvBlock(channels, outputs, kernel_size, norm, pool=True))
            if dropout > 0 and dropout_at == "blocks":
                self.features.append(nn.Dropout2d(dropout))
            channels = outputs
        self.dropout = nn.Dropout(dropout if dropout_at == "classifier" else 0.0)
        self.classifier = nn.Linear(channels * 4 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.features(x).flatten(1)))


def build(config: RunConfig) -> Network:
    """Build the network of ``config`` on the CPU, initialised from the run's own stream; global state is untouched.

    Weights start as PyTorch draws them (He et al. 2015, with a = sqrt 5), as the original's do.
    """
    shared = {
        "width": config.width, "kernel_size": config.kernel_size, "norm": config.norm,
        "dropout": config.dropout, "dropout_at": config.dropout_at,
    }
    with torch.random.fork_rng(devices=[]):
        # The CPU's generator alone: torch.manual_seed would reseed every GPU's too, and leave them so.
        torch.default_generator.manual_seed(stream_seed(config.seed, "initialisation"))
        if config.model == "speednet":
            return SpeedNet(config.width)
        if config.model == "plaincnn":
            return PlainCNN(**shared)
        return ResNet9(
            **shared, depth=config.depth, shortcut=config.shortcut, block_convolutions=config.block_convolutions,
            block_kernel_size=config.block_kernel_size,
        )
