"""A start that sees movement: drifting waves first, then heads that look around.

From random filters the network stays at chance for hundreds of steps: one frame tells nothing
about the label, so nothing but a product of two frames has a gradient worth following, and it has
to be found first. A patch holds four frames; a wave that moves on between them by a part of its
length answers to content moving that way, as in Adelson and Bergen's motion energy (1985).
All of it is only a start: every weight is trained.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from video_swin_transformer.layers import WindowAttention3D
from video_swin_transformer.model import VideoSwinTransformer

_DIRECTIONS = 8
# Wavelength in pixels, and how far it moves on in a frame: 1.75, 3.5 and again 1.75 pixels.
_WAVES = ((7.0, math.pi / 2), (14.0, math.pi / 2), (14.0, math.pi / 4))
_OUTWARD_SLOPE = 0.6  # in the softmax, for each token to that side
_TIME_SLOPE = 1.5  # for each token (four frames) earlier or later
_LUMA = (0.3, 0.6, 0.1)


def drifting_waves(frames: int, height: int, width: int) -> Tensor:
    """(48, frames, height, width): 8 directions, 3 waves, 2 phases a quarter wave apart."""
    t, y, x = torch.meshgrid(
        torch.arange(frames) - (frames - 1) / 2,
        torch.arange(height) - (height - 1) / 2,
        torch.arange(width) - (width - 1) / 2,
        indexing="ij",
    )
    window = torch.exp(-(x**2 + y**2) / (2 * (0.4 * width) ** 2))
    filters = []
    for number in range(_DIRECTIONS):
        heading = 2 * math.pi * number / _DIRECTIONS
        along = x * math.cos(heading) + y * math.sin(heading)
        for wavelength, advance in _WAVES:
            for phase in (0.0, math.pi / 2):
                turns = 2 * math.pi * along / wavelength + phase - advance * t
                wave = torch.cos(turns) * window
                wave = wave - wave.mean((1, 2), keepdim=True)
                filters.append(wave / wave.norm())
    return torch.stack(filters)


def looking_outwards(window: tuple[int, int, int], num_heads: int) -> Tensor:
    """Position tables whose first four heads look right, left, down and up: (offsets, num_heads).

    Zooms and rolls are told apart by where things move which way, but nothing in the network says
    where a token is: no window is padded here, and no position is added. Heads that weigh tokens by
    the side they are on hand every token the movement at each side of the window.
    """
    depth, height, width = window
    down = -torch.arange(1 - height, height).float()  # the table counts query minus key
    right = -torch.arange(1 - width, width).float()
    table = torch.zeros(2 * depth - 1, 2 * height - 1, 2 * width - 1, num_heads)
    table[..., 0] = right
    table[..., 1] = -right
    table[..., 2] = down[:, None]
    table[..., 3] = -down[:, None]
    return _OUTWARD_SLOPE * table.reshape(-1, num_heads)


def looking_along_time(window: tuple[int, int, int], num_heads: int) -> Tensor:
    """Position tables whose first two heads look late and early: (offsets, num_heads).

    A shake and a pan differ in whether the end of the clip moves as its beginning does.
    """
    depth, height, width = window
    later = -torch.arange(1 - depth, depth).float()  # query minus key
    table = torch.zeros(2 * depth - 1, 2 * height - 1, 2 * width - 1, num_heads)
    table[..., 0] = later[:, None, None]
    table[..., 1] = -later[:, None, None]
    return _TIME_SLOPE * table.reshape(-1, num_heads)


@torch.no_grad()
def start_with_movement(model: VideoSwinTransformer) -> None:
    """Waves into the first 48 filters of the patch embedding, larger matrices and heads that look
    outwards behind them; in place.

    With the usual standard deviation of 0.02 and 64 channels, a hidden unit sees 0.16, where GELU
    is all but linear and attention all but even: no product of two things comes out. Xavier's
    numbers give hidden units and attention scores a spread near 1.
    """
    for module in model.backbone.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
    projection = model.backbone.patch_embed.proj
    waves = drifting_waves(*projection.kernel_size)
    luma = torch.tensor(_LUMA).view(1, 3, 1, 1, 1)
    colored = waves[:, None] * luma
    colored = colored / colored.flatten(1).norm(dim=1).view(-1, 1, 1, 1, 1)
    strength = 3 * projection.weight.flatten(1).norm(dim=1).mean()
    projection.weight[: len(waves)] = strength * colored
    attentions = [
        m for m in model.backbone.layers[-1].modules() if isinstance(m, WindowAttention3D)
    ]
    first, last = attentions[0], attentions[-1]
    window, num_heads = model.config.window_size, model.config.num_heads[-1]
    first.relative_position_bias_table.copy_(looking_outwards(window, num_heads))
    last.relative_position_bias_table.copy_(looking_along_time(window, num_heads))
