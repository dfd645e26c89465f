"""CIFAR-10 as tensors: reading and checking the files, the split, batches, augmentation on the device.

Images stay one resident uint8 tensor (N, 32, 32, 3), from which a batch is cut and viewed as NCHW. The files hold
one channel after the other, and so does a batch in memory. The first convolution puts it in order (``channels_last``),
which measured no slower than to keep all images so.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from labbook.errors import LabError
from labbook.paths import project_root
from torch import Tensor

from cifarlab.config import RunConfig
from cifarlab.streams import stream

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# Per-channel mean and standard deviation of pixels in 0..1, subtracted and divided by.
# "channel" are the known figures of the 50,000 training images; the data chapter recomputes them.
INPUT_STATISTICS = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "channel": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}


class DatasetError(LabError):
    """The dataset is missing, truncated or altered; the message names the file and the remedy."""


def cifar10_root() -> Path:
    """The folder that holds ``cifar-10-batches-py``: ``$CIFAR10_ROOT``, else ``data/``; relative to the project."""
    return project_root() / Path(os.environ.get("CIFAR10_ROOT") or "data").expanduser()


@dataclass(frozen=True)
class Images:
    """``pixels``: (N, 32, 32, 3) uint8; ``labels``: (N,) int64, 0..9."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> Images:
        """Return the images at ``index``, in its order."""
        return Images(self.pixels[index], self.labels[index])

    def to(self, device: torch.device) -> Images:
        return Images(self.pixels.to(device), self.labels.to(device))


def check_files(root: Path) -> None:
    """Compare every file's md5 with the official one.

    Raises:
        DatasetError: names the first file that is missing or differs, its expected and found md5, and what to do.
    """
    # Torchvision takes a second to import, and chapters that only read results need none of it.
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import calculate_md5

    remedy = (
        "To get the data: `.venv/bin/python -m cifarlab download` (170 MB), "
        "or set CIFAR10_ROOT to a folder that holds cifar-10-batches-py."
    )
    meta = CIFAR10.meta["filename"], CIFAR10.meta["md5"]
    for name, expected in (*CIFAR10.train_list, *CIFAR10.test_list, meta):
        path = root / CIFAR10.base_folder / name
        if not path.is_file():
            raise DatasetError(f"CIFAR-10 is not complete: {path} is missing. {remedy}")
        found = calculate_md5(path)
        if found != expected:
            raise DatasetError(
                f"CIFAR-10 is damaged: {path} has md5 {found}, expected {expected}. Delete this file. {remedy}"
            )


def dataset_md5() -> str:
    """The md5 of the official files' md5s: one value that says which data a run saw."""
    from torchvision.datasets import CIFAR10

    return hashlib.md5("".join(md5 for _, md5 in (*CIFAR10.train_list, *CIFAR10.test_list)).encode()).hexdigest()


def load_cifar10(train: bool, root: Path | None = None) -> Images:
    """Read the 50,000 training or 10,000 test images. Never downloads.

    Raises:
        DatasetError: a file is missing, truncated or altered.
    """
    from torchvision.datasets import CIFAR10

    root = root or cifar10_root()
    try:
        dataset = CIFAR10(root, train=train, download=False)
    except RuntimeError:  # torchvision has read every file and says only that one of them is wrong: say which
        check_files(root)
        raise
    return Images(torch.from_numpy(dataset.data), torch.tensor(dataset.targets))


def synthetic(images: int, seed: int = 0) -> Images:
    """Ten blurry class patterns under noise: learnable in seconds. For tests only, never for the book's numbers."""
    generator = stream(seed, "synthetic")
    patterns = torch.rand(10, 4, 4, 3, generator=stream(0, "synthetic patterns"))
    patterns = patterns.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    labels = torch.randint(10, (images,), generator=generator)
    noise = torch.rand(images, 32, 32, 3, generator=generator)
    return Images(((0.5 * patterns[labels] + 0.5 * noise) * 255).to(torch.uint8), labels)


def load(config: RunConfig, train: bool = True) -> Images:
    """The training (or test) images of the dataset that ``config`` names."""
    if config.dataset == "synthetic":
        return synthetic(config.train_images + config.val_images if train else 256, seed=0 if train else 1)
    return load_cifar10(train)


