"""Occlusion: what the logit loses when a part of the clip is hidden. It needs no network inside.

The sliding window is Captum's Occlusion (Zeiler and Fergus, ECCV 2014); any runtime computes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import numpy as np

from ..config import require
from ..errors import MissingExtraError
from ..preprocess import Views
from ..runtimes import Runtime
from ..windows import Size3
from .clip import Floats

Fill: TypeAlias = Literal["mean", "freeze"]
FILLS: tuple[str, ...] = get_args(Fill)

_WINDOWS_PER_AXIS = 4  # of the default window
_VIEWS_AT_ONCE = 4


def occlusion_window(
    clip_size: Size3, window: Size3 | None, stride: Size3 | None
) -> tuple[Size3, Size3]:
    """Returns the window and the stride, with their defaults, after checking them.

    Args:
        clip_size: Size of a view, (T, H, W).
        window: Frames, rows and columns hidden at once; None for a quarter of each axis.
        stride: Steps of the window; None for all of it in time and half of it in space.

    Raises:
        ConfigError: The window does not fit in the view, or the stride leaves gaps.
    """
    if window is None:
        t, h, w = (max(1, -(-size // _WINDOWS_PER_AXIS)) for size in clip_size)
        window = (t, h, w)
    if stride is None:
        t, h, w = window
        stride = (t, max(1, h // 2), max(1, w // 2))
    fits = all(1 <= side <= size for side, size in zip(window, clip_size, strict=True))
    require(fits, "window", window, f"from (1, 1, 1) to the view, {clip_size}")
    closed = all(1 <= step <= side for step, side in zip(stride, window, strict=True))
    require(closed, "stride", stride, f"from (1, 1, 1) to the window, {window}, to leave no gaps")
    return window, stride


def num_occlusions(clip_size: Size3, window: Size3, stride: Size3) -> int:
    """Returns how many views one view is occluded to, itself included."""
    counts = (
        -(-(size - side) // step) + 1
        for size, side, step in zip(clip_size, window, stride, strict=True)
    )
    d, h, w = counts
    return d * h * w + 1


def filled(view: Views, fill: str) -> Views:
    """Returns what is seen instead of hidden parts, in the shape of the view.

    Args:
        view: (1, C, T, H, W) float32.
        fill: "mean" is the mean color of the data, which normalization makes 0. "freeze" is the
            middle frame all the time: it takes the movement away and leaves the content.
    """
    if fill == "mean":
        return np.zeros_like(view)
    middle = view.shape[2] // 2
    return np.ascontiguousarray(np.broadcast_to(view[:, :, middle : middle + 1], view.shape))


def occlude(
    runtime: Runtime,
    view: Views,
    class_index: int,
    window: Size3,
    stride: Size3,
    fill: str,
    progress: Callable[[int], None],
) -> Floats:
    """Computes how much the logit of a class falls when each part is hidden.

    Args:
        runtime: The model.
        view: (1, C, T, H, W) float32.
        class_index: The class.
        window: Frames, rows and columns hidden at once.
        stride: Steps of the window.
        fill: See `filled`.
        progress: Called with the number of views that were just computed.

    Returns:
        (T, H, W) float32 in logits, the mean over the windows that hide a pixel; above 0 where the
        part speaks for the class.

    Raises:
        MissingExtraError: Captum is not installed.
    """
    try:
        import torch
        from captum.attr import Occlusion
    except ImportError as error:
        raise MissingExtraError("captum", "explain", "Occlusion") from error

    def logits(x: torch.Tensor) -> torch.Tensor:
        out = runtime.run(np.ascontiguousarray(x.numpy())).logits
        progress(len(out))
        return torch.from_numpy(out)

    attributions = Occlusion(logits).attribute(
        torch.from_numpy(view),
        sliding_window_shapes=(view.shape[1], *window),
        strides=(view.shape[1], *stride),
        baselines=torch.from_numpy(filled(view, fill)),
        target=class_index,
        perturbations_per_eval=_VIEWS_AT_ONCE,
    )
    found: Floats = attributions[0, 0].float().numpy()  # the same for all channels
    return found
