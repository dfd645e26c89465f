"""Schedules: the original's against its formula, written out once more here on its own."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import pytest
from cifarlab import schedules
from cifarlab.config import RunConfig, Schedule

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


def test_a_runs_rate_is_its_schedule_over_all_its_steps():
    config = RunConfig.of(train_images=100, val_images=0, batch_size=10, epochs=4, schedule="warmup_cosine",
                          warmup_epochs=1.5, learning_rate=0.02)
    assert schedules.steps_per_epoch(config) == 10
    assert schedules.warmup_steps(config) == 15
    assert [schedules.learning_rate(config, step) for step in (0, 14, 15, 39)] == pytest.approx(
        [0.02 * 0.01, 0.02 * (14 / 15 + 0.01), 0.02, 0.02 * schedules.warmup_cosine(39, 40, 15)])
    # The last step of a schedule that ends at 0 still moves the weights.
    assert schedules.learning_rate(config.with_(schedule="linear"), 39) == pytest.approx(0.02 / 40)


@pytest.mark.parametrize(("images", "batch", "steps"), [
    (100, 10, 10), (101, 10, 10), (102, 10, 11), (5, 10, 1), (1, 10, 1), (2, 2, 1), (3, 2, 1)])
def test_a_last_batch_of_one_image_is_no_step(images, batch, steps):
    config = RunConfig.of(train_images=images, val_images=0, batch_size=batch)
    assert schedules.steps_per_epoch(config) == steps


@pytest.mark.parametrize(("changes", "sides"), [
    ({}, [32] * 8),
    ({"low_resolution": 24, "low_resolution_epochs": 2.5}, [24] * 5 + [32] * 3),
    ({"low_resolution": 16, "low_resolution_epochs": 3.0, "low_resolution_stages": 2}, [16] * 3 + [24] * 3 + [32] * 2),
    ({"low_resolution": 20, "low_resolution_epochs": 4.0, "low_resolution_stages": 3}, [20] * 3 + [24] * 3 + [28] * 2),
])
def test_images_grow_in_equal_stages(changes, sides):
    config = RunConfig.of(model="speednet", train_images=128, batch_size=64, epochs=4, **changes)
    assert [schedules.image_side(config, step) for step in range(8)] == sides


def test_speednets_first_biases_are_held_once_their_epochs_are_over():
    config = RunConfig.of(model="speednet", train_images=128, batch_size=64, epochs=4, whitening_bias_epochs=1.5)
    assert [schedules.trains_whitening_bias(config, step) for step in range(5)] == [True] * 3 + [False] * 2
    assert schedules.trains_whitening_bias(config.with_(whitening_bias_epochs=0.0), 7)