def split_indices(total: int, train_images: int, val_images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return disjoint random (training, validation) indices: a function of ``seed`` alone."""
    order = torch.randperm(total, generator=stream(seed, "split"))
    # Validation comes from the end, so that training on fewer images keeps the same validation set.
    return order[:train_images], order[total - val_images :]


def split(images: Images, config: RunConfig) -> tuple[Images, Images]:
    """Split into (training, validation) images as ``config`` says."""
    train, val = split_indices(len(images), config.train_images, config.val_images, config.split_seed)
    return images.take(train), images.take(val)


def normalise(pixels: Tensor, input_norm: str) -> Tensor:
    """(N, 32, 32, 3) uint8 to (N, 3, 32, 32) float32, in the order in memory that the pixels have."""
    mean, std = pixel_statistics(input_norm, pixels.device)
    return ((pixels.float() - mean) / std).permute(0, 3, 1, 2)


@functools.cache
def pixel_statistics(input_norm: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Each channel's mean and deviation, (3,) float32 in units of 0 to 255; copied to a device once."""
    mean, std = (torch.tensor(values, device=device) for values in INPUT_STATISTICS[input_norm])
    return 255 * mean, 255 * std


def batches(
    images: Images, config: RunConfig, shuffle: torch.Generator, augmentation: torch.Generator, epoch: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch of (inputs (B, 3, 32, 32) float32, labels (B,) int64), the last batch possibly smaller."""
    mirrored = None
    if config.augment == "alternating_flip_shift":
        # Mirrored at random in the first epoch, then every other: both views are seen equally often (Jordan 2024).
        mirrored = torch.rand(len(images), generator=stream(config.seed, "mirrored")) < 0.5
        mirrored = (mirrored ^ bool(epoch % 2)).to(images.pixels.device)
    order = torch.randperm(len(images), generator=shuffle).to(images.pixels.device)
    for index in order.split(config.batch_size):
        # BatchNorm has no variance over a single image: such a left-over is dropped.
        if len(index) == 1 and len(order) > 1:
            return
        inputs = normalise(images.pixels[index], config.input_norm)
        if mirrored is not None:
            inputs = random_crop(flip(inputs, mirrored[index]), augmentation, padding=2)
        else:
            inputs = augment(inputs, config.augment, augmentation)
        yield inputs, images.labels[index]


def augment(inputs: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Augment each image of a batch on its own; ``kind`` is a value of ``RunConfig.augment``."""
    if "flip" in kind:
        inputs = random_flip(inputs, generator)
    if "crop" in kind:
        inputs = random_crop(inputs, generator)
    if "cutout" in kind:
        inputs = cutout(inputs, generator)
    return inputs


def random_flip(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability one half."""
    return flip(inputs, torch.rand(len(inputs), generator=generator, device=inputs.device) < 0.5)


def flip(inputs: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the ``chosen`` images (N,) bool left to right."""
    return torch.where(chosen[:, None, None, None], inputs.flip(3), inputs)


def random_crop(inputs: Tensor, generator: torch.Generator, padding: int = 4) -> Tensor:
    """Shift each image by up to ``padding`` pixels either way, filling by reflection."""
    count, _, height, width = inputs.shape
    shift = torch.randint(2 * padding + 1, (2, count, 1), generator=generator, device=inputs.device)
    padded = torch.nn.functional.pad(inputs, (padding,) * 4, mode="reflect").permute(0, 2, 3, 1)
    rows = shift[0] + torch.arange(height, device=inputs.device)
    columns = shift[1] + torch.arange(width, device=inputs.device)
    image = torch.arange(count, device=inputs.device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(inputs: Tensor, generator: torch.Generator, size: int = 8) -> Tensor:
    """Set a random ``size`` by ``size`` square of each image to 0 (DeVries & Taylor 2017)."""
    count, _, height, width = inputs.shape
    top = torch.randint(height - size + 1, (count, 1), generator=generator, device=inputs.device)
    left = torch.randint(width - size + 1, (count, 1), generator=generator, device=inputs.device)
    rows = torch.arange(height, device=inputs.device)
    columns = torch.arange(width, device=inputs.device)
    hole = ((rows >= top) & (rows < top + size))[:, :, None] & ((columns >= left) & (columns < left + size))[:, None]
    return inputs.masked_fill(hole[:, None], 0.0)
