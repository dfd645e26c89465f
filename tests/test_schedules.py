"""Schedules: the original's against its formula, written out once more here on its own."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import pytest
from cifarlab import schedules
from cifarlab.config import Schedule

CASES = [
    (step, warmup, total)
    for total, warmup in itertools.product((1, 2, 10, 313, 6260), (0, 1, 2, 100, 626))
    for step in {0, 1, warmup - 1, warmup, warmup + 1, total // 2, total - 1, total}
    if 0 <= step <= total
]


@pytest.mark.parametrize(("step", "warmup", "total"), CASES)
def test_the_originals_schedule_is_its_formula(step, warmup, total):
    if step < warmup:
        expected = step / max(1, warmup) + 0.01
    else:
        progress = (step - warmup) / max(1, total - warmup)
        expected = max(0, (1 + math.cos(2 * math.pi * 0.5 * progress)) / 2)
    assert schedules.warmup_cosine(step, total, warmup) == pytest.approx(expected, abs=1e-12)


def test_its_landmarks():
    assert schedules.warmup_cosine(0, 100, 10) == 0.01
    assert schedules.warmup_cosine(9, 100, 10) == pytest.approx(0.91)
    assert schedules.warmup_cosine(10, 100, 10) == 1.0
    assert schedules.warmup_cosine(55, 100, 10) == pytest.approx(0.5)
    assert schedules.warmup_cosine(100, 100, 10) == pytest.approx(0.0)
    assert schedules.warmup_cosine(0, 100, 10, offset=0.0) == 0.0


@pytest.mark.parametrize("name", get_args(Schedule))
def test_every_schedule_stays_within_bounds(name):
    factors = [schedules.factor(name, step, 1000, warmup_steps=100) for step in range(1001)]
    assert all(0 <= factor <= 1.01 for factor in factors)
    assert factors[-1] <= factors[500]


def test_a_warm_up_without_decay_is_the_same_warm_up_and_then_the_peak():
    factors = [schedules.warmup_constant(step, 100, 10) for step in range(101)]
    assert factors[:10] == [schedules.warmup_cosine(step, 100, 10) for step in range(10)]
    assert set(factors[10:]) == {1.0}


def test_the_others_landmarks():
    assert [schedules.step_decay(s, 100) for s in (49, 50, 75)] == pytest.approx([1, 0.1, 0.01])
    assert schedules.exponential(100, 100) == pytest.approx(0.01)
    assert schedules.linear(25, 100) == 0.75
    assert schedules.one_cycle(9, 100, 10) == 1.0
    assert schedules.one_cycle(100, 100, 10) == 0.0


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="'cosin' is not known"):
        schedules.factor("cosin", 0, 1)
