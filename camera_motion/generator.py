"""Labeled clips without end: picture + path + things in front + wear.

Batch i of a generator follows from (split, seed, i) alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .degrade import degrade
from .images import PicturePool, Split
from .labels import LABELS, SYMMETRIES, random_symmetry
from .paths import frame_times, make_path
from .render import View, add_things, make_masks, render_background, ripple

NUM_FRAMES = 8  # 0.1 s apart
SIDE = 112  # pixels

_STATIC = LABELS.index("static")
_CLIPS_A_TURN = 32  # then some pictures are replaced
# A movement nobody could see (a plain wall, a black sky) must not be asked for, nor one that shows
# in one corner only: so many of the 16 parts of the picture must change by so many gray levels.
_LEAST_CHANGE = 2.5
_LEAST_CHANGING_PARTS = 7


class ClipGenerator:
    """Makes clips of one split.

    difficulty: 0 (big clean movements) to 1 (everything); training grows it over its first part.
    num_pictures: how many are at hand for one batch.
    """

    def __init__(
        self, split: Split = "train", seed: int = 0, side: int = SIDE, num_pictures: int = 72
    ):
        self._pool = PicturePool(split, seed, num_pictures)
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

    def numbered(self, label: int, number: int, difficulty: float = 1.0) -> NDArray[np.uint8]:
        """Clip `number` of endlessly many, (T, S, S, 3) uint8 RGB: it follows from (split, seed,
        number, label) alone. Numbers should grow: pictures are replaced as they do."""
        self._pool.turn_to(number // _CLIPS_A_TURN)
        rng = np.random.default_rng((*self._entropy, number, label))
        chosen = [symmetry for symmetry in SYMMETRIES if rng.random() < 0.5]
        for _, labels in reversed(chosen):
            label = labels[label]  # each undoes itself: what must be filmed to end as the label
        clip = self.clip(label, rng, difficulty)
        for symmetry, _ in chosen:
            clip, label = symmetry(clip, label)
        return np.ascontiguousarray(clip)

    def clip(
        self, label: int, rng: np.random.Generator, difficulty: float = 1.0
    ) -> NDArray[np.uint8]:
        """One clip (T, S, S, 3) uint8 RGB. The pool must have been turned to some batch."""
        times = frame_times(NUM_FRAMES, rng)
        path = make_path(label, times, difficulty, rng)
        for _ in range(6):
            canvas = self._pool.draw(rng)
            frames = render_background(
                canvas, path, self._view(canvas.levels[0].shape, rng), self._side
            )
            if label == _STATIC or _changing_parts(frames) >= _LEAST_CHANGING_PARTS:
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
            center=rng.uniform(0.2, 0.8, 2) * np.array([width, height]),
            scale=scale,
            angle=float(rng.normal(0, 0.12)),
            slant=(float(slant[0]), float(slant[1])),
            shutter=float(rng.uniform(0.1, 0.5)) if rng.random() < 0.25 else 0.0,
        )


def _changing_parts(frames: NDArray[np.uint8]) -> int:
    """How many cells of a 4 x 4 grid change between the first and last frame, or neighbors."""
    num_frames, side = frames.shape[:2]
    few = frames[:, : side // 8 * 8 : 2, : side // 8 * 8 : 2, 1].astype(np.int16)
    cells = few.reshape(num_frames, 4, side // 8, 4, side // 8)
    ends = np.abs(cells[-1] - cells[0]).mean((1, 3))
    neighbors = np.abs(np.diff(cells, axis=0)).mean((0, 2, 4))
    return int((np.maximum(ends, neighbors) >= _LEAST_CHANGE).sum())
