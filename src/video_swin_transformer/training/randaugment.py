"""RandAugment as in the Something-Something recipe; all frames of a clip get the same operations.

Every clip loses up to magnitude / 224 of each side. Then `num_ops` different operations out of 18
follow, in random order. At magnitude m of 30 they are

    rotate m degrees              shear 0.57 m degrees          translate 1.1 m percent
    posterize to 8 - m / 5 bits   solarize from 256 - 8.53 m   cutout of 2.08 m percent of a side
    color, contrast, brightness, sharpness by 1 +- 0.03 m

with either sign; empty pixels become 128. The numbers are those of imgaug (`RandAugment(n=4,
m=7)`), which also flips half of all clips without changing the label. Here that is `augment.flip`,
which is 0 in the recipe because classes of this dataset distinguish left from right. Pillow
processes the pixels, as in imgaug's "pillike" augmenters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..errors import MissingExtraError
from ..preprocess import Frames

if TYPE_CHECKING:
    from PIL.Image import Image

FILL = 128
MAX_MAGNITUDE = 30

Operation = Callable[["Image"], "Image"]

OPERATIONS = (
    "identity",
    "autocontrast",
    "equalize",
    "invert",
    "rotate",
    "posterize",
    "solarize",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "cutout",
    "blur",
    "smooth",
)


def require_pillow() -> None:
    """Raises MissingExtraError if Pillow is not installed."""
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("pillow", "train", "RandAugment") from error


def randaugment(
    frames: Frames, num_ops: int, magnitude: int, generator: np.random.Generator
) -> Frames:
    """Applies the same random operations to all frames.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        num_ops: How many different operations.
        magnitude: 0 to 30.
        generator: Source of random numbers.

    Returns:
        (T, H, W, 3) uint8 RGB.
    """
    from PIL import Image

    height, width = frames.shape[1:3]
    frames = _crop_borders(frames, magnitude, generator)
    chosen = generator.permutation(len(OPERATIONS))[:num_ops]
    steps = [
        operation(OPERATIONS[number], magnitude, height, width, generator) for number in chosen
    ]
    out = np.empty_like(frames)
    for index, frame in enumerate(frames):
        image = Image.fromarray(frame)
        for step in steps:
            image = step(image)
        out[index] = np.asarray(image)
    return out


def _crop_borders(frames: Frames, magnitude: int, generator: np.random.Generator) -> Frames:
    height, width = frames.shape[1:3]
    fractions = generator.uniform(0, magnitude, 4) / 224
    top, bottom = (int(fraction * height) for fraction in fractions[:2])
    left, right = (int(fraction * width) for fraction in fractions[2:])
    if not (top or bottom or left or right):
        return frames
    out = np.empty_like(frames)
    for index, frame in enumerate(frames):
        kept = frame[top : height - bottom, left : width - right]
        cv2.resize(kept, (width, height), dst=out[index], interpolation=cv2.INTER_LINEAR)
    return out


def operation(
    name: str, magnitude: int, height: int, width: int, generator: np.random.Generator
) -> Operation:
    """An operation with its random parameters drawn, as a function of a PIL image."""
    from PIL import ImageEnhance, ImageFilter, ImageOps

    level = magnitude / MAX_MAGNITUDE
    sign = 1 if generator.random() < 0.5 else -1
    if name == "cutout":
        return _cutout(level * 20 / 32, height, width, generator)
    factor = min(max(1 + sign * 0.9 * level, 0.1), 1.9)
    shear = math.tan(sign * 0.3 * level)
    table: dict[str, Operation] = {
        "identity": lambda p: p,
        "autocontrast": lambda p: ImageOps.autocontrast(p),
        "equalize": lambda p: ImageOps.equalize(p),
        "invert": lambda p: ImageOps.invert(p),
        "rotate": lambda p: p.rotate(sign * 30 * level, fillcolor=(FILL,) * 3),
        "posterize": lambda p: ImageOps.posterize(p, 8 - min(int(level * 6), 6)),
        "solarize": lambda p: ImageOps.solarize(p, 256 - int(level * 256)),
        "color": lambda p: ImageEnhance.Color(p).enhance(factor),
        "contrast": lambda p: ImageEnhance.Contrast(p).enhance(factor),
        "brightness": lambda p: ImageEnhance.Brightness(p).enhance(factor),
        "sharpness": lambda p: ImageEnhance.Sharpness(p).enhance(factor),
        "shear_x": lambda p: _affine(p, (1, shear, 0, 0, 1, 0)),
        "shear_y": lambda p: _affine(p, (1, 0, 0, shear, 1, 0)),
        "translate_x": lambda p: _affine(p, (1, 0, sign * 0.33 * level * width, 0, 1, 0)),
        "translate_y": lambda p: _affine(p, (1, 0, 0, 0, 1, sign * 0.33 * level * height)),
        "blur": lambda p: p.filter(ImageFilter.BLUR),
        "smooth": lambda p: p.filter(ImageFilter.SMOOTH),
    }
    return table[name]


def _affine(image: Image, matrix: tuple[float, ...]) -> Image:
    """Output pixel (x, y) is input pixel (a x + b y + c, d x + e y + f), nearest neighbor."""
    from PIL import Image

    return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=(FILL,) * 3)


def _cutout(fraction: float, height: int, width: int, generator: np.random.Generator) -> Operation:
    """A gray square; its side is `fraction` of the shorter side, its center is anywhere."""
    half = fraction * min(height, width) / 2
    center_y, center_x = generator.uniform(0, height), generator.uniform(0, width)
    top, bottom = (int(min(max(round(center_y + d), 0), height)) for d in (-half, half))
    left, right = (int(min(max(round(center_x + d), 0), width)) for d in (-half, half))

    def apply(image: Image) -> Image:
        image = image.copy()
        if right > left and bottom > top:
            image.paste((FILL,) * 3, (left, top, right, bottom))
        return image

    return apply
