"""A start that sees movement: drifting waves first, then heads that look around.

From random filters the network stays at chance for hundreds of steps: one frame tells nothing
about the label, so nothing but a product of two frames has a gradient worth following, and it has
to be found first. A patch holds two frames; a wave that moves on between them by a quarter of its
length answers to content moving that way, as in Adelson and Bergen's motion energy (1985).
All of it is only a start: every weight is trained.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from video_swin_transformer.model import VideoSwinTransformer

_DIRECTIONS = 8
_WAVELENGTHS = (7.0, 14.0)  # pixels: quarter waves of 1.75 and 3.5 pixels a frame
_OUTWARD_SLOPE = 0.6  # in the softmax, for each token to that side
_LUMA = (0.3, 0.6, 0.1)


def drifting_waves(height: int, width: int) -> Tensor:
    """(32, 2, height, width): 8 directions, 2 wavelengths, 2 phases a quarter wave apart."""
    y, x = torch.meshgrid(
        torch.arange(height) - (height - 1) / 2,
        torch.arange(width) - (width - 1) / 2,
        indexing="ij",
    )
    window = torch.exp(-(x**2 + y**2) / (2 * (0.4 * width) ** 2))
    filters = []
    for number in range(_DIRECTIONS):
        heading = 2 * math.pi * number / _DIRECTIONS
        along = x * math.cos(heading) + y * math.sin(heading)
        for wavelength in _WAVELENGTHS:
            for phase in (0.0, math.pi / 2):
                turns = 2 * math.pi * along / wavelength + phase
                pair = torch.stack([torch.cos(turns), torch.cos(turns - math.pi / 2)]) * window
                pair = pair - pair.mean((1, 2), keepdim=True)
                filters.append(pair / pair.norm())
    return torch.stack(filters)


def looking_outwards(window: tuple[int, int, int]) -> Tensor:
    """Position tables for four heads that look right, left, down and up: (offsets, 4).

    Zooms and rolls are told apart by where things move which way, but nothing in the network says
    where a token is: no window is padded here, and no position is added. Heads that weigh tokens by
    the side they are on hand every token the movement at each side of the window.
    """
    depth, height, width = window
    down = -torch.arange(1 - height, height).float()  # the table counts query minus key
    right = -torch.arange(1 - width, width).float()
    table = torch.zeros(2 * depth - 1, 2 * height - 1, 2 * width - 1, 4)
    table[..., 0] = right
    table[..., 1] = -right
    table[..., 2] = down[:, None]
    table[..., 3] = -down[:, None]
    return _OUTWARD_SLOPE * table.reshape(-1, 4)


@torch.no_grad()
def start_with_movement(model: VideoSwinTransformer) -> None:
    """Waves into the first 32 filters of the patch embedding, larger matrices and heads that look
    outwards behind them; in place.

    With the usual standard deviation of 0.02 and 64 channels, a hidden unit sees 0.16, where GELU
    is all but linear and attention all but even: no product of two things comes out. Xavier's
    numbers give hidden units and attention scores a spread near 1.
    """
    for module in model.backbone.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
    projection = model.backbone.patch_embed.proj
    waves = drifting_waves(projection.kernel_size[1], projection.kernel_size[2])
    luma = torch.tensor(_LUMA).view(1, 3, 1, 1, 1)
    coloured = waves[:, None] * luma
    coloured = coloured / coloured.flatten(1).norm(dim=1).view(-1, 1, 1, 1, 1)
    strength = 3 * projection.weight.flatten(1).norm(dim=1).mean()
    projection.weight[: len(waves)] = strength * coloured
    attention = model.backbone.layers[-1].blocks[0].attn
    attention.relative_position_bias_table.copy_(looking_outwards(model.config.window_size))
