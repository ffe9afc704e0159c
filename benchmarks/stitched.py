"""A video stitched from rendered clips of known camera movements, at two kinds of rate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from camera_motion.examples import render
from camera_motion.labels import LABELS
from tests.media import Clip
from video_swin_transformer.data import Segment, VideoSegments

SIDE = 176
_VARIABLE_MS = (10, 80, 30, 50, 20, 60)


@dataclass(frozen=True)
class Stitched:
    """A video with known segments.

    Attributes:
        path: The file.
        first_frames: First frame of each clip.
        truth: The clips as segments.
    """

    path: Path
    first_frames: tuple[int, ...]
    truth: VideoSegments

    @property
    def borders(self) -> list[float]:
        """Times in seconds at which one clip follows another."""
        return [segment.start for segment in self.truth.segments[1:]]


def stitch(folder: Path, num_clips: int, *, variable_rate: bool, seed: int = 0) -> Stitched:
    """Renders clips of random movements and writes them as one video."""
    rng = np.random.default_rng(seed)
    labels: list[str] = []
    while len(labels) < num_clips:
        label = LABELS[rng.integers(len(LABELS))]
        if not labels or labels[-1] != label:
            labels.append(label)
    clips = [render(label, False, 1000 * seed + n) for n, label in enumerate(labels)]
    firsts = np.cumsum([0, *map(len, clips)])
    frames = [frame for clip in clips for frame in clip]
    if variable_rate:
        steps = np.resize(_VARIABLE_MS, len(frames))
        edges = np.concatenate([[0], np.cumsum(steps)])
        clip = Clip(".mkv", fps=1000, height=SIDE, width=SIDE, pts=edges[:-1].tolist())
        path, times = clip.make(folder / "variable", frames), edges / 1000
    else:
        clip = Clip(fps=25, height=SIDE, width=SIDE)
        path = clip.make(folder / "constant", frames)
        times = np.arange(len(frames) + 1) / 25
    segments = [
        Segment(label, float(times[first]), float(times[end]))
        for label, first, end in zip(labels, firsts[:-1], firsts[1:], strict=True)
    ]
    truth = VideoSegments(str(path), tuple(segments), float(times[-1]))
    return Stitched(path, tuple(firsts[:-1].tolist()), truth)


def border_errors(borders: list[float], segments: tuple[Segment, ...]) -> list[float]:
    """Distance of each true border to the nearest border that was found, in seconds."""
    found = np.array([time for one in segments for time in (one.start, one.end)])
    return [float(np.abs(found - border).min()) for border in borders]
