"""Resizes, crops and normalizes frames, bit-identical to the official test pipeline.

Frames are (T, H, W, 3) uint8 RGB in 0..255; views are (V, C, T, crop, crop) float32. Views are
crop-major: crop 0 of every clip, then crop 1 of every clip.
Frames are resized with OpenCV on uint8 (bilinear without antialiasing), as in the official code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from .config import ALLOWED_NUM_CROPS, ClipShape, Preprocessing
from .errors import ConfigError

Frames: TypeAlias = npt.NDArray[np.uint8]
Views: TypeAlias = npt.NDArray[np.float32]

_FILTERS = {"bilinear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}
MAX_RESIZED_PIXELS = 2**28  # of all frames of a request together: 800 MB


def resized_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Returns (height, width) after resizing the short side to `short_side`, halves rounded up.

    >>> resized_size(240, 320, 224)
    (224, 299)
    """
    scale = short_side / min(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def require_resized_size(num_frames: int, height: int, width: int, short_side: int) -> None:
    """Raises ConfigError if resized frames would take too much memory.

    Args:
        num_frames: Number of frames.
        height: Height of a frame before resizing, in pixels.
        width: Its width.
        short_side: Length of the short side after resizing.
    """
    new_height, new_width = resized_size(height, width, short_side)
    if num_frames * new_height * new_width > MAX_RESIZED_PIXELS:
        raise ConfigError(
            f"A frame of {width}x{height} would be resized to {new_width}x{new_height} pixels, and "
            f"there are {num_frames}, which is too large. Crop the video to a less extreme aspect "
            "ratio, or take fewer frames."
        )


def resize_frames(frames: Frames, short_side: int, interpolation: str = "bilinear") -> Frames:
    """Resizes frames to a short side, keeping the aspect ratio.

    Args:
        frames: (T, H, W, 3) uint8.
        short_side: Length of the short side in pixels.
        interpolation: "bilinear", or "area", which applies to downscaling only.

    Returns:
        (T, H', W', 3) uint8 with min(H', W') = short_side.

    Raises:
        ConfigError: The result would be too large.
    """
    num_frames, height, width = frames.shape[:3]
    require_resized_size(num_frames, height, width, short_side)
    new_height, new_width = resized_size(height, width, short_side)
    if (new_height, new_width) == (height, width):
        return frames
    is_upscaling = new_height > height
    flag = _FILTERS["bilinear" if is_upscaling else interpolation]
    out = np.empty((num_frames, new_height, new_width, 3), np.uint8)
    for index in range(num_frames):
        cv2.resize(frames[index], (new_width, new_height), dst=out[index], interpolation=flag)
    return out


def crop_offsets(height: int, width: int, crop_size: int, num_crops: int) -> list[tuple[int, int]]:
    """Returns (top, left) of each crop.

    One crop is centered. Three crops are spaced along the long side, in the official order first,
    last, middle, with a step of (long - crop) // 2. Like in the official code, an odd margin
    leaves out the last row or column: width 299 and crop 224 give left 0, 74, 37. Five crops are
    evenly spaced along the long side, rounded down (the paper does not specify them). Ten crops are
    the four corners and the center, then those of the mirrored frame, as in torchvision's TenCrop:
    `views_from_frames` mirrors the second five.

    Args:
        height: Frame height in pixels.
        width: Frame width in pixels.
        crop_size: Side of the square crops in pixels.
        num_crops: 1, 3, 5 or 10.

    Returns:
        One (top, left) per crop.

    Raises:
        ConfigError: The frame is too small, or the number of crops is not supported.
    """
    if height < crop_size or width < crop_size:
        raise ConfigError(
            f"A frame of {width}x{height} cannot be cropped to {crop_size}x{crop_size}; "
            "resize it first, or use a smaller crop."
        )
    if num_crops == 1:
        return [((height - crop_size) // 2, (width - crop_size) // 2)]
    if num_crops not in ALLOWED_NUM_CROPS:
        raise ConfigError(f"The number of crops is {num_crops}, but must be 1, 3, 5 or 10.")
    if num_crops == 10:
        bottom, right = height - crop_size, width - crop_size
        center = (round(bottom / 2), round(right / 2))
        five = [(0, 0), (0, right), (bottom, 0), (bottom, right), center]
        # torchvision mirrors the frame, then cuts: its top left is the top right of the frame.
        return [*five, *((top, right - left) for top, left in five)]
    if crop_size not in (height, width):
        raise ConfigError(
            f"{num_crops} crops of {crop_size} need a frame with one side of {crop_size}, not "
            f"{width}x{height}: set short_side to {crop_size}, or use one crop."
        )
    margin = max(width, height) - crop_size
    if num_crops == 3:
        offsets = [0, 2 * (margin // 2), margin // 2]
    else:
        offsets = [margin * index // 4 for index in range(5)]
    return [(0, at) for at in offsets] if width >= height else [(at, 0) for at in offsets]


class CropBox(NamedTuple):
    """A crop of a resized frame, in pixels of the resized frame."""

    top: int
    left: int
    height: int
    width: int
    is_mirrored: bool = False


def crop_boxes(height: int, width: int, preprocessing: Preprocessing) -> list[CropBox]:
    """Returns the crops of a resized frame, in the order of the views.

    Args:
        height: Height of the resized frame in pixels.
        width: Width of the resized frame in pixels.
        preprocessing: Crop size and number of crops.

    Raises:
        ConfigError: The frame is too small.
    """
    if preprocessing.whole_frame:
        return [CropBox(0, 0, height, width)]
    size, num_crops = preprocessing.crop_size, preprocessing.num_crops
    return [
        CropBox(top, left, size, size, num_crops == 10 and index >= 5)
        for index, (top, left) in enumerate(crop_offsets(height, width, size, num_crops))
    ]


def normalization_table(mean: Sequence[float], std: Sequence[float]) -> npt.NDArray[np.float32]:
    """Computes (value - mean) * (1 / std) for all uint8 values.

    The table is computed with the OpenCV calls of the official code, for bit-identical results.

    Args:
        mean: Mean of each channel, in [0, 255].
        std: Standard deviation of each channel.

    Returns:
        (C, 256) float32 lookup table.
    """
    values = np.repeat(np.arange(256, dtype=np.float32)[:, None, None], len(mean), axis=2)
    cv2.subtract(values, np.asarray(mean, np.float64).reshape(1, -1), values)
    cv2.multiply(values, 1 / np.asarray(std, np.float64).reshape(1, -1), values)
    return np.ascontiguousarray(values.reshape(256, len(mean)).T)


def views_from_frames(clips: Frames, preprocessing: Preprocessing) -> Views:
    """Resizes, crops and normalizes clips.

    Args:
        clips: (K, T, H, W, 3) uint8 RGB.
        preprocessing: Sizes, crops and normalization. With a single mean, RGB is converted to
            grayscale (BT.601) and C is 1.

    Returns:
        (crops * K, C, T, crop_size, crop_size) float32, crop-major; with `whole_frame`
        (K, C, T, H', W'), the whole resized frames.
    """
    resized = resize_frames(
        clips.reshape(-1, *clips.shape[2:]), preprocessing.short_side, preprocessing.interpolation
    )
    resized = resized.reshape(*clips.shape[:2], *resized.shape[1:])
    height, width = resized.shape[2:4]
    return cut_views(resized, crop_boxes(height, width, preprocessing), preprocessing)


def cut_views(clips: Frames, boxes: Sequence[CropBox], preprocessing: Preprocessing) -> Views:
    """Crops and normalizes clips that have been resized.

    Args:
        clips: (K, T, H, W, 3) uint8 RGB.
        boxes: The crops, all of one size.
        preprocessing: Normalization.

    Returns:
        (crops * K, C, T, h, w) float32, crop-major.
    """
    num_clips, num_frames, height, width = clips.shape[:4]
    p = preprocessing
    channels = len(p.mean)
    shape = (len(boxes), num_clips, channels, num_frames, boxes[0].height, boxes[0].width)
    views = np.empty(shape, np.float32)
    # All frames of all clips as one tall image: (K * T * H, W, 3)
    image: npt.NDArray[Any] = clips.reshape(-1, width, 3)
    if channels == 1:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    table = normalization_table(p.mean, p.std)
    for channel in range(channels):
        plane = cv2.LUT(np.ascontiguousarray(image[..., channel]), table[channel])
        plane = plane.reshape(num_clips, num_frames, height, width)
        for crop, box in enumerate(boxes):
            view = plane[..., box.top : box.top + box.height, box.left : box.left + box.width]
            views[crop, :, channel] = view[..., ::-1] if box.is_mirrored else view
    return views.reshape(-1, *views.shape[2:])


def channel_hint(shape: Sequence[int], in_chans: int, channel_axis: int = 1) -> str:
    """Returns how to bring a batch of clips into the right order of axes, or "".

    Args:
        shape: The shape that was given.
        in_chans: Number of channels of the model.
        channel_axis: The axis that must hold the channels: 1 or 2.
    """
    if len(shape) == 4:
        return " It looks like one clip without a batch: did you mean x[None]?"
    if len(shape) != 5 or shape[channel_axis] == in_chans:
        return ""
    if shape[4] == in_chans:
        order = "0, 4, 1, 2, 3" if channel_axis == 1 else "0, 1, 4, 2, 3"
        return f" It looks like channels last: did you mean x.permute({order})?"
    if shape[3 - channel_axis] == in_chans:
        return " Channels and frames look swapped: did you mean x.transpose(1, 2)?"
    return ""


def check_views(views: Views, in_chans: int, fixed_shape: ClipShape | None = None) -> ClipShape:
    """Validates the shape of views.

    Args:
        views: (V, C, T, H, W).
        in_chans: Number of input channels of the model.
        fixed_shape: The only clip shape that an exported model supports; None for any.

    Returns:
        The clip shape, (C, T, H, W).

    Raises:
        ConfigError: The model does not support the shape.
    """
    shape = views.shape
    if len(shape) != 5 or shape[1] != in_chans or 0 in shape:
        raise ConfigError(
            f"The views have shape {shape}, but must be (views, {in_chans} channels, frames, "
            f"height, width), with no empty axis.{channel_hint(shape, in_chans)}"
        )
    if fixed_shape is not None and shape[1:] != fixed_shape:
        channels, frames, height, width = fixed_shape
        raise ConfigError(
            f"The views have shape {shape}, but this exported model supports only (views, "
            f"{channels} channels, {frames} frames, {height} height, {width} width); use its own "
            "sampling and crop size, or export the model for this shape."
        )
    return shape[1], shape[2], shape[3], shape[4]
