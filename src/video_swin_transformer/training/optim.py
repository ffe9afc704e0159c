"""Parameter groups, learning-rate schedule and moving average of the weights."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from .config import OptimizerConfig, ScheduleConfig

# --- parameter groups -----------------------------------------------------------------------------
#
# Linear and convolution biases decay in both presets. `x` is `backbone_multiplier`, published 0.1:
#
#     parameter                                  official lr/decay    mmaction2 lr/decay
#     bias tables of the backbone                1 / 0                x / 0
#     norms of the backbone (all of them)        x / 1                x / 0
#     other weights and biases of the backbone   x / 1                x / 1
#     head                                       1 / 1                1 / 1
#
# The official column is what its rule does, not what was intended: the optimizer of mmcv applies
# the longest key that a parameter's name contains, and only that one. "backbone" is longer than
# "norm", so the norms decay; "relative_position_bias_table" is longer than "backbone", so the
# tables train at the full learning rate. mmaction2 multiplies all keys that match.

_TABLE, _BACKBONE, _NORM = "relative_position_bias_table", "backbone", "norm"
_BLOCK = re.compile(r"backbone\.layers\.(\d+)\.(?:blocks\.(\d+)|downsample)\.")


class Multipliers(NamedTuple):
    """Factors of the learning rate and of the weight decay."""

    lr: float
    decay: float


def parameter_groups(
    model: nn.Module, depths: Iterable[int], config: OptimizerConfig
) -> list[dict[str, Any]]:
    """Parameter groups for AdamW.

    Args:
        model: The network; parameters without gradient are left out.
        depths: Number of blocks of each stage.
        config: Learning rate, weight decay, preset and layer decay.

    Returns:
        One group for each pair of factors. `lr_scale` is the factor of the group's learning rate,
        by which `lr` is set in each step.
    """
    depths = tuple(depths)
    groups: dict[Multipliers, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        factors = multipliers(name, config.groups, config.backbone_multiplier)
        if config.layer_decay is not None:
            blocks_above = sum(depths) + 1 - layer_depth(name, depths)
            factors = factors._replace(lr=factors.lr * config.layer_decay**blocks_above)
        groups.setdefault(factors, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": config.learning_rate * factors.lr,
            "weight_decay": config.weight_decay * factors.decay,
            "lr_scale": factors.lr,
        }
        for factors, parameters in groups.items()
    ]


def multipliers(name: str, groups: str, backbone_multiplier: float) -> Multipliers:
    """Factors of the parameter `name` in the preset `groups`, "official" or "mmaction2"."""
    by_key = {
        _TABLE: Multipliers(1.0, 0.0),
        _BACKBONE: Multipliers(backbone_multiplier, 1.0),
        _NORM: Multipliers(1.0, 0.0),
    }
    matches = [by_key[key] for key in sorted(by_key, key=len, reverse=True) if key in name]
    if groups == "official":
        return matches[0] if matches else Multipliers(1.0, 1.0)
    lr = decay = 1.0
    for factors in matches:
        lr, decay = lr * factors.lr, decay * factors.decay
    return Multipliers(lr, decay)


def layer_depth(name: str, depths: Iterable[int]) -> int:
    """Depth of a parameter: 0 patch embedding, 1 to N the blocks, N + 1 final norm and head.

    A patch merging layer belongs to the last block before it.
    """
    depths = tuple(depths)
    if "patch_embed" in name:
        return 0
    match = _BLOCK.search(name)
    if match is None:
        return sum(depths) + 1
    stage = int(match[1])
    before = sum(depths[:stage])
    return before + (depths[stage] if match[2] is None else int(match[2]) + 1)


# --- learning rate --------------------------------------------------------------------------------


def learning_rate(step: int, steps_per_epoch: int, base_lr: float, config: ScheduleConfig) -> float:
    """The learning rate of a step.

    Published: a cosine to 0 that changes per epoch, lr_e = lr / 2 * (1 + cos(pi e / E)), times a
    linear warm-up per step from `warmup_factor` to 1. The last epoch trains at lr_(E-1), never
    at 0. A pure function, because `torch.optim.lr_scheduler` cannot give the value of an arbitrary
    step without a counter that every resumed run would have to restore.

    Args:
        step: Number of the step, from 0.
        steps_per_epoch: Steps per epoch.
        base_lr: The learning rate of the recipe.
        config: The schedule.

    Returns:
        The learning rate of a parameter whose factor is 1.
    """
    epoch: float = step // steps_per_epoch if config.cosine == "epoch" else step / steps_per_epoch
    lr = base_lr / 2 * (1 + math.cos(math.pi * min(epoch / config.epochs, 1.0)))
    warmup_steps = config.warmup_epochs * steps_per_epoch
    if step < warmup_steps:
        lr *= 1 - (1 - step / warmup_steps) * (1 - config.warmup_factor)
    return lr


# --- moving average -------------------------------------------------------------------------------


def averaged_model(model: nn.Module, decay: float, device: torch.device) -> AveragedModel:
    """An exponential moving average of the weights (EMA), without gradients.

    The decay warms up, min(decay, (1 + n) / (10 + n)) after n steps, so that the average forgets
    the initial weights quickly. `torch.optim.swa_utils.get_ema_avg_fn` has a constant decay.

    Args:
        model: The network with its initial weights, which are the first value of the average.
        decay: The decay after the warm-up.
        device: Where the average is kept.
    """

    def average(mean: Tensor, value: Tensor, num_averaged: Tensor | int) -> Tensor:
        n = int(num_averaged)
        return mean.lerp(value, 1 - min(decay, (1 + n) / (10 + n)))

    averaged = AveragedModel(model, device=device, avg_fn=average)
    averaged.n_averaged.fill_(1)  # else the first update would discard the initial weights
    return averaged.requires_grad_(False)
