"""The learning rate of each step of the optimizer: a pure function.

Published: a cosine to 0 that is stepped by the epoch, lr_e = lr / 2 * (1 + cos(pi e / E)), and a
linear warm-up by the step from `warmup_factor` to 1, as a factor of the epoch's cosine value (not
of the base rate). The last epoch learns at lr_(E-1), never at 0.
"""

from __future__ import annotations

import math

from .config import ScheduleConfig


def learning_rate(step: int, steps_per_epoch: int, base_rate: float, plan: ScheduleConfig) -> float:
    """The rate of step number `step`, from 0, of a parameter whose factor is 1."""
    epoch: float = step // steps_per_epoch if plan.cosine == "epoch" else step / steps_per_epoch
    rate = base_rate / 2 * (1 + math.cos(math.pi * min(epoch / plan.epochs, 1.0)))
    warmup_steps = plan.warmup_epochs * steps_per_epoch
    if step < warmup_steps:
        rate *= 1 - (1 - step / warmup_steps) * (1 - plan.warmup_factor)
    return rate
