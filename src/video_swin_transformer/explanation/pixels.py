"""From the token grid of a stage to the pixels of a view."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from ..model import SwinTransformer3D
from ..windows import Size3
from .clip import Floats


def token_steps(backbone: SwinTransformer3D, stage: int) -> Size3:
    """Returns the frames, rows and columns from one token of a stage to the next."""
    frames, rows, columns = backbone.patch_embed.stride
    return frames, rows * 2**stage, columns * 2**stage


def tokens_to_pixels(token_map: Tensor, clip_size: Size3, steps: Size3, *, smooth: bool) -> Floats:
    """Puts values of tokens on the pixels of a view.

    The grid covers the view and its padding, which is cut off.

    Args:
        token_map: (D, h, w) float.
        clip_size: Size of the view, (T, H, W).
        steps: Frames, rows and columns per token.
        smooth: Interpolate linearly between the centers of tokens; otherwise each pixel has exactly
            the value of its token.

    Returns:
        (T, H, W) float32.
    """
    values = token_map.float()[None, None]
    size = [count * step for count, step in zip(token_map.shape, steps, strict=True)]
    if smooth:
        whole = F.interpolate(values, size=size, mode="trilinear", align_corners=False)
    else:
        whole = F.interpolate(values, size=size, mode="nearest")
    t, h, w = clip_size
    return np.asarray(whole[0, 0, :t, :h, :w].cpu().numpy(), np.float32)
