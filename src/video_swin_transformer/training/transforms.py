"""Augmentation: per clip on uint8 frames (in the workers), then per batch on tensors.

The order is the official one: short side (while reading), random crop, resize, flip, RandAugment,
normalize, erase, mix. The random parameters of a clip come from its own generator and are the same
in all of its frames, so no worker and no interruption changes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..preprocess import Frames
from .config import AugmentConfig
from .randaugment import randaugment

_MAX_TRIES = 10
ERASE_SCALE = (0.02, 1 / 3)
ERASE_RATIO = (0.3, 1 / 0.3)


class Box(NamedTuple):
    """A box in pixels."""

    top: int
    left: int
    height: int
    width: int


NO_BOX = Box(0, 0, 0, 0)


class Mix(NamedTuple):
    """How a clip is mixed with another one.

    Attributes:
        weight: The weight of the clip itself.
        box: The box that comes from the other clip (cutmix); `NO_BOX`: all pixels are blended
            (mixup).
    """

    weight: float = 1.0
    box: Box = NO_BOX


# --- one clip -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AugmentedClip:
    """A clip and what the batch transforms do with it.

    Attributes:
        pixels: (T, S, S, 3) uint8 RGB.
        erased: The box that is filled with the mean color after normalization.
        mix: How it is mixed with another clip.
    """

    pixels: Frames
    erased: Box
    mix: Mix


class ClipTransform:
    """The augmentation of one clip; can be pickled for workers.

    Args:
        config: The augmentations and their probabilities.
        crop_size: Height and width of the output.
        interpolation: "bilinear" or "area".
        frame_order: "natural", "single_frame" or "shuffled".
    """

    def __init__(
        self,
        config: AugmentConfig,
        crop_size: int,
        interpolation: str,
        frame_order: str = "natural",
    ) -> None:
        self._config = config
        self._size = crop_size
        self._interpolation = interpolation
        self._frame_order = frame_order

    def __call__(self, clips: Frames, generator: np.random.Generator) -> AugmentedClip:
        """Augments clips[0] of (1, T, H, W, 3) uint8 RGB."""
        config = self._config
        frames = clips[0][frame_indices(len(clips[0]), self._frame_order, generator)]
        height, width = frames.shape[1:3]
        box = random_crop(height, width, config.scale, config.ratio, generator)
        pixels = crop_and_resize(frames, box, self._size, self._interpolation)
        if generator.random() < config.flip:
            pixels = pixels[:, :, ::-1]
        pixels = np.ascontiguousarray(pixels)
        if config.randaugment_ops:
            pixels = randaugment(
                pixels, config.randaugment_ops, config.randaugment_magnitude, generator
            )
        erased = NO_BOX
        if generator.random() < config.erase:
            erased = random_erase_box(self._size, self._size, generator)
        mix = random_mix(self._size, config.mixup, config.cutmix, generator)
        return AugmentedClip(pixels, erased, mix)


def frame_indices(
    num_frames: int, frame_order: str, generator: np.random.Generator
) -> slice | npt.NDArray[np.int64]:
    """Which frame comes at each position: as in the clip, the middle one, or at random."""
    if frame_order == "single_frame":
        return np.full(num_frames, num_frames // 2)
    if frame_order == "shuffled":
        return generator.permutation(num_frames)
    return slice(None)


def random_crop(
    height: int,
    width: int,
    scale: Sequence[float],
    ratio: Sequence[float],
    generator: np.random.Generator,
) -> Box:
    """The box of a random resized crop, as in torchvision.

    Args:
        height: Height of the frame.
        width: Width of the frame.
        scale: Range of the area, relative to the frame.
        ratio: Range of width / height, uniform in its logarithm.
        generator: Source of random numbers.

    Returns:
        The first of ten random boxes that fits; else the largest centered square.
    """
    areas = generator.uniform(scale[0], scale[1], _MAX_TRIES) * (height * width)
    ratios = np.exp(generator.uniform(math.log(ratio[0]), math.log(ratio[1]), _MAX_TRIES))
    for area, aspect in zip(areas, ratios, strict=True):
        box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = int(generator.integers(width - box_width, endpoint=True))
            top = int(generator.integers(height - box_height, endpoint=True))
            return Box(top, left, box_height, box_width)
    side = min(height, width)
    return Box((height - side) // 2, (width - side) // 2, side, side)


def crop_and_resize(frames: Frames, box: Box, size: int, interpolation: str) -> Frames:
    """Crops (T, H, W, 3) uint8 frames and resizes them to (T, size, size, 3)."""
    shrinks = size < box.height and size < box.width
    mode = cv2.INTER_AREA if interpolation == "area" and shrinks else cv2.INTER_LINEAR
    crops = frames[:, box.top : box.top + box.height, box.left : box.left + box.width]
    out = np.empty((len(frames), size, size, 3), np.uint8)
    for index, crop in enumerate(crops):
        cv2.resize(crop, (size, size), dst=out[index], interpolation=mode)
    return out


def random_erase_box(height: int, width: int, generator: np.random.Generator) -> Box:
    """The box of random erasing as in timm; `NO_BOX` if none of ten tries fits."""
    for _ in range(_MAX_TRIES):
        area = generator.uniform(*ERASE_SCALE) * (height * width)
        ratio = math.exp(generator.uniform(math.log(ERASE_RATIO[0]), math.log(ERASE_RATIO[1])))
        box_height, box_width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if box_height < height and box_width < width:
            top = int(generator.integers(height - box_height, endpoint=True))
            left = int(generator.integers(width - box_width, endpoint=True))
            return Box(top, left, box_height, box_width)
    return NO_BOX


def random_mix(size: int, mixup: float, cutmix: float, generator: np.random.Generator) -> Mix:
    """Draws mixup or cutmix; if both are on, each has probability 1/2.

    Args:
        size: Height and width of the clip.
        mixup: Alpha of Beta(alpha, alpha), 0 disables it.
        cutmix: Alpha of Beta(alpha, alpha), 0 disables it.
        generator: Source of random numbers.
    """
    if not mixup and not cutmix:
        return Mix()
    is_cutmix = cutmix > 0 and (not mixup or generator.random() < 0.5)
    alpha = cutmix if is_cutmix else mixup
    weight = float(generator.beta(alpha, alpha))
    if not is_cutmix:
        return Mix(weight)
    side = size * math.sqrt(1 - weight)
    center_y, center_x = (int(at) for at in generator.integers(size, size=2))
    top, bottom = (min(max(round(center_y + d), 0), size) for d in (-side / 2, side / 2))
    left, right = (min(max(round(center_x + d), 0), size) for d in (-side / 2, side / 2))
    box = Box(top, left, bottom - top, right - left)
    return Mix(1 - box.height * box.width / size**2, box)  # the border may have cut the box


# --- a batch --------------------------------------------------------------------------------------


class Normalizer:
    """uint8 (B, T, S, S, 3) RGB -> float32 (B, C, T, S, S): (pixel - mean) / std.

    Args:
        mean: Mean of each channel; a single one for networks with grayscale input.
        std: Standard deviation of each channel.
        device: Device of the output.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self._mean = torch.tensor(mean, device=device).view(1, -1, 1, 1, 1)
        self._scale = (1 / torch.tensor(std, dtype=torch.float64)).float().to(device)
        self._scale = self._scale.view(1, -1, 1, 1, 1)
        self._is_gray = len(mean) == 1
        self._gray = torch.tensor([0.299, 0.587, 0.114], device=device)  # BT.601
        self._device = device

    def __call__(self, pixels: Tensor) -> Tensor:
        pixels = pixels.to(self._device, non_blocking=True)
        if self._is_gray:
            values = (pixels.float() @ self._gray).round_()[:, None]  # (B, T, S, S) -> one channel
        else:
            # (B, T, S, S, 3) -> (B, 3, T, S, S)
            values = pixels.permute(0, 4, 1, 2, 3).to(
                torch.float32, memory_format=torch.contiguous_format
            )
        return values.sub_(self._mean).mul_(self._scale)


