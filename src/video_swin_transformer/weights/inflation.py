"""Image weights -> video weights, and the other changes of shape a caller may permit.

All functions take tensors and give tensors; names are ours. The rules for inflation are those of
the official code, so a video whose frames are all alike gets what the image network says of one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..windows import Size3

PATCH_WEIGHT = "backbone.patch_embed.proj.weight"
TABLE_SUFFIX = ".attn.relative_position_bias_table"


def _offsets(window: Size3) -> Size3:
    """How many different offsets two tokens of a window can have along each axis."""
    return (2 * window[0] - 1, 2 * window[1] - 1, 2 * window[2] - 1)


def inflate_patch_projection(weight: Tensor, num_frames: int) -> Tensor:
    """(C, in, p, p) -> (C, in, num_frames, p, p): the same for every frame, their sum unchanged."""
    return weight[:, :, None].repeat(1, 1, num_frames, 1, 1) / num_frames


def sum_patch_over_time(weight: Tensor) -> Tensor:
    """(C, in, t, p, p) -> (C, in, 1, p, p): one frame gets what t equal frames would get."""
    return weight.sum(dim=2, keepdim=True)


def inflate_bias_table(table: Tensor, window: Size3) -> Tensor:
    """(S * S, heads) of an image window -> (rows of `window`, heads), alike at every time offset.

    A table of another window is first resized in space (bicubic, as the official code does).
    """
    side = round(table.shape[0] ** 0.5)
    frames, height, width = _offsets(window)
    if (side, side) != (height, width):
        grid = _resize_space(table.view(1, side, side, -1), (height, width))
        table = grid.flatten(0, 2)
    return table.repeat(frames, 1)


def resize_bias_table(table: Tensor, old: Size3, new: Size3) -> Tensor:
    """The bias table of window `old` for window `new`: (rows, heads) -> (rows, heads).

    Along time linearly, with the ends and the middle kept: the farthest offset of the old window
    becomes the farthest of the new one, and offset 0 stays offset 0. In space bicubic, as in
    inflation. An axis that does not change is not touched.
    """
    (frames, *space), (new_frames, *new_space) = _offsets(old), _offsets(new)
    grid = table.view(frames, *space, -1)  # (2d-1, 2h-1, 2w-1, heads)
    if space != new_space:
        grid = _resize_space(grid, (new_space[0], new_space[1]))
    if frames != new_frames:
        lines = grid.flatten(1).t()[None]  # (1, (2h-1)(2w-1) heads, 2d-1)
        lines = F.interpolate(lines, size=new_frames, mode="linear", align_corners=True)
        grid = lines[0].t().reshape(new_frames, *grid.shape[1:])
    return grid.flatten(0, 2).contiguous()


def _resize_space(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """(D, H, W, heads) -> (D, *size, heads), bicubic without antialiasing."""
    planes = grid.permute(0, 3, 1, 2)
    planes = F.interpolate(planes, size=size, mode="bicubic", align_corners=False)
    return planes.permute(0, 2, 3, 1).contiguous()


def adapt_input_channels(weight: Tensor, num_channels: int) -> Tensor:
    """Patch projection (C, old, ...) -> (C, num_channels, ...).

    To one channel: the sum, so that gray in equals the same gray in all old channels. To several:
    the old channels in turn, scaled by old / new, so that equal channels give what they gave where
    new is a multiple of old, and about that elsewhere (the rule of timm).
    """
    old = weight.shape[1]
    if num_channels == 1:
        return weight.sum(dim=1, keepdim=True)
    rounds = -(-num_channels // old)
    repeated = torch.cat([weight] * rounds, dim=1)[:, :num_channels]
    return repeated * (old / num_channels)
