"""What a run does at which optimizer step: learning rate, image side. Pure functions of the configuration; no torch.

Each function called after a schedule returns the factor (a float, usually in 0..1) by which the peak rate is
multiplied at ``step`` of ``total_steps``, counted from 0.
"""

from __future__ import annotations

import math

from cifarlab.config import RunConfig


def constant(step: int, total_steps: int) -> float:
    """The factor 1 at every step."""
    return 1.0


def warmup_cosine(
    step: int, total_steps: int, warmup_steps: int, offset: float = 0.01, cycles: float = 0.5
) -> float:
    """Linear warm-up, then cosine decay: the original report's schedule, to the letter.

    For ``step < warmup_steps`` the factor is ``step / max(1, warmup_steps) + offset``; afterwards
    ``max(0, (1 + cos(2 pi cycles progress)) / 2)`` with ``progress`` running from 0 to 1 over the rest.

    ``offset`` is the original's addend. It keeps the very first step from having rate 0 (a step that computes
    everything and changes nothing); its side effect is a factor slightly above 1 at the warm-up's end.

    Sources: Goyal et al. 2017 (warm-up); Loshchilov & Hutter 2017, eq. 5 (cosine).
    """
    if step < warmup_steps:
        return step / max(1, warmup_steps) + offset
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return max(0.0, 0.5 * (1.0 + math.cos(2.0 * math.pi * cycles * progress)))


def warmup_constant(step: int, total_steps: int, warmup_steps: int, offset: float = 0.01) -> float:
    """The warm-up of :func:`warmup_cosine`, then the factor 1: a warm-up without any decay."""
    return warmup_cosine(step, total_steps, warmup_steps, offset, cycles=0.0)


def step_decay(step: int, total_steps: int, drops: tuple[float, ...] = (0.5, 0.75), gamma: float = 0.1) -> float:
    """Multiply by ``gamma`` at each fraction of the run in ``drops`` (He et al. 2016, section 4.2)."""
    return gamma ** sum(step >= fraction * total_steps for fraction in drops)


def exponential(step: int, total_steps: int, final: float = 0.01) -> float:
    """Fall by a constant ratio a step, from 1 to ``final`` at the end."""
    return final ** (step / max(1, total_steps))


def linear(step: int, total_steps: int) -> float:
    """Fall on a straight line from 1 to 0."""
    return max(0.0, 1.0 - step / max(1, total_steps))


def one_cycle(step: int, total_steps: int, warmup_steps: int) -> float:
    """Rise on a straight line over ``warmup_steps``, then fall on one to 0 (Smith 2018; Page 2018)."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))


def factor(name: str, step: int, total_steps: int, warmup_steps: int = 0, offset: float = 0.01) -> float:
    """Return the factor of the schedule called ``name`` (a value of ``RunConfig.schedule``).

    Raises:
        ValueError: no schedule has that name.
    """
    match name:
        case "constant":
            return constant(step, total_steps)
        case "warmup_cosine":
            return warmup_cosine(step, total_steps, warmup_steps, offset)
        case "warmup_constant":
            return warmup_constant(step, total_steps, warmup_steps, offset)
        case "step":
            return step_decay(step, total_steps)
        case "exponential":
            return exponential(step, total_steps)
        case "linear":
            return linear(step, total_steps)
        case "one_cycle":
            return one_cycle(step, total_steps, warmup_steps)
    raise ValueError(f"schedule: {name!r} is not known")


def steps_per_epoch(config: RunConfig) -> int:
    """Optimizer steps in one epoch, as :func:`cifarlab.data.batches` cuts them."""
    whole, rest = divmod(config.train_images, config.batch_size)
    return whole + (rest > 1 or whole == 0)


def warmup_steps(config: RunConfig) -> int:
    """The warm-up's length in optimizer steps."""
    return round(config.warmup_epochs * steps_per_epoch(config))


def learning_rate(config: RunConfig, step: int) -> float:
    """The rate of optimizer step ``step``, counted from 0 over the whole run."""
    total = config.epochs * steps_per_epoch(config)
    return config.learning_rate * factor(
        config.schedule, step, total, warmup_steps(config), config.warmup_offset
    )


def image_side(config: RunConfig, step: int) -> int:
    """The side in pixels of the images that step ``step`` sees: small ones first, where ``config`` says so."""
    small_steps = round(config.low_resolution_epochs * steps_per_epoch(config))
    if step >= small_steps:
        return 32
    stage = step * config.low_resolution_stages // small_steps
    return config.low_resolution + (32 - config.low_resolution) * stage // config.low_resolution_stages


def trains_whitening_bias(config: RunConfig, step: int) -> bool:
    """Whether step ``step`` still moves the biases of SpeedNet's first layer (after Jordan 2024)."""
    return not config.whitening_bias_epochs or step < round(config.whitening_bias_epochs * steps_per_epoch(config))
