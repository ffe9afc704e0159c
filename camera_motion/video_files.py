"""Generated clips as video files: smooth paths at any frame rate, sizes and compressions.

A path is drawn at moments 0.1 s apart, as in training, and smoothed in between: what the network
sees at its own moments is what the label means, whatever the file's frame rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from .degrade import make_gray
from .images import PicturePool
from .labels import Clip
from .paths import CameraPath, make_path
from .render import View, add_things, make_masks, render_background

_SECONDS = 0.1  # between the moments of a path
_FPS, _SIDE = 60, 270  # of what is rendered before a variant is made of it


@dataclass(frozen=True)
class Variant:
    """One way to store the same clip: every number as in the file, crf as x264 counts it."""

    fps: int = 30
    side: int = 240
    crf: int = 20
    gray: bool = False


VARIANTS = {
    "as it is": Variant(),
    "15 fps": Variant(fps=15),
    "60 fps": Variant(fps=60),
    "1080 pixels high": Variant(side=1080, fps=15),
    "heavily compressed": Variant(crf=40),
    "gray": Variant(gray=True),
}


def smooth_path(
    label: int, num_moments: int, frames_between: int, difficulty: float, rng: np.random.Generator
) -> tuple[CameraPath, NDArray[np.float64]]:
    """A path with `frames_between` frames for each 0.1 s, and the frames' times in 0.1 s."""
    moments = np.arange(num_moments, dtype=np.float64)
    path = make_path(label, moments, difficulty, rng)
    times = np.arange((num_moments - 1) * frames_between + 1) / frames_between

    def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(CubicSpline(moments, values)(times))

    return (
        CameraPath(smooth(path.shift), smooth(path.log_scale), smooth(path.angle), path.focus),
        times,
    )


def render_smooth(label: int, seed: int, difficulty: float = 0.6) -> Clip:
    """(61, 270, 270, 3) uint8 RGB: 1 s at 60 frames a second over a picture never trained on."""
    rng = np.random.default_rng((seed, label))
    pool = PicturePool("test", seed, num_slots=8)
    pool.turn_to(0)
    path, times = smooth_path(label, 11, round(_SECONDS * _FPS), difficulty, rng)
    canvas = pool.draw(rng)
    height, width = canvas.levels[0].shape[:2]
    view = View(np.array([width, height]) / 2, min(height, width) / _SIDE / 1.6)
    frames = render_background(canvas, path, view, _SIDE)
    if rng.random() < 0.5:
        add_things(frames, path, times, pool, make_masks(rng), rng)
    return frames


def in_variant(frames: Clip, variant: Variant) -> Clip:
    """What goes into the file of a variant: fewer frames, another size, gray."""
    frames = frames[:: _FPS // variant.fps]
    size = (variant.side, variant.side)
    how = cv2.INTER_AREA if variant.side < frames.shape[1] else cv2.INTER_CUBIC
    frames = np.stack([cv2.resize(frame, size, interpolation=how) for frame in frames])
    return make_gray(frames) if variant.gray else frames


def write_video(path: Path, frames: Clip, fps: int, crf: int, preset: str = "ultrafast") -> None:
    """H.264 in mp4; one thread and fixed settings, so that the file depends on the frames only."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        # Without the macroblock tree, which reads memory that nobody set.
        options = {"crf": str(crf), "preset": preset, "threads": "1", "x264-params": "mbtree=0"}
        stream: Any = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_variants(folder: Path, label: int, seed: int) -> dict[str, Path]:
    """Every variant of one clip as a file in `folder`."""
    frames = render_smooth(label, seed)
    paths = {}
    for name, variant in VARIANTS.items():
        paths[name] = folder / f"{seed}-{label}-{name.replace(' ', '-')}.mp4"
        write_video(paths[name], in_variant(frames, variant), variant.fps, variant.crf)
    return paths
