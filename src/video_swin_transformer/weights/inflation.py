"""Inflation of image weights to video weights, and other shape adaptations.

Inflation follows the official code (`SwinTransformer3D.inflate_weights`): a video of identical
frames gets the same output as the image model for one frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..windows import Size3

PATCH_WEIGHT = "backbone.patch_embed.proj.weight"
TABLE_SUFFIX = ".attn.relative_position_bias_table"


def _num_offsets(window: Size3) -> Size3:
    """Returns the number of relative offsets between tokens of a window along each axis."""
    return (2 * window[0] - 1, 2 * window[1] - 1, 2 * window[2] - 1)


def inflate_patch_projection(weight: Tensor, num_frames: int) -> Tensor:
    """Repeats a 2D patch projection over time and divides it by the number of frames.

    Args:
        weight: (C, in_chans, p, p).
        num_frames: Patch size along time.

    Returns:
        (C, in_chans, num_frames, p, p).
    """
    return weight[:, :, None].repeat(1, 1, num_frames, 1, 1) / num_frames


def sum_patch_over_time(weight: Tensor) -> Tensor:
    """Sums a patch over time: (C, in_chans, t, p, p) -> (C, in_chans, 1, p, p).

    One frame then gets what t equal frames would get.
    """
    return weight.sum(dim=2, keepdim=True)


def inflate_bias_table(table: Tensor, window: Size3) -> Tensor:
    """Repeats a 2D relative position bias table over the temporal offsets.

    A table of a different window size is first resized in space (bicubic, as in the official
    code).

    Args:
        table: (rows, num_heads); rows is the square of the number of offsets per axis.
        window: Window size of the video model, (D, h, w) in tokens.

    Returns:
        ((2D - 1) * (2h - 1) * (2w - 1), num_heads).
    """
    side = round(table.shape[0] ** 0.5)
    frames, height, width = _num_offsets(window)
    if (side, side) != (height, width):
        grid = _resize_spatial(table.view(1, side, side, -1), (height, width))
        table = grid.flatten(0, 2)
    return table.repeat(frames, 1)


def resize_bias_table(table: Tensor, old: Size3, new: Size3) -> Tensor:
    """Resizes a relative position bias table from window `old` to window `new`.

    Interpolation is linear in time, with aligned corners, so that the largest offsets and offset 0
    are preserved, and bicubic in space, as in inflation. Unchanged axes are not interpolated.

    Args:
        table: (rows of `old`, num_heads).
        old: Window size of the table, (D, h, w) in tokens.
        new: Window size to resize to.

    Returns:
        (rows of `new`, num_heads).
    """
    (frames, *space), (new_frames, *new_space) = _num_offsets(old), _num_offsets(new)
    grid = table.view(frames, *space, -1)  # (2D-1, 2h-1, 2w-1, heads)
    if space != new_space:
        grid = _resize_spatial(grid, (new_space[0], new_space[1]))
    if frames != new_frames:
        lines = grid.flatten(1).t()[None]  # (1, (2h-1)(2w-1) heads, 2D-1)
        lines = F.interpolate(lines, size=new_frames, mode="linear", align_corners=True)
        grid = lines[0].t().reshape(new_frames, *grid.shape[1:])
    return grid.flatten(0, 2).contiguous()


def _resize_spatial(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes (2D-1, 2h-1, 2w-1, heads) to (2D-1, *size, heads), bicubic, not antialiased."""
    planes = grid.permute(0, 3, 1, 2)
    planes = F.interpolate(planes, size=size, mode="bicubic", align_corners=False)
    return planes.permute(0, 2, 3, 1).contiguous()


def adapt_input_channels(weight: Tensor, num_channels: int) -> Tensor:
    """Adapts a patch projection to a different number of input channels, as timm does.

    For one channel, the input channels are summed. For more channels, they are repeated cyclically
    and scaled by old / new to preserve the magnitude of the output.

    Args:
        weight: (C, old_channels, ...).
        num_channels: New number of input channels.

    Returns:
        (C, num_channels, ...).
    """
    old = weight.shape[1]
    if num_channels == 1:
        return weight.sum(dim=1, keepdim=True)
    num_repeats = -(-num_channels // old)
    repeated = torch.cat([weight] * num_repeats, dim=1)[:, :num_channels]
    return repeated * (old / num_channels)
