"""Real footage for the test, never for training: clips as they are, and under virtual cameras."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from .generator import NUM_FRAMES, SIDE
from .labels import LABELS, Clip
from .paths import frame_times, make_path
from .pictures import Canvas
from .render import View, render_background

STRIDE_SECONDS = 0.2
_MAX_FRAMES = 600
_MAX_SHORT_SIDE = 360  # pixels; larger footage is shrunk while reading


@dataclass(frozen=True)
class Footage:
    """The frames of a video 0.2 s apart for every phase: frames (N, H, W, 3) uint8 RGB."""

    frames: NDArray[np.uint8]
    stride: int  # frames in 0.2 s
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
                picture = cv2.resize(
                    picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA
                )
            frames.append(picture)
    return Footage(np.stack(frames), max(1, round(STRIDE_SECONDS * fps)), fps)


def as_seen(window: NDArray[np.uint8], side: int = SIDE) -> Clip:
    """(T, H, W, 3) -> (T, S, S, 3): short side to S by area, centre crop, as the product does."""
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


def measured_movement(window: NDArray[np.uint8]) -> dict[str, float]:
    """A second opinion without a network: how the scene moves by tracked corners.

    Adds up robust similarity fits between neighbouring frames. In per cent of the frame's height:
    `right` and `down` of the content, `growth` and `clockwise` as felt at a typical point;
    `path` is the length walked, in the same unit; `inliers` the share of corners that agree.
    """
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in window]
    height, width = grey[0].shape
    middle = np.array([width / 2, height / 2], np.float32)
    steps, shares = [], []
    for before, after in itertools.pairwise(grey):
        corners = cv2.goodFeaturesToTrack(before, 250, 0.01, 4)
        if corners is None or len(corners) < 8:
            continue
        moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None)
        kept = found.ravel() == 1
        if kept.sum() < 8:
            continue
        matrix, inliers = cv2.estimateAffinePartial2D(
            corners[kept] - middle, moved[kept] - middle, ransacReprojThreshold=1.0
        )
        if matrix is None:
            continue
        growth = 0.38 * np.log(np.hypot(matrix[0, 0], matrix[1, 0])) * height
        turn = 0.38 * np.arctan2(matrix[1, 0], matrix[0, 0]) * height
        steps.append([matrix[0, 2], matrix[1, 2], growth, turn])
        shares.append(float(inliers.mean()))
    if not steps:
        return {name: float("nan") for name in ("right", "down", "growth", "clockwise", "path")}
    moves = np.array(steps) * 100 / height
    names = ("right", "down", "growth", "clockwise")
    result = dict(zip(names, moves.sum(0).tolist(), strict=True))
    result["path"] = float(np.linalg.norm(moves, axis=1).sum())
    result["inliers"] = float(np.mean(shares))
    return result


def measured_label(movement: dict[str, float]) -> str | None:
    """The label that a clear measured movement deserves; None where it is mixed or unclear."""
    if not movement["path"] >= 0 or movement["inliers"] < 0.4:
        return None
    strengths = {
        "pan_left": movement["right"],
        "pan_right": -movement["right"],
        "tilt_up": movement["down"],
        "tilt_down": -movement["down"],
        "zoom_in": movement["growth"],
        "zoom_out": -movement["growth"],
        "roll_ccw": movement["clockwise"],
        "roll_cw": -movement["clockwise"],
    }
    ranked = sorted(strengths, key=lambda name: -strengths[name])
    first, second = strengths[ranked[0]], strengths[ranked[1]]
    if movement["path"] < 2:
        return "static"
    if first > 8 and second < 0.4 * first and first > 0.6 * movement["path"]:
        return ranked[0]
    if movement["path"] > 8 and first < 0.2 * movement["path"]:
        return "shake"
    return None


def virtual_set(
    root: Path, names: list[str], clips_per_label: int, seed: int
) -> tuple[Clip, NDArray[np.int64]]:
    """(N, T, S, S, 3) clips over static real footage and their labels (N,), evenly mixed."""
    rng = np.random.default_rng((seed, 4))
    footage = [read_footage(root / name) for name in names]
    footage = [one for one in footage if one.windows(1)]
    clips, labels = [], []
    for label in range(len(LABELS)):
        for number in range(clips_per_label):
            one = footage[number % len(footage)]
            last = one.windows(2)[-1]
            clips.append(filmed_again(one, int(rng.integers(0, last + 1)), label, rng))
            labels.append(label)
    return np.stack(clips), np.array(labels)


def videos_in(paths: list[Path]) -> Iterator[Path]:
    """Video files among files and folders (searched to the bottom), sorted."""
    endings = {".mp4", ".avi", ".mkv", ".webm", ".mov", ".mpg"}
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (one for one in inside if one.suffix.lower() in endings)
