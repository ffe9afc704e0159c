"""What happens to the pixels of a training clip: the same in all of its frames.

The order is the official one: short side (done while reading), random crop, full size, flip,
RandAugment, then, on normalized pixels and so in the training process, one erased box.
Everything drawn comes from the generator of the clip, so no worker or interruption changes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ..preprocess import Frames
from .config import AugmentConfig
from .randaugment import randaugment

_NUM_TRIES = 10
ERASED_AREA = (0.02, 1 / 3)
ERASED_ASPECT = (0.3, 1 / 0.3)


class Box(NamedTuple):
    top: int
    left: int
    height: int
    width: int


NO_BOX = Box(0, 0, 0, 0)


class Mix(NamedTuple):
    """How a clip is mixed with another: its own share, and the box of the other for cutmix."""

    share: float = 1.0
    box: Box = NO_BOX


@dataclass(frozen=True)
class AugmentedClip:
    """pixels: (T, S, S, 3) uint8 RGB. erased: box that becomes gray after normalizing."""

    pixels: Frames
    erased: Box
    mix: Mix


class ClipTransform:
    """(1, T, H, W, 3) uint8 RGB and a generator -> AugmentedClip. Picklable, for workers."""

    def __init__(
        self, plan: AugmentConfig, crop_size: int, interpolation: str, control: str = "none"
    ) -> None:
        self._plan = plan
        self._size = crop_size
        self._interpolation = interpolation
        self._control = control

    def __call__(self, clips: Frames, generator: np.random.Generator) -> AugmentedClip:
        plan = self._plan
        frames = clips[0][frame_order(len(clips[0]), self._control, generator)]
        height, width = frames.shape[1:3]
        box = random_crop(height, width, plan.area, plan.aspect, generator)
        pixels = crop_and_resize(frames, box, self._size, self._interpolation)
        if generator.random() < plan.flip:
            pixels = pixels[:, :, ::-1]
        pixels = np.ascontiguousarray(pixels)
        if plan.randaugment_ops:
            pixels = randaugment(
                pixels, plan.randaugment_ops, plan.randaugment_magnitude, generator
            )
        erased = NO_BOX
        if generator.random() < plan.erase:
            erased = random_box(self._size, self._size, generator)
        mix = random_mix(self._size, plan.mixup, plan.cutmix, generator)
        return AugmentedClip(pixels, erased, mix)


def frame_order(
    num_frames: int, control: str, generator: np.random.Generator
) -> slice | npt.NDArray[np.int64]:
    """Which frame stands where: in order, the middle one only, or at random."""
    if control == "single_frame":
        return np.full(num_frames, num_frames // 2)
    if control == "shuffled":
        return generator.permutation(num_frames)
    return slice(None)


def random_crop(
    height: int,
    width: int,
    area: list[float],
    aspect: list[float],
    generator: np.random.Generator,
) -> Box:
    """A box of a share of the area and of a width : height, the latter even in its logarithm.

    Of ten drawn the first that fits; if none does, the largest centered square.
    """
    shares = generator.uniform(area[0], area[1], _NUM_TRIES) * (height * width)
    ratios = np.exp(generator.uniform(math.log(aspect[0]), math.log(aspect[1]), _NUM_TRIES))
    for share, ratio in zip(shares, ratios, strict=True):
        box_width, box_height = round(math.sqrt(share * ratio)), round(math.sqrt(share / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = int(generator.integers(width - box_width, endpoint=True))
            top = int(generator.integers(height - box_height, endpoint=True))
            return Box(top, left, box_height, box_width)
    side = min(height, width)
    return Box((height - side) // 2, (width - side) // 2, side, side)


def crop_and_resize(frames: Frames, box: Box, size: int, interpolation: str) -> Frames:
    """(T, H, W, 3) uint8 -> (T, size, size, 3), whatever the shape of the box."""
    shrinks = size < box.height and size < box.width
    chosen = cv2.INTER_AREA if interpolation == "area" and shrinks else cv2.INTER_LINEAR
    cut = frames[:, box.top : box.top + box.height, box.left : box.left + box.width]
    out = np.empty((len(frames), size, size, 3), np.uint8)
    for index, frame in enumerate(cut):
        cv2.resize(frame, (size, size), dst=out[index], interpolation=chosen)
    return out


def random_box(height: int, width: int, generator: np.random.Generator) -> Box:
    """The box of random erasing as timm draws it; none where ten tries do not fit."""
    for _ in range(_NUM_TRIES):
        share = generator.uniform(*ERASED_AREA) * (height * width)
        ratio = math.exp(generator.uniform(math.log(ERASED_ASPECT[0]), math.log(ERASED_ASPECT[1])))
        box_height, box_width = round(math.sqrt(share * ratio)), round(math.sqrt(share / ratio))
        if box_height < height and box_width < width:
            top = int(generator.integers(height - box_height, endpoint=True))
            left = int(generator.integers(width - box_width, endpoint=True))
            return Box(top, left, box_height, box_width)
    return NO_BOX


def random_mix(size: int, mixup: float, cutmix: float, generator: np.random.Generator) -> Mix:
    """mixup, cutmix: alpha of Beta(alpha, alpha), 0 is off. With both, each takes half."""
    if not mixup and not cutmix:
        return Mix()
    is_cut = cutmix > 0 and (not mixup or generator.random() < 0.5)
    alpha = cutmix if is_cut else mixup
    share = float(generator.beta(alpha, alpha))
    if not is_cut:
        return Mix(share)
    side = size * math.sqrt(1 - share)
    centre_y, centre_x = (int(at) for at in generator.integers(size, size=2))
    top, bottom = (min(max(round(centre_y + d), 0), size) for d in (-side / 2, side / 2))
    left, right = (min(max(round(centre_x + d), 0), size) for d in (-side / 2, side / 2))
    box = Box(top, left, bottom - top, right - left)
    return Mix(1 - box.height * box.width / size**2, box)  # what is left after the border cut it
