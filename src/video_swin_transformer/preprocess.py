"""From frames to views: resize, crop, normalize, exactly as the official test pipeline.

Frames are (T, H, W, 3) uint8 RGB in 0..255; views are (V, C, T, crop, crop) float32. Views are
crop-major: crop 0 of every clip, then crop 1 of every clip.
OpenCV resizes: its bilinear filter, without antialiasing, on uint8, gave the original its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from .config import ALLOWED_NUM_CROPS, ClipShape, Preprocessing
from .errors import ConfigError

Frames: TypeAlias = npt.NDArray[np.uint8]
Views: TypeAlias = npt.NDArray[np.float32]

_FILTERS = {"bilinear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}
MAX_RESIZED_PIXELS = 100_000_000


def resized_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """(height, width) after bringing the short side to `short_side`, halves rounded up.

    >>> resized_size(240, 320, 224)
    (224, 299)
    """
    scale = short_side / min(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def resize_frames(frames: Frames, short_side: int, interpolation: str = "bilinear") -> Frames:
    """(T, H, W, 3) uint8 -> (T, H', W', 3) uint8 with min(H', W') = short_side.

    "area" averages over the pixels it drops where it shrinks; where it would enlarge, OpenCV's
    area filter is not meant to be used and bilinear takes its place.
    """
    num_frames, height, width = frames.shape[:3]
    new_height, new_width = resized_size(height, width, short_side)
    if new_height * new_width > MAX_RESIZED_PIXELS:
        raise ConfigError(
            f"A frame of {width}x{height} would become {new_width}x{new_height} pixels; frames "
            "this far from square are refused. Crop the video first."
        )
    if (new_height, new_width) == (height, width):
        return frames
    enlarges = new_height > height
    chosen = _FILTERS["bilinear" if enlarges else interpolation]
    out = np.empty((num_frames, new_height, new_width, 3), np.uint8)
    for index in range(num_frames):
        cv2.resize(frames[index], (new_width, new_height), dst=out[index], interpolation=chosen)
    return out


def crop_offsets(height: int, width: int, crop_size: int, num_crops: int) -> list[tuple[int, int]]:
    """(top, left) of each crop.

    1: center. 3: along the long side, in the official order first, last, middle. The step between
    them is (long - crop) // 2, so with an odd rest the last column or row is in no crop:
    299 pixels wide and crop 224 give left 0, 74, 37. 5: evenly along the long side, first to last,
    halves rounded down; ours, since the paper tests with five crops but does not say which.
    """
    if height < crop_size or width < crop_size:
        raise ConfigError(
            f"A frame of {width}x{height} cannot be cut to {crop_size}x{crop_size}; resize it "
            "first, or choose a smaller crop."
        )
    if num_crops == 1:
        return [((height - crop_size) // 2, (width - crop_size) // 2)]
    if num_crops not in ALLOWED_NUM_CROPS:
        raise ConfigError(f"The number of crops is {num_crops}, but must be 1, 3 or 5.")
    if crop_size not in (height, width):
        raise ConfigError(
            f"{num_crops} crops of {crop_size} need a frame with one side of {crop_size}, not "
            f"{width}x{height}: set short_side to {crop_size}, or take one crop."
        )
    spare = max(width, height) - crop_size
    if num_crops == 3:
        along = [0, 2 * (spare // 2), spare // 2]
    else:
        along = [spare * index // 4 for index in range(5)]
    return [(0, at) for at in along] if width >= height else [(at, 0) for at in along]


def normalization_table(mean: Sequence[float], std: Sequence[float]) -> Views:
    """(C, 256) float32: what each pixel value becomes, (value - mean) * (1 / std).

    A uint8 channel has 256 values, so normalizing is a look-up. The table is made by the two
    OpenCV calls of the original, for equal bits.
    """
    values = np.repeat(np.arange(256, dtype=np.float32)[:, None, None], len(mean), axis=2)
    cv2.subtract(values, np.asarray(mean, np.float64).reshape(1, -1), values)
    cv2.multiply(values, 1 / np.asarray(std, np.float64).reshape(1, -1), values)
    return np.ascontiguousarray(values.reshape(256, len(mean)).T)


def views_from_frames(clips: Frames, preprocessing: Preprocessing) -> Views:
    """Resizes, crops and normalizes clips.

    Args:
        clips: (K, T, H, W, 3) uint8 RGB.
        preprocessing: Sizes, crops and normalization. With a single mean, RGB becomes gray (BT.601)
            and C is 1.

    Returns:
        (crops * K, C, T, crop_size, crop_size) float32, crop-major; with `whole_frame`
        (K, C, T, H', W'), the whole resized frames.
    """
    num_clips, num_frames = clips.shape[:2]
    p = preprocessing
    resized = resize_frames(clips.reshape(-1, *clips.shape[2:]), p.short_side, p.interpolation)
    height, width = resized.shape[1:3]
    if p.whole_frame:
        view_height, view_width, offsets = height, width, [(0, 0)]
    else:
        view_height = view_width = p.crop_size
        offsets = crop_offsets(height, width, p.crop_size, p.num_crops)
    channels = len(p.mean)
    shape = (len(offsets), num_clips, channels, num_frames, view_height, view_width)
    views = np.empty(shape, np.float32)
    # All frames of all clips as one tall picture: (K * T * H, W, 3)
    picture: npt.NDArray[Any] = resized.reshape(-1, width, 3)
    if channels == 1:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None]
    table = normalization_table(p.mean, p.std)
    for channel in range(channels):
        plane = cv2.LUT(np.ascontiguousarray(picture[..., channel]), table[channel])
        plane = plane.reshape(num_clips, num_frames, height, width)
        for crop, (top, left) in enumerate(offsets):
            views[crop, :, channel] = plane[..., top : top + view_height, left : left + view_width]
    return views.reshape(-1, *views.shape[2:])


def check_views(views: Views, in_chans: int, only: ClipShape | None = None) -> ClipShape:
    """The clip shape of views that fit the model.

    Args:
        views: the views to check.
        in_chans: channels of the model.
        only: the one clip shape that an exported model accepts.

    Raises:
        ConfigError: the shape does not fit; the message names the axes.
    """
    shape = views.shape
    if len(shape) != 5 or shape[1] != in_chans or 0 in shape:
        raise ConfigError(
            f"The views have shape {shape}, but must be (views, {in_chans} channels, frames, "
            "height, width), with no empty axis."
        )
    if only is not None and shape[1:] != only:
        raise ConfigError(
            f"The views have shape {shape}, but this exported model takes (views, {only[0]} "
            f"channels, {only[1]} frames, {only[2]} height, {only[3]} width) only; use its own "
            "sampling and crop size, or export the model for the other shape."
        )
    return shape[1], shape[2], shape[3], shape[4]
