"""The chapter on comparing: how large a difference shows, by another library and by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from cifarbook import comparing
from statsmodels.stats.power import TTestIndPower


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
