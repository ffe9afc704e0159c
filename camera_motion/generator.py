"""Labelled clips without end: picture + path + things in front + wear.

Batch i of a generator follows from (split, seed, i) alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .degrade import degrade
from .labels import LABELS, random_symmetry
from .paths import frame_times, make_path
from .pictures import PicturePool, Split
from .render import View, add_things, make_masks, render_background, ripple

NUM_FRAMES = 8  # 0.2 s apart
SIDE = 112  # pixels

_STATIC = LABELS.index("static")
# A movement nobody could see (a plain wall, a black sky) must not be asked for: mean grey levels
# between the first and the last frame, or between neighbours for a shake.
_LEAST_CHANGE = 2.5


class ClipGenerator:
    """Makes clips of one split.

    difficulty: 0 (big clean movements) to 1 (everything); training grows it over its first part.
    """

    def __init__(self, split: Split = "train", seed: int = 0, side: int = SIDE):
        self._pool = PicturePool(split, seed)
        self._entropy = (seed, 2 if split == "train" else 3)
        self._masks = make_masks(np.random.default_rng(self._entropy))
        self._side = side

    def batch(
        self, index: int, size: int, difficulty: float = 1.0
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Clips (size, T, S, S, 3) uint8 RGB and their labels (size,), labels evenly mixed."""
        self._pool.turn_to(index)
        rng = np.random.default_rng((*self._entropy, index))
        labels = rng.permutation((np.arange(size) + rng.integers(len(LABELS))) % len(LABELS))
        clips = np.empty((size, NUM_FRAMES, self._side, self._side, 3), np.uint8)
        for place, label in enumerate(labels):
            clips[place], labels[place] = random_symmetry(
                self.clip(int(label), rng, difficulty), int(label), rng
            )
        return clips, labels.astype(np.int64)

    def clip(
        self, label: int, rng: np.random.Generator, difficulty: float = 1.0
    ) -> NDArray[np.uint8]:
        """One clip (T, S, S, 3) uint8 RGB. The pool must have been turned to some batch."""
        times = frame_times(NUM_FRAMES, rng)
        path = make_path(label, times, difficulty, rng)
        for _ in range(4):
            canvas = self._pool.draw(rng)
            frames = render_background(
                canvas, path, self._view(canvas.levels[0].shape, rng), self._side
            )
            if label == _STATIC or _change(frames) >= _LEAST_CHANGE:
                break
        if rng.random() < (
            (0.2 + 0.5 * difficulty) if label == _STATIC else 0.1 + 0.45 * difficulty
        ):
            add_things(frames, path, times, self._pool, self._masks, rng)
        if rng.random() < (0.2 if label == _STATIC else 0.06) * difficulty:
            ripple(frames, rng)
        return degrade(frames, difficulty, rng)

    def _view(self, shape: tuple[int, ...], rng: np.random.Generator) -> View:
        height, width = shape[:2]
        widest = min(height, width) / self._side
        scale = float(np.exp(rng.uniform(np.log(0.55), np.log(max(1.2, 1.1 * widest)))))
        slant = rng.uniform(-0.5, 0.5, 2) if rng.random() < 0.25 else np.zeros(2)
        return View(
            centre=rng.uniform(0.2, 0.8, 2) * np.array([width, height]),
            scale=scale,
            angle=float(rng.normal(0, 0.12)),
            slant=(float(slant[0]), float(slant[1])),
            shutter=float(rng.uniform(0.1, 0.5)) if rng.random() < 0.25 else 0.0,
        )


def _change(frames: NDArray[np.uint8]) -> float:
    """Mean absolute difference in grey levels, the larger of first-last and of neighbours."""
    few = frames[:, ::3, ::3, 1].astype(np.int16)
    ends = np.abs(few[-1] - few[0]).mean()
    return float(max(ends, np.abs(np.diff(few, axis=0)).mean()))
