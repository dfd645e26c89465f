"""The chapter on data: a sheet of images, what augmentation makes of one, and what choosing by luck costs; no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from labbook.page.figures import FAINT, BookFigure, new_figure

GREY = 128   # a pixel that the original's scaling makes zero


def flip(image: np.ndarray) -> np.ndarray:
    """Mirror an image (32, 32, 3) left to right."""
    return image[:, ::-1]


def crop(image: np.ndarray, down: int, right: int, padding: int = 4) -> np.ndarray:
    """Cut an image (32, 32, 3) out of itself enlarged by its reflection; ``down`` and ``right``: 0 to 2 ``padding``."""
    height, width, _ = image.shape
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode="reflect")
    return padded[down:down + height, right:right + width]


def cutout(image: np.ndarray, top: int, left: int, size: int = 8) -> np.ndarray:
    """Make a square of an image (32, 32, 3) grey."""
    image = image.copy()
    image[top:top + size, left:left + size] = GREY
    return image


def sheet(samples: np.ndarray, names: Sequence[str], train: Sequence[int], val: Sequence[int]) -> BookFigure:
    """The sample images (10, n, 32, 32, 3), one class a row, between the class's name and its counts in the split."""
    classes, count, side = samples.shape[:3]
    figure, (axis,) = new_figure(width=5.8, height=0.3 + 0.41 * classes)
    axis.imshow(samples.swapaxes(1, 2).reshape(classes * side, count * side, 3), interpolation="nearest")
    places = side * np.arange(classes) + side / 2
    axis.axis("off")
    right = count * side
    for place, name, *numbers in ((-side / 3, "", "train", "choose"), *zip(places, names, train, val, strict=True)):
        axis.text(-8, place, name, ha="right", va="center")
        for number, offset in zip(numbers, (50, 104), strict=True):
            axis.text(right + offset, place, f"{number:,}" if name else number, ha="right", va="center", color=FAINT)
    axis.set(xlim=(-90, right + 105), ylim=(classes * side, -side / 1.5))
    return figure


def augmented(images: Sequence[np.ndarray]) -> BookFigure:
    """Each image (32, 32, 3) as it is, mirrored, shifted both ways, with a hole, and with all three."""
    views = {
        "as it is": lambda image: image,
        "mirrored": flip,
        "shifted": lambda image: crop(image, 8, 1),
        "cut out": lambda image: cutout(image, 5, 17),
        "all three": lambda image: cutout(crop(flip(image), 0, 7), 19, 8),
    }
    figure, axes = new_figure(len(views), len(images), width=1.28, height=1.4)
    for axis, (image, name) in zip(axes, ((image, name) for image in images for name in views), strict=True):
        axis.axis("off")
        axis.imshow(views[name](image), interpolation="nearest")
        if axis in axes[:len(views)]:
            axis.set_title(name, fontsize=11, loc="center")
    return figure


def luck(recipes: int, accuracy: float = 0.85, images: int = 10_000, repetitions: int = 1000) -> float:
    """By how many points the best of equally good recipes looks better than it is, on average.

    Each is right on every image with probability ``accuracy``, whatever the others are.
    """
    right = np.random.default_rng(0).binomial(images, accuracy, size=(repetitions, recipes))
    return float(100 * (right.max(axis=1).mean() / images - accuracy))
