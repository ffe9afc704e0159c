"""Labeled segments of videos."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Segment:
    """A labeled part of a video.

    Attributes:
        label: Name of the class.
        start: Seconds from the first frame of the video.
        end: Seconds; the frame that begins here is the first one after the segment.
        score: Score of a prediction, usually 0 to 1; None for annotations.
    """

    label: str
    start: float
    end: float
    score: float | None = None


@dataclass(frozen=True)
class VideoSegments:
    """The segments of one video.

    Attributes:
        video: Path of the video, or its id if the file is not known.
        segments: Its segments; they may overlap.
        duration: Length of the video in seconds, if known.
        fps: Frames per second; None if unknown or variable.
        subset: Name of the split, such as "training".
    """

    video: str
    segments: tuple[Segment, ...]
    duration: float | None = None
    fps: float | None = None
    subset: str | None = None
