"""Checks one clip. Runs in worker processes; never raises."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..config import ClipSampling
from ..errors import VideoSwinError
from ..files import sha256_files
from ..sampling import clip_indices
from ..video import VideoReader
from ..video.discovery import video_suffixes
from ..video.images import FrameFolder, find_frames, missing_frames_reason
from ..video.metadata import read_metadata
from ..video.segment import frame_edges

_FRAMES_PER_CHUNK = 64
# Rounding to the container's time base (1 ms in mkv) does not count as a variable frame rate.
_MIN_DEVIATION_SECONDS = 0.0025
_MIN_DEVIATION = 0.25  # fraction of the median frame interval
_QUARTER_TURN = 90


@dataclass(frozen=True)
class ProbeTask:
    """A clip to check.

    Attributes:
        path: Path of the clip.
        sampling: Which frames to decode.
        deep: Decode every frame.
        num_frames: Number of frames given in the annotation, if any.
    """

    path: str
    sampling: ClipSampling
    deep: bool = False
    num_frames: int | None = None


@dataclass(frozen=True)
class ClipFacts:
    """Properties of a clip; `error` says why it cannot be used, without its path."""

    path: str
    error: str | None = None
    is_absent: bool = False
    num_frames: int = 0
    stated_num_frames: int | None = None  # by the container
    fps: float | None = None
    duration_seconds: float | None = None
    has_variable_rate: bool = False
    rotation_degrees: int = 0
    height: int = 0
    width: int = 0
    num_bytes: int = 0
    num_images: int | None = None  # of a frame folder, also those after the annotated number
    num_passed_over: int = 0  # other images in a frame folder
    missing_numbers: tuple[int, ...] = ()  # in the names of images


def probe_clip(task: ProbeTask) -> ClipFacts:
    """Opens a clip, decodes the sampled frames (all if `deep`), and returns its properties."""
    path = Path(task.path)
    try:
        images = None
        if path.is_dir():
            images = find_frames(path, task.path, task.num_frames)
            if task.num_frames is not None and images.num_images < task.num_frames:
                why = missing_frames_reason(task.num_frames, images.num_images)
                return ClipFacts(task.path, error=why, num_images=images.num_images)
        source: str | FrameFolder = task.path
        if task.num_frames is not None:
            source = FrameFolder(task.path, task.num_frames)
        with VideoReader(source) as video:
            indices = clip_indices(video.num_frames, task.sampling, video.fps)
            needed = np.arange(video.num_frames) if task.deep else np.unique(indices)
            for start in range(0, len(needed), _FRAMES_PER_CHUNK):
                video.frames_at(needed[start : start + _FRAMES_PER_CHUNK])
            num_frames, fps, times = video.num_frames, video.fps, video.times_seconds
            height, width = video.height, video.width
        stated_num_frames, rotation = None, 0
        if path.suffix.lower() in video_suffixes() and path.is_file():
            stated = read_metadata(path)
            stated_num_frames, rotation = stated.num_frames, stated.rotation_degrees
        return ClipFacts(
            path=task.path,
            num_frames=num_frames,
            stated_num_frames=stated_num_frames,
            fps=fps,
            duration_seconds=None if times is None else float(frame_edges(times, fps)[-1]),
            has_variable_rate=is_variable(times),
            rotation_degrees=rotation,
            height=height,
            width=width,
            num_bytes=sum(part.stat().st_size for part in _parts(path, task.num_frames)),
            num_images=None if images is None else images.num_images,
            num_passed_over=0 if images is None else len(images.passed_over),
            missing_numbers=() if images is None else images.missing,
        )
    except (VideoSwinError, OSError) as error:
        reason = str(error).removeprefix(f"Cannot read {task.path!r}: ").rstrip(".")
        return ClipFacts(task.path, error=reason, is_absent=not _exists(path))
    except MemoryError:
        return ClipFacts(task.path, error="not enough memory to decode it")


def is_variable(times_seconds: npt.NDArray[np.float64] | None) -> bool:
    """Returns whether frame intervals vary by more than rounding explains."""
    if times_seconds is None or len(times_seconds) < 3:
        return False
    intervals = np.diff(times_seconds)
    median = float(np.median(intervals))
    deviation = float(np.abs(intervals - median).max())
    return deviation > max(_MIN_DEVIATION * median, _MIN_DEVIATION_SECONDS)


def digest_clip(path: str) -> str | None:
    """Returns the SHA-256 of a file or of all frames in a folder; None if unreadable."""
    try:
        return sha256_files(_parts(Path(path)))
    except (OSError, VideoSwinError):
        return None


def _parts(path: Path, num_frames: int | None = None) -> list[Path]:
    if not path.is_dir():
        return [path]
    return [path / name for name in sorted(find_frames(path, str(path), num_frames).names)]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
