"""The chapter on comparing: how large a difference shows, by another library and by hand."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from cifarbook import comparing
from labbook.studies import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower

CHAPTER = Path(__file__).resolve().parents[1] / "notebooks" / "03-comparing.ipynb"


@pytest.fixture(scope="module")
def shown() -> dict:
    """What the chapter's code defines."""
    names = {}
    for cell in nbformat.read(CHAPTER, as_version=4).cells:
        for code in re.findall(r"```python\n(.*?)```", cell.source if cell.cell_type == "markdown" else "", flags=re.S):
            exec(code, names)
    return names


def test_the_chapters_welch_is_that_of_every_claim(shown):
    some, other = pd.Series([84.0, 84.5, 84.2, 83.9]), pd.Series([83.0, 83.9, 83.1])
    (ours,) = stats.differences({"a": some, "b": other}, [("a", "b")])
    assert shown["welch"](some, other) == pytest.approx((ours.low, ours.high, ours.p))


def test_the_chapters_holm_is_another_librarys(shown):
    p = np.array([0.02, 0.004, 0.9, 0.03, 0.02])
    assert shown["holm"](p) == pytest.approx(multipletests(p, method="holm")[1])


@pytest.mark.parametrize(("seeds", "comparisons"), [(3, 1), (5, 1), (5, 8), (10, 8)])
def test_the_detectable_difference_is_that_of_a_t_test_s_power(seeds, comparisons):
    power = TTestIndPower().power(comparing.detectable(seeds, comparisons), seeds, 0.05 / comparisons)
    assert power == pytest.approx(0.8, abs=0.005)


def test_more_seeds_find_smaller_differences_and_more_comparisons_larger_ones_only():
    assert comparing.detectable(10) < comparing.detectable(5) < comparing.detectable(5, 8) < comparing.detectable(3, 8)


def test_the_example_draws_what_there_is():
    some = pd.Series([84.0, 84.5, 84.2], index=[0, 1, 2])
    runs, below = comparing.example({"nothing": some, "10 %": some - 1}, ringed=0).axes
    assert [text.get_text() for text in runs.get_yticklabels()] == ["10 %", "nothing"]
    middle = next(line for line in below.lines if line.get_marker() == "o")
    assert np.ravel(middle.get_xdata()) == pytest.approx([-1.0])
    comparing.example({"nothing": some[:0], "10 %": some[:1]}, ringed=0)
