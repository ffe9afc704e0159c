"""Real footage for the test, never for training: clips as they are, and under virtual cameras."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from .generator import NUM_FRAMES, SIDE
from .images import Canvas
from .labels import LABELS, Clip
from .paths import frame_times, make_path
from .render import View, render_background

STRIDE_SECONDS = 0.1
_MAX_FRAMES = 600
_MAX_SHORT_SIDE = 360  # pixels; larger footage is shrunk while reading


@dataclass(frozen=True)
class Footage:
    """The first frames of a video: (N, H, W, 3) uint8 RGB, clips are taken `stride` apart."""

    frames: NDArray[np.uint8]
    stride: int  # frames in 0.1 s
    fps: float

    def windows(self, limit: int) -> list[int]:
        """Up to `limit` starts of clips, evenly spread."""
        last = len(self.frames) - 1 - (NUM_FRAMES - 1) * self.stride
        if last < 0:
            return []
        return sorted({round(start) for start in np.linspace(0, last, limit)})

    def window(self, start: int) -> NDArray[np.uint8]:
        """(T, H, W, 3) from frame `start` on."""
        return self.frames[start : start + NUM_FRAMES * self.stride : self.stride][:NUM_FRAMES]


def read_footage(path: Path) -> Footage:
    """The first 600 frames of a video file."""
    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        fps = float(stream.average_rate or 25)
        for frame in itertools.islice(container.decode(stream), _MAX_FRAMES):
            picture = frame.to_ndarray(format="rgb24")
            shrink = _MAX_SHORT_SIDE / min(picture.shape[:2])
            if shrink < 1:
                size = {"fx": shrink, "fy": shrink}
                picture = np.asarray(
                    cv2.resize(picture, None, interpolation=cv2.INTER_AREA, **size), np.uint8
                )
            frames.append(picture)
    return Footage(np.stack(frames), max(1, round(STRIDE_SECONDS * fps)), fps)


def as_seen(window: NDArray[np.uint8], side: int = SIDE) -> Clip:
    """(T, H, W, 3) -> (T, S, S, 3): short side to S by area, center crop, as the product does."""
    height, width = window.shape[1:3]
    scale = side / min(height, width)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    small = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in window]
    return np.stack(small)[:, top : top + side, left : left + side]


def filmed_again(
    footage: Footage, start: int, label: int, rng: np.random.Generator, side: int = SIDE
) -> Clip:
    """A virtual camera moves over a real, moving scene filmed by a camera that stands still."""
    window = footage.window(start)
    height, width = window.shape[1:3]
    path = make_path(label, frame_times(NUM_FRAMES, rng), 1.0, rng)
    scale = rng.uniform(0.5, 0.8) * min(height, width) / side
    view = View(np.array([width / 2, height / 2]), scale)
    return render_background([Canvas.of(frame) for frame in window], path, view, side)


@dataclass(frozen=True)
class LabeledClips:
    """Clips (N, T, S, S, 3) uint8, labels (N,), and for each the number of what it shows.

    Clips that show the same video or the same few pictures stand or fall together; intervals are
    taken over these groups.
    """

    clips: Clip
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]


def virtual_set(root: Path, names: list[str], clips_per_label: int, seed: int) -> LabeledClips:
    """Virtual cameras over footage whose own camera stands still; labels evenly mixed."""
    rng = np.random.default_rng((seed, 4))
    clips, labels, groups = [], [], []
    num_clips = clips_per_label * len(LABELS)
    for number, name in enumerate(names):
        footage = read_footage(root / name)
        last = footage.windows(2)[-1]
        for turn in range(number, num_clips, len(names)):
            label = turn // len(names) % len(LABELS)
            clips.append(filmed_again(footage, int(rng.integers(0, last + 1)), label, rng))
            labels.append(label)
            groups.append(number)
    return LabeledClips(np.stack(clips), np.array(labels), np.array(groups))
