"""A part of a video between two times, and when frames begin and end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .arrays import Ints, Pixels
from .container import decode_error

Seconds = NDArray[np.float64]

_EPSILON_SECONDS = 1e-6  # times are rounded to the time base of the file
_FRAGMENT = "#t="


@dataclass(frozen=True, slots=True)
class VideoSegment:
    """A part of a video file, read as if it were a video of its own.

    Its frames are those that begin at or after `start` and before `end`; at least one.

    Attributes:
        path: Path of the file.
        start: Seconds from the first frame of the file, 0 or more.
        end: Seconds, after `start`. An end after that of the file is the end of the file.
    """

    path: str | Path
    start: float
    end: float

    def __str__(self) -> str:
        """Returns the path with the times as a media fragment, such as a.mp4#t=1.5,4.0."""
        return f"{self.path}{_FRAGMENT}{self.start},{self.end}"


def parse_segment(name: str) -> VideoSegment | None:
    """Returns the segment that a name stands for; None for the name of a file or folder.

    Args:
        name: A path, or a `VideoSegment` as text.
    """
    path, found, times = name.rpartition(_FRAGMENT)
    start, comma, end = times.partition(",")
    try:
        return VideoSegment(path, float(start), float(end)) if found and comma else None
    except ValueError:
        return None


def frame_edges(times: Seconds, fps: float | None) -> Seconds:
    """Returns when each frame begins and the last one ends, (T + 1,) in seconds.

    Files seldom say how long the last frame is shown: as long as most others.

    Args:
        times: (T,) presentation times in seconds.
        fps: Frames per second, for a video of a single frame.
    """
    of_one = 1 / fps if fps else 0.0
    last = float(np.median(np.diff(times))) if len(times) > 1 else of_one
    return np.append(times, times[-1] + last)


def is_variable_rate(times: Seconds) -> bool:
    """Returns whether a frame is half a frame or more from its place at a constant rate.

    Args:
        times: (T,) presentation times in seconds.
    """
    if len(times) < 3:
        return False
    regular = np.linspace(times[0], times[-1], len(times))
    return bool(np.abs(times - regular).max() > 0.5 * (times[-1] - times[0]) / (len(times) - 1))


def frames_between(edges: Seconds, start: float, end: float) -> tuple[int, int]:
    """Returns the first frame of a segment and the frame after its last one.

    Args:
        edges: Output of `frame_edges`.
        start: Seconds, before the end of the video.
        end: Seconds.
    """
    begins = edges[:-1]
    first = int(np.searchsorted(begins, start - _EPSILON_SECONDS, side="left"))
    first = min(first, len(begins) - 1)
    stop = int(np.searchsorted(begins, end - _EPSILON_SECONDS, side="left"))
    return first, max(first + 1, stop)


class FrameSource(Protocol):
    """The interface of the sources that VideoReader supports."""

    @property
    def num_frames(self) -> int: ...
    @property
    def fps(self) -> float | None: ...
    @property
    def times_seconds(self) -> Seconds | None: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    def read(self, positions: Ints) -> Iterator[tuple[int, Pixels]]: ...
    def close(self) -> None: ...


class SegmentFrames:
    """The frames of a segment.

    Args:
        frames: The frames of the file, which stays open.
        segment: The segment.

    Raises:
        VideoDecodeError: The times of the segment are not in order or outside of the file, or its
            frames have no times.
    """

    def __init__(self, frames: FrameSource, segment: VideoSegment) -> None:
        if not (math.isfinite(segment.end) and 0 <= segment.start < segment.end):
            raise decode_error(
                str(segment),
                f"the segment is from {segment.start} to {segment.end} seconds, but must begin at "
                "0 or later and end after its begin",
            )
        times = frames.times_seconds
        if times is None:
            raise decode_error(
                str(segment), "its frames have no times, so a part of it cannot be selected"
            )
        edges = frame_edges(times, frames.fps)
        if segment.start >= edges[-1] - _EPSILON_SECONDS:
            raise decode_error(
                str(segment),
                f"the segment begins at {segment.start:g} seconds, but the video ends at "
                f"{edges[-1]:.3f}",
            )
        first, stop = frames_between(edges, segment.start, segment.end)
        self._frames, self._first = frames, first
        self.num_frames = stop - first
        self.times_seconds = times[first:stop] - times[first]
        self.fps = frames.fps
        if is_variable_rate(times):
            self.fps = float((stop - first) / (edges[stop] - edges[first]))
        self.height, self.width = frames.height, frames.width

    def read(self, positions: Ints) -> Iterator[tuple[int, Pixels]]:
        """Yields the frames at positions in the segment, each as (position, pixels)."""
        for position, pixels in self._frames.read(positions + self._first):
            yield position - self._first, pixels

    def close(self) -> None:
        """Does nothing; the reader of the file closes it."""
