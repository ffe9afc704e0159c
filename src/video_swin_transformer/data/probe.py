"""One clip, looked at from all sides. Runs in worker processes; raises nothing."""

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
from ..video.discovery import VIDEO_SUFFIXES
from ..video.images import IMAGE_SUFFIXES
from ..video.metadata import read_metadata

_FRAMES_PER_CHUNK = 64
# Times are rounded to the container's unit (1 ms in mkv), which is no variable rate.
_MIN_DEVIATION_SECONDS = 0.0025
_MIN_DEVIATION = 0.25  # of the usual distance between frames
_QUARTER_TURN = 90


@dataclass(frozen=True)
class ProbeTask:
    """deep: decode every frame instead of those of the clips of `sampling`."""

    path: str
    sampling: ClipSampling
    deep: bool = False


@dataclass(frozen=True)
class ClipFacts:
    """What was seen of a clip; `error` says why it cannot be used, without naming it again."""

    path: str
    error: str | None = None
    is_absent: bool = False
    num_frames: int = 0
    stated_num_frames: int | None = None  # by the container
    fps: float | None = None
    has_variable_rate: bool = False
    rotation_degrees: int = 0
    height: int = 0
    width: int = 0
    num_bytes: int = 0


def probe_clip(task: ProbeTask) -> ClipFacts:
    """Opens a clip, reads the frames sampled of it (all if deep), and says what it is."""
    path = Path(task.path)
    try:
        with VideoReader(task.path) as video:
            indices = clip_indices(video.num_frames, task.sampling, video.fps)
            wanted = np.arange(video.num_frames) if task.deep else np.unique(indices)
            for start in range(0, len(wanted), _FRAMES_PER_CHUNK):
                video.frames_at(wanted[start : start + _FRAMES_PER_CHUNK])
            num_frames, fps, times = video.num_frames, video.fps, video.times_seconds
            height, width = video.height, video.width
        stated_num_frames, rotation = None, 0
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
            stated = read_metadata(path)
            stated_num_frames, rotation = stated.num_frames, stated.rotation_degrees
        return ClipFacts(
            path=task.path,
            num_frames=num_frames,
            stated_num_frames=stated_num_frames,
            fps=fps,
            has_variable_rate=is_variable(times),
            rotation_degrees=rotation,
            height=height,
            width=width,
            num_bytes=sum(part.stat().st_size for part in _parts(path)),
        )
    except (VideoSwinError, OSError) as error:
        reason = str(error).removeprefix(f"Cannot read {task.path!r}: ").rstrip(".")
        return ClipFacts(task.path, error=reason, is_absent=not _exists(path))
    except MemoryError:
        return ClipFacts(task.path, error="there is not enough memory for it")


def is_variable(times_seconds: npt.NDArray[np.float64] | None) -> bool:
    """Are frames at uneven distances, beyond what rounding explains?"""
    if times_seconds is None or len(times_seconds) < 3:
        return False
    distances = np.diff(times_seconds)
    usual = float(np.median(distances))
    off = float(np.abs(distances - usual).max())
    return off > max(_MIN_DEVIATION * usual, _MIN_DEVIATION_SECONDS)


def digest_clip(path: str) -> str | None:
    """SHA-256 of the content of a file or of all pictures of a folder; None if unreadable."""
    try:
        return sha256_files(_parts(Path(path)))
    except OSError:
        return None


def count_images(path: str) -> int | None:
    """How many pictures a folder of frames holds; None for what is no folder."""
    return len(_parts(Path(path))) if Path(path).is_dir() else None


def _parts(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(
        part
        for part in path.iterdir()
        if part.suffix.lower() in IMAGE_SUFFIXES and not part.name.startswith(".")
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
