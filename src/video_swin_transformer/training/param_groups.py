"""Which parameters learn slower and which do not decay.

Linear and convolution biases decay in both presets. `x` is `backbone_multiplier`, published 0.1:

    parameter                                  official lr/decay    mmaction2 lr/decay
    bias tables of the backbone                1 / 0                x / 0
    norms of the backbone (all of them)        x / 1                x / 0
    other weights and biases of the backbone   x / 1                x / 1
    head                                       1 / 1                1 / 1

The official column is what its rule does, not what it was meant to do: the optimizer of mmcv takes
the longest key that a parameter's name contains, and that one alone. "backbone" is longer than
"norm", so the norms decay; "relative_position_bias_table" is longer than "backbone", so the tables
learn at the full rate. mmaction2 multiplies all keys that match.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from torch import nn

from .config import OptimizerConfig

_TABLE, _BACKBONE, _NORM = "relative_position_bias_table", "backbone", "norm"
_BLOCK = re.compile(r"backbone\.layers\.(\d+)\.(?:blocks\.(\d+)|downsample)\.")


class Factors(NamedTuple):
    """Of the learning rate and of the weight decay."""

    rate: float
    decay: float


def factors_of(name: str, groups: str, backbone_multiplier: float) -> Factors:
    """Factors of the parameter `name` by a preset, "official" or "mmaction2"."""
    keys = {
        _TABLE: Factors(1.0, 0.0),
        _BACKBONE: Factors(backbone_multiplier, 1.0),
        _NORM: Factors(1.0, 0.0),
    }
    found = [keys[key] for key in sorted(keys, key=len, reverse=True) if key in name]
    if groups == "official":
        return found[0] if found else Factors(1.0, 1.0)
    rate = decay = 1.0
    for factors in found:
        rate, decay = rate * factors.rate, decay * factors.decay
    return Factors(rate, decay)


def depth_of(name: str, depths: Iterable[int]) -> int:
    """How deep a parameter stands: 0 patch embedding, 1 to N the blocks, N + 1 norm and head.

    A patch merging belongs to the last block before it.
    """
    depths = tuple(depths)
    if "patch_embed" in name:
        return 0
    found = _BLOCK.search(name)
    if found is None:
        return sum(depths) + 1
    stage = int(found[1])
    before = sum(depths[:stage])
    return before + (depths[stage] if found[2] is None else int(found[2]) + 1)


def parameter_groups(
    model: nn.Module, depths: Iterable[int], plan: OptimizerConfig
) -> list[dict[str, Any]]:
    """Groups for AdamW of what has a gradient; `lr_scale` is the group's own, `lr` set later."""
    depths = tuple(depths)
    groups: dict[Factors, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        factors = factors_of(name, plan.groups, plan.backbone_multiplier)
        if plan.layer_decay is not None:
            steps = sum(depths) + 1 - depth_of(name, depths)
            factors = factors._replace(rate=factors.rate * plan.layer_decay**steps)
        groups.setdefault(factors, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": plan.learning_rate * factors.rate,
            "weight_decay": plan.weight_decay * factors.decay,
            "lr_scale": factors.rate,
        }
        for factors, parameters in groups.items()
    ]
