"""RandAugment as the Something-Something recipe uses it: drawn once for a clip, frozen for it.

Every clip loses up to magnitude / 224 of each side. Then come `num_ops` different ones of 18
operations, in random order; magnitude m of 30 makes

    rotate m degrees            shear 0.57 m degrees          translate 1.1 m per cent
    posterize to 8 - m / 5 bits   solarize from 256 - 8.53 m   cutout of 2.08 m per cent a side
    color, contrast, brightness, sharpness by 1 +- 0.03 m

with either sign, and 128 where there is no pixel. The numbers are imgaug's (`RandAugment(n=4,
m=7)`), which also mirrors half of all clips, labels unchanged; here that is `augment.flip`, and 0
in the recipe, since this dataset has classes that tell left from right. Pillow does the pixels, as
imgaug does with its "pillike" augmenters.
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
MOST = 30  # of the magnitude

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
    """Raises MissingExtraError where Pillow is not installed."""
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("pillow", "train", "RandAugment") from error


def randaugment(
    frames: Frames, num_ops: int, magnitude: int, generator: np.random.Generator
) -> Frames:
    """(T, S, S, 3) uint8 RGB -> the same shape."""
    from PIL import Image

    height, width = frames.shape[1:3]
    frames = _cut_borders(frames, magnitude, generator)
    chosen = generator.permutation(len(OPERATIONS))[:num_ops]
    steps = [
        operation(OPERATIONS[number], magnitude, height, width, generator) for number in chosen
    ]
    out = np.empty_like(frames)
    for index, frame in enumerate(frames):
        picture = Image.fromarray(frame)
        for step in steps:
            picture = step(picture)
        out[index] = np.asarray(picture)
    return out


def _cut_borders(frames: Frames, magnitude: int, generator: np.random.Generator) -> Frames:
    height, width = frames.shape[1:3]
    shares = generator.uniform(0, magnitude, 4) / 224
    top, bottom = (int(share * height) for share in shares[:2])
    left, right = (int(share * width) for share in shares[2:])
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
    """One operation with its numbers drawn: a function of a picture."""
    from PIL import ImageEnhance, ImageFilter, ImageOps

    level = magnitude / MOST
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


def _affine(picture: Image, matrix: tuple[float, ...]) -> Image:
    """Each output pixel (x, y) is the input's (a x + b y + c, d x + e y + f), nearest."""
    from PIL import Image

    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, fillcolor=(FILL,) * 3)


def _cutout(share: float, height: int, width: int, generator: np.random.Generator) -> Operation:
    """A gray square of `share` of the shorter side, its center anywhere."""
    half = share * min(height, width) / 2
    centre_y, centre_x = generator.uniform(0, height), generator.uniform(0, width)
    top, bottom = (int(min(max(round(centre_y + d), 0), height)) for d in (-half, half))
    left, right = (int(min(max(round(centre_x + d), 0), width)) for d in (-half, half))

    def apply(picture: Image) -> Image:
        picture = picture.copy()
        if right > left and bottom > top:
            picture.paste((FILL,) * 3, (left, top, right, bottom))
        return picture

    return apply
