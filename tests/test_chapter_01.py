"""The chapter on data: its augmentations are the library's, in PyTorch and in NumPy."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cifarbook import augmenting
from cifarlab import data

CHAPTER = Path(__file__).resolve().parents[1] / "notebooks" / "01-data.ipynb"


@pytest.fixture(scope="module")
def shown() -> dict:
    """The functions that the chapter shows."""
    text = "\n".join(cell.source for cell in nbformat.read(CHAPTER, as_version=4).cells if cell.cell_type == "markdown")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    names = {"F": F}
    exec(code, names)
    return names


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def draws(name: str, count: int) -> list[dict[str, int]]:
    """The random numbers that the library draws for each of ``count`` images."""
    if name == "crop":
        return [{"down": int(down), "right": int(right)}
                for down, right in zip(*torch.randint(9, (2, count, 1), generator=generator()), strict=True)]
    same = generator()
    tops, lefts = (torch.randint(25, (count, 1), generator=same) for _ in range(2))
    return [{"top": int(top), "left": int(left)} for top, left in zip(tops, lefts, strict=True)]


@pytest.mark.parametrize(("name", "library"), [("crop", data.random_crop), ("cutout", data.cutout)])
def test_crop_and_cutout_are_the_librarys(shown, name, library):
    images = torch.rand(40, 3, 32, 32)
    ours = torch.stack([shown[name](image, **drawn) for image, drawn in zip(images, draws(name, 40), strict=True)])
    assert torch.equal(ours, library(images, generator()))


def test_flip_is_the_librarys(shown):
    images = torch.rand(3, 3, 32, 32)
    ours = torch.stack([shown["flip"](image) for image in images])
    assert torch.equal(ours, data.flip(images, torch.ones(3, dtype=torch.bool)))


@pytest.mark.parametrize(("name", "drawn"), [
    ("flip", {}), ("crop", {"down": 8, "right": 1}), ("cutout", {"top": 5, "left": 17})])
def test_the_pictures_show_what_the_network_sees(shown, name, drawn):
    image = np.random.default_rng(0).integers(256, size=(32, 32, 3), dtype=np.uint8)
    seen = shown[name](data.normalise(torch.from_numpy(image)[None], "half")[0], **drawn)
    picture = torch.from_numpy(getattr(augmenting, name)(image, **drawn).copy())[None]
    # The grey of a hole is half a step of a pixel from zero.
    torch.testing.assert_close(data.normalise(picture, "half")[0], seen, rtol=0, atol=1 / 255)


def test_luck_grows_slowly_with_the_number_of_recipes():
    assert abs(augmenting.luck(1)) < 0.05
    assert 1.5 < augmenting.luck(1000) / augmenting.luck(20) < 1.9