def erase(clips: Tensor, boxes: Tensor) -> None:
    """Sets the box of each clip to 0, the mean color, in place.

    Args:
        clips: (B, C, T, S, S) float32.
        boxes: (B, 4) int64, (top, left, height, width).
    """
    for clip, (top, left, height, width) in zip(clips, boxes.tolist(), strict=True):
        clip[..., top : top + height, left : left + width] = 0


def mix(clips: Tensor, targets: Tensor, mixes: Sequence[Mix]) -> tuple[Tensor, Tensor]:
    """Mixes each clip with its opposite in the batch: the first with the last, and so on.

    Args:
        clips: (B, C, T, S, S) float32.
        targets: (B, K) float32.
        mixes: B mixes. mixup blends the pixels; cutmix copies a box of the other clip into all
            frames.

    Returns:
        The mixed clips, and the targets blended by the weights. A single clip stays as it is.
    """
    mixed, blended = clips.clone(), targets.clone()
    for index, (weight, box) in enumerate(mixes):
        other = len(mixes) - 1 - index
        if box.height and box.width:
            rows = slice(box.top, box.top + box.height)
            columns = slice(box.left, box.left + box.width)
            mixed[index, ..., rows, columns] = clips[other, ..., rows, columns]
        else:
            mixed[index] = clips[index] * weight + clips[other] * (1 - weight)
        blended[index] = targets[index] * weight + targets[other] * (1 - weight)
    return mixed, blended
