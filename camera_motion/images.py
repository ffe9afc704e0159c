"""The still pictures that virtual cameras look at: free photographs and our own textures.

Photographs come inside the wheels of scikit-image and scikit-learn (extra `dev`); nothing is
downloaded. LICENSES.md lists every one with its source and terms, and which are test only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import cv2
import numpy as np

from .textures import HELD_OUT_KINDS, TRAIN_KINDS, Picture, make_texture

Split = Literal["train", "test"]

_SCENES = ("astronaut.png", "camera.png", "chelsea.png", "rocket.jpg", "text.png")
_SURFACES = ("grass.png", "gravel.png", "clock_motion.png")
_STRANGE = ("hubble_deep_field.jpg", "cell.png", "retina.jpg")  # seldom drawn: little like footage
_PHOTOGRAPHS: dict[Split, tuple[tuple[str, str, float], ...]] = {  # package, file, how often
    "train": (
        *(("skimage.data", name, 4.0) for name in _SCENES),
        *(("skimage.data", name, 2.0) for name in _SURFACES),
        *(("skimage.data", name, 1.0) for name in _STRANGE),
    ),
    "test": (
        ("skimage.data", "coffee.png", 1.0),
        ("skimage.data", "brick.png", 1.0),
        ("sklearn.datasets.images", "china.jpg", 1.0),
        ("sklearn.datasets.images", "flower.jpg", 1.0),
    ),
}
# Share of photographs among the pictures. There are few, so textures must carry the variety.
_PHOTOGRAPH_SHARE: dict[Split, float] = {"train": 0.35, "test": 0.6}
_LONGEST_SIDE = 640  # pixels; larger photographs are shrunk to this


@cache
def _photograph(package: str, name: str) -> Picture:
    """(H, W, 3) uint8 RGB."""
    data = np.frombuffer(files(package).joinpath(name).read_bytes(), np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None, f"{package}/{name} is not an image"
    picture = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
    shrink = _LONGEST_SIDE / max(picture.shape[:2])
    if shrink < 1:
        shrunk = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        return np.asarray(shrunk, np.uint8)
    return picture


def photographs(split: Split) -> list[Picture]:
    """All photographs of a split."""
    return [_photograph(package, name) for package, name, _ in _PHOTOGRAPHS[split]]


def _recolored(picture: Picture, rng: np.random.Generator) -> Picture:
    """Another light on the same photograph: channels swapped, gamma, contrast; rarely negative."""
    picture = picture[:, :, rng.permutation(3)] if rng.random() < 0.5 else picture
    levels = np.linspace(0, 1, 256) ** np.exp(rng.uniform(-0.6, 0.6))
    low, high = rng.uniform(0, 0.25), rng.uniform(0.7, 1)
    levels = low + (high - low) * levels
    if rng.random() < 0.08:
        levels = levels[::-1]
    return np.asarray(cv2.LUT(np.ascontiguousarray(picture), (levels * 255).astype(np.uint8)))


def draw_picture(split: Split, rng: np.random.Generator) -> Picture:
    """One picture of a split, never the same twice: (H, W, 3) uint8 RGB."""
    if rng.random() < _PHOTOGRAPH_SHARE[split]:
        weights = np.array([weight for _, _, weight in _PHOTOGRAPHS[split]])
        package, name, _ = _PHOTOGRAPHS[split][
            int(rng.choice(len(weights), p=weights / weights.sum()))
        ]
        return _recolored(_photograph(package, name), rng)
    return make_texture(TRAIN_KINDS if split == "train" else HELD_OUT_KINDS, rng)


@dataclass(frozen=True)
class Canvas:
    """A picture at full, half and quarter size, so that a wide view of it does not alias."""

    levels: tuple[Picture, ...]

    @classmethod
    def of(cls, picture: Picture) -> Canvas:
        levels = [picture]
        for _ in range(2):
            half = cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            levels.append(np.asarray(half, np.uint8))
        return cls(tuple(levels))

    def level_for(self, scale: float) -> int:
        """The level to sample when one frame pixel spans `scale` pixels of the full picture."""
        return 0 if scale < 1.5 else 1 if scale < 3 else 2


class PicturePool:
    """A few dozen pictures at hand, a few of them replaced for every batch.

    What slot j holds for batch i follows from (seed, i, j) alone, so a resumed training sees the
    pictures it would have seen.
    """

    def __init__(self, split: Split, seed: int, num_slots: int = 72, batches_kept: int = 36):
        self._split: Split = split
        self._entropy = (seed, 0 if split == "train" else 1)
        self._batches_kept = batches_kept
        self._generations = [-1] * num_slots
        self._canvases: list[Canvas | None] = [None] * num_slots

    def turn_to(self, batch: int) -> None:
        """Replaces the pictures whose time is over at `batch`."""
        for slot, held in enumerate(self._generations):
            generation = (batch + slot * self._batches_kept // len(self._generations)) // (
                self._batches_kept
            )
            if generation != held:
                rng = np.random.default_rng((*self._entropy, slot, generation))
                self._canvases[slot] = Canvas.of(draw_picture(self._split, rng))
                self._generations[slot] = generation

    def draw(self, rng: np.random.Generator) -> Canvas:
        canvas = self._canvases[int(rng.integers(len(self._canvases)))]
        assert canvas is not None, "turn_to comes before draw"
        return canvas
