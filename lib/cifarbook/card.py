"""The dataset's card: figures and a few pictures of CIFAR-10, committed so that the book builds without the dataset.

``python -m cifarbook card`` makes it from the dataset; a test makes it again and compares.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from labbook.paths import project_root
from labbook.runs import files

SAMPLES_PER_CLASS = 8


def folder() -> Path:
    """The card is a part of the project, whatever folder the runs go to."""
    return project_root() / "results" / "data"


def read() -> dict[str, Any]:
    """The committed card: channel statistics, class counts of the split, the files' md5."""
    return json.loads((folder() / "card.json").read_text(encoding="utf-8"))


def samples() -> np.ndarray:
    """The committed sample sheet as images (10, 8, 32, 32, 3) uint8: for each class the first eight of the dataset."""
    from PIL import Image

    sheet = np.asarray(Image.open(folder() / "samples.png"))
    return sheet.reshape(10, 32, SAMPLES_PER_CLASS, 32, 3).swapaxes(1, 2)


def compute() -> tuple[dict[str, Any], np.ndarray]:
    """Compute the card and the sheet (320, 256, 3) uint8 from the training images.

    Raises:
        DatasetError: the dataset is missing or damaged.
    """
    import torch
    from cifarlab import data
    from cifarlab.config import RunConfig

    images = data.load_cifar10(train=True)
    train, val = data.split(images, RunConfig())
    pixels = images.pixels.double() / 255
    card = {
        "images": len(images),
        "channel_mean": pixels.mean((0, 1, 2)).tolist(),
        "channel_std": pixels.std((0, 1, 2), correction=0).tolist(),
        "train_class_counts": torch.bincount(train.labels, minlength=10).tolist(),
        "val_class_counts": torch.bincount(val.labels, minlength=10).tolist(),
        "classes": list(data.CLASSES),
        "dataset_md5": data.dataset_md5(),
    }
    firsts = torch.stack([
        images.pixels[(images.labels == label).nonzero()[:SAMPLES_PER_CLASS, 0]] for label in range(10)
    ])
    sheet = firsts.permute(0, 2, 1, 3, 4).reshape(10 * 32, SAMPLES_PER_CLASS * 32, 3).numpy()
    return card, sheet


def write() -> Path:
    """Compute the card and write its two files."""
    import io

    from PIL import Image

    card, sheet = compute()
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="png", optimize=True)
    files.write_bytes(folder() / "samples.png", buffer.getvalue())
    files.write_text(folder() / "card.json", json.dumps(card, indent=1) + "\n")
    return folder()
