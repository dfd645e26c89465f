"""The chapter on dropout: its lines of PyTorch are the library's, and its drawing drops what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from cifarbook import card
from cifarbook import dropout as drawings
from torch.nn import functional

CHAPTER = Path(__file__).resolve().parents[1] / "notebooks" / "04-dropout.ipynb"


@pytest.fixture(scope="module")
def dropout():
    cells = json.loads(CHAPTER.read_text(encoding="utf-8"))["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    (block,) = re.findall(r"```python\n([^`]*?def dropout.*?)```", prose, re.S)
    names = {"torch": torch}
    exec(block, names)
    return names["dropout"]


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_single_values_are_dropped_as_by_pytorch(dropout, p):
    h = torch.randn(64, 128)
    torch.manual_seed(3)
    ours = dropout(h, p, training=True)
    torch.manual_seed(3)
    torch.testing.assert_close(ours, functional.dropout(h, p, training=True))


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_whole_maps_are_dropped_as_by_pytorch(dropout, p):
    h = torch.randn(8, 32, 4, 4)
    torch.manual_seed(3)
    ours = dropout(h, p, training=True, whole_maps=True)
    torch.manual_seed(3)
    torch.testing.assert_close(ours, functional.dropout2d(h, p, training=True))


def test_nothing_happens_at_test_time_or_without_a_rate(dropout):
    h = torch.randn(4, 8)
    assert dropout(h, 0.5, training=False) is h
    assert dropout(h, 0, training=True) is h


def test_the_mean_is_kept_and_the_square_is_not(dropout):
    h, p = torch.full((400, 500), 2.0), 0.5
    found = dropout(h, p, training=True)
    assert found.mean().item() == pytest.approx(2, rel=0.02)
    assert (found ** 2).mean().item() == pytest.approx(4 / (1 - p), rel=0.02)


def test_the_drawing_drops_whole_maps_or_single_values_and_enlarges_the_rest():
    maps = drawings.feature_maps(card.samples()[4, 2])
    assert maps.shape == (4, 32, 32)
    assert (maps.min(), maps.max()) == (0, 1)
    whole = drawings.dropped(maps, 0.5, True, np.random.default_rng(3))
    assert {bool(np.isnan(one).all()) for one in whole} == {True, False}
    assert np.isnan(whole).any((1, 2)).tolist() == np.isnan(whole).all((1, 2)).tolist()
    single = drawings.dropped(maps, 0.5, False, np.random.default_rng(0))
    kept = ~np.isnan(single)
    assert 0.45 < kept.mean() < 0.55
    np.testing.assert_allclose(single[kept], 2 * maps[kept])
