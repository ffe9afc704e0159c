"""Applies the adaptations that `allow` permits to the tensors of a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ..config import ModelConfig
from ..windows import Size3
from .inflation import (
    PATCH_WEIGHT,
    TABLE_SUFFIX,
    adapt_input_channels,
    inflate_bias_table,
    inflate_patch_projection,
    resize_bias_table,
    sum_patch_over_time,
)

_HEAD = "cls_head."


@dataclass(frozen=True, eq=False)
class AdaptedTensors:
    """Tensors under official names after the adaptations, and a description of each."""

    tensors: dict[str, Tensor]
    adaptations: tuple[str, ...] = ()
    conversions: tuple[str, ...] = ()
    has_new_head: bool = False


def adapt(
    tensors: Mapping[str, Tensor],
    file_config: ModelConfig | None,
    target: ModelConfig,
    is_image: bool,
    allow: frozenset[str],
) -> AdaptedTensors:
    """Adapts tensors to `target` as far as `allow` permits.

    Tensors that differ otherwise are left unchanged, so that the load report lists them.

    Args:
        tensors: The tensors of the checkpoint under official names.
        file_config: Configuration of the checkpoint; None if unknown.
        target: Configuration of the model to load into.
        is_image: Whether the tensors are image weights.
        allow: Allowed differences; see `load_checkpoint`.

    Returns:
        The adapted tensors.
    """
    changed = dict(tensors)
    notes: list[str] = []
    converted: list[str] = []
    if is_image and "inflate" in allow:
        notes.append(_inflate(changed, target, converted))
        if target.num_classes == 0 and any(name.startswith(_HEAD) for name in changed):
            changed = {name: t for name, t in changed.items() if not name.startswith(_HEAD)}
            notes.append("inflate: image classifier dropped")
    elif (
        "window" in allow
        and file_config is not None
        and file_config.window_size != target.window_size
    ):
        notes.append(_resize_window(changed, file_config.window_size, target.window_size))
    weight = changed.get(PATCH_WEIGHT)
    if (
        weight is not None
        and weight.ndim == 5
        and "patch_time" in allow
        and target.patch_size[0] == 1 < weight.shape[2]
    ):
        notes.append(f"patch_time: patch summed over its {weight.shape[2]} frames")
        weight = changed[PATCH_WEIGHT] = sum_patch_over_time(weight.float())
    old_chans = 0 if weight is None or weight.ndim != 5 else weight.shape[1]
    if weight is not None and "in_chans" in allow and old_chans not in (0, target.in_chans):
        changed[PATCH_WEIGHT] = adapt_input_channels(weight.float(), target.in_chans)
        how = "summed" if target.in_chans == 1 else "repeated and scaled"
        notes.append(f"in_chans: {old_chans} channels {how} to {target.in_chans}")
    has_new_head = False
    has_head = any(name.startswith(_HEAD) for name in changed)
    if (
        "head" in allow
        and file_config is not None
        and file_config.num_classes != target.num_classes
        and (has_head or target.num_classes > 0)
    ):
        changed = {name: t for name, t in changed.items() if not name.startswith(_HEAD)}
        has_new_head = target.num_classes > 0
        old = (
            f"dropped the classifier of {file_config.num_classes} classes"
            if file_config.num_classes
            else "the file has none"
        )
        new = f"new classifier of {target.num_classes} classes" if has_new_head else "no classifier"
        notes.append(f"head: {old}; {new}")
    return AdaptedTensors(changed, tuple(notes), tuple(converted), has_new_head)


def _inflate(tensors: dict[str, Tensor], target: ModelConfig, converted: list[str]) -> str:
    """Inflates image weights in place. Returns a description."""
    weight = tensors.get(PATCH_WEIGHT)
    if weight is not None and weight.ndim == 4:
        tensors[PATCH_WEIGHT] = inflate_patch_projection(weight.float(), target.patch_size[0])
    num_resized = 0
    for name, table in tensors.items():
        if _is_bias_table(name, table) and math.isqrt(table.shape[0]) ** 2 == table.shape[0]:
            tensors[name] = inflate_bias_table(table.float(), target.window_size)
            num_resized += table.shape[0] != (2 * target.window_size[1] - 1) ** 2
    if num_resized:
        side = target.window_size[1]
        converted.append(f"{num_resized} bias tables resized to windows of {side} (bicubic)")
    return (
        f"inflate: image weights repeated over {target.patch_size[0]} frames per patch and "
        f"{2 * target.window_size[0] - 1} temporal offsets"
    )


def _is_bias_table(name: str, tensor: Tensor) -> bool:
    return name.endswith(TABLE_SUFFIX) and tensor.ndim == 2 and tensor.numel() > 0


def _resize_window(tensors: dict[str, Tensor], old: Size3, new: Size3) -> str:
    """Interpolates the bias tables of the old window in place. Returns a description."""
    rows = math.prod(2 * length - 1 for length in old)
    count = 0
    for name, table in tensors.items():
        if _is_bias_table(name, table) and table.shape[0] == rows:
            tensors[name] = resize_bias_table(table.float(), old, new)
            count += 1
    return f"window: {count} bias tables interpolated from {old} to {new}"
