"""``SpeedNet``: the small network of the fastest honest runs, in this library's words (Jordan 2024; Page 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifarlab.config import RunConfig
from cifarlab.network import Network
from cifarlab.schedules import image_side, trains_whitening_bias

WHITENING_SIDE = 2
# Patches' directions with less variance than this are mostly noise: they are not amplified further.
WHITENING_FLOOR = 5e-4


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalization whose running figures follow the last few batches: a run has only some hundreds.

    Its scale stays 1: the next layer's filters are brought to a norm of their own.
    """
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad = False
    return norm


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3 x 3 convolution whose first ``inputs`` filters begin as the identity: at the start images pass through."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight.data[:inputs])
    return layer


class SpeedBlock(nn.Sequential):
    """Convolution, 2x2 max-pooling, norm, GELU; convolution, norm, GELU: most arithmetic at the smaller size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            convolution(inputs, outputs), nn.MaxPool2d(2), batch_norm(outputs), nn.GELU(),
            convolution(outputs, outputs), batch_norm(outputs), nn.GELU(),
        )


class SpeedNet(Network):
    """Whitening layer, three blocks of w, 4w, 4w channels, max over what is left, linear classifier; w is 64.

    The first layer is not trained but computed: :meth:`prepare` gives it the training patches' principal directions,
    each with its negative. Images of other sides than 32 are accepted: the first epochs may use smaller ones.
    """

    prepare_images = 5_000

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        directions = 3 * WHITENING_SIDE**2
        self.whitening = nn.Conv2d(3, 2 * directions, WHITENING_SIDE)
        self.whitening.weight.requires_grad = False
        self.features = nn.Sequential(
            nn.GELU(), SpeedBlock(2 * directions, width), SpeedBlock(width, 4 * width),
            SpeedBlock(4 * width, 4 * width), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        )
        self.classifier = nn.Linear(4 * width, 10, bias=False)
        self.classifier.weight.data /= self.classifier.weight.data.std()

    def forward(self, x: Tensor) -> Tensor:
        # Divided by the number of inputs: logits begin near 0 although the classifier's weights are of size 1.
        return self.classifier(self.features(self.whitening(x))) / self.classifier.in_features

    @torch.no_grad()
    def prepare(self, inputs: Tensor) -> None:
        """Set the first layer from normalised images (N, 3, 32, 32): outputs are then uncorrelated, of variance 1."""
        patches = F.unfold(inputs.contiguous(), WHITENING_SIDE)
        flat = patches.transpose(1, 2).reshape(-1, patches.shape[1]).double()
        variances, directions = torch.linalg.eigh(flat.T @ flat / len(flat))
        filters = (directions / (variances + WHITENING_FLOOR).sqrt()).T.reshape(-1, 3, WHITENING_SIDE, WHITENING_SIDE)
        self.whitening.weight.copy_(torch.cat((filters, -filters)))

    def before_step(self, inputs: Tensor, step: int, config: RunConfig) -> Tensor:
        """Hold the first layer's biases when their time is over, and shrink the images while it lasts."""
        # Once they are held, no gradient passes through the first trained convolution to its input.
        self.whitening.bias.requires_grad_(trains_whitening_bias(config, step))
        if (side := image_side(config, step)) < 32:
            inputs = F.interpolate(inputs, size=side, mode="bilinear", antialias=True)
        return inputs
