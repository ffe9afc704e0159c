"""`VideoReader`: frames at indices, with times, of a file, a folder of images or an array.

with VideoReader("clip.mp4") as reader:
    frames = reader.frames_at([0, 10, 20])        # (3, H, W, 3) uint8 RGB
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, VideoDecodeError
from .container import decode_error, is_folder, require_size, translated
from .images import IMAGE_SUFFIXES, ImageFolder, is_animated
from .packet_index import Ints
from .video_file import Pixels, VideoFile


class _Frames(Protocol):
    """What every kind of source offers to VideoReader."""

    @property
    def num_frames(self) -> int: ...
    @property
    def fps(self) -> float | None: ...
    @property
    def times_seconds(self) -> NDArray[np.float64] | None: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    def read(self, positions: Ints) -> Iterator[tuple[int, Pixels]]: ...
    def close(self) -> None: ...


class VideoReader:
    """The frames of one video.

    Frames are what a complete FFmpeg decode outputs, in that order, rotated upright as the
    container says. Interlaced lines, non-square pixels (as in the original pipeline) and HDR
    brightness are left as they are. Transparency is dropped. If a stream changes its size, its
    frames are scaled to the first one.

    Of several video streams the one that FFmpeg selects is read (the default, then the largest).
    A short video is decoded on opening and held in up to 128 MiB of memory until `close`; of a
    long one only the requested frames are held. A reader belongs to one thread at a time. Only
    local regular files are opened, and nothing that they point to.

    Attributes stay readable after `close`.

    Args:
        source: path of a video file, of an image (a video of one frame) or of a folder of images
            in natural order, or an array (T, H, W, 3) uint8 RGB or (T, H, W) uint8 gray.

    Attributes:
        num_frames: number of frames. For long mp4, mov, mkv and webm files it is taken from the
            packets and verified by decoding where frames are requested; in all other cases it is
            the number of frames that a decoder returned.
        fps: average frames per second; None for arrays and images.
        times_seconds: (num_frames,) float64, when each frame is shown; the first is 0.0. None if
            unknown.
        height: pixels, upright.
        width: pixels, upright.

    Raises:
        VideoDecodeError: the source cannot be read, is truncated, or is smaller than 2x2 or
            larger than 100 million pixels per frame. Frames known to be damaged are rejected when
            requested; no codec detects all damage to its data.
    """

    num_frames: int
    fps: float | None
    times_seconds: NDArray[np.float64] | None
    height: int
    width: int

    def __init__(self, source: str | Path | NDArray[np.uint8]) -> None:
        self._name = f"array {source.shape}" if isinstance(source, np.ndarray) else str(source)
        self._frames: _Frames | None = None
        frames = _open(source, self._name)
        self._frames = frames
        self._copy_facts(frames)

    def _copy_facts(self, frames: _Frames) -> None:
        self.num_frames = frames.num_frames
        self.fps = frames.fps
        self.times_seconds = frames.times_seconds
        self.height, self.width = frames.height, frames.width

    def frames_at(self, indices: Sequence[int] | NDArray[np.integer]) -> Pixels:
        """Frames at indices.

        Args:
            indices: T frame numbers in [0, num_frames), in any order and possibly repeated; each
                frame is decoded once.

        Returns:
            (T, H, W, 3) uint8 RGB, in the order of the indices.

        Raises:
            ConfigError: An index is out of range.
            VideoDecodeError: A requested frame is damaged.
        """
        if self._frames is None:
            raise decode_error(self._name, "the reader is closed")
        checked = _checked_indices(indices, self.num_frames)
        positions, row_of = np.unique(checked, return_inverse=True)
        by_position = np.split(
            np.argsort(row_of, kind="stable"), np.cumsum(np.bincount(row_of))[:-1]
        )
        rows = dict(zip(positions.tolist(), by_position, strict=True))
        with translated(self._name, "making room for its frames"):
            out = np.empty((len(checked), self.height, self.width, 3), np.uint8)

        try:
            with translated(self._name, "decoding"):
                for position, pixels in self._frames.read(positions):
                    out[rows[position]] = pixels
        finally:
            self._copy_facts(self._frames)  # a long file may have turned out to be shorter
        return out

    def close(self) -> None:
        """Closes the file and drops all frames held; may be called again."""
        if self._frames is not None:
            self._frames.close()
            self._frames = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"VideoReader({self._name!r}, {self.num_frames} frames, {self.width}x{self.height})"


def _open(source: str | Path | NDArray[np.uint8], name: str) -> _Frames:
    if isinstance(source, np.ndarray):
        return _ArrayFrames(source, name)
    if not isinstance(source, str | Path):
        raise VideoDecodeError(
            f"A video is a path or a uint8 array (T, H, W, 3), not {type(source).__name__}."
        )
    path = os.fspath(source)
    folder = is_folder(path, name)
    with translated(name, "opening"):
        if folder:
            return ImageFolder.from_folder(path, name)
        if Path(path).suffix.lower() in IMAGE_SUFFIXES and not _moves(path, name):
            return ImageFolder([Path(path)], [name])
        return VideoFile(path, name)


def _moves(path: str, name: str) -> bool:
    """Is the picture an animated png (FFmpeg reads it)? Animated webp nobody here can read."""
    with Path(path).open("rb") as file:
        head = file.read(4096)
    if not is_animated(head):
        return False
    if head[:4] == b"RIFF":
        raise decode_error(name, "animated webp is not read; convert it to gif or mp4")
    return True


class _ArrayFrames:
    """An array as a video; gray is repeated to three channels."""

    fps = None
    times_seconds = None

    def __init__(self, array: NDArray[np.uint8], name: str) -> None:
        is_color = array.ndim == 4 and array.shape[3] == 3
        if array.dtype != np.uint8 or not (is_color or array.ndim == 3):
            raise decode_error(
                name,
                f"its shape is {array.shape} and its type {array.dtype}, but must be "
                "(T, H, W, 3) or (T, H, W) and uint8",
            )
        if array.ndim == 3 and array.shape[2] in (3, 4):
            raise decode_error(
                name, "it looks like a single color picture; give array[None] for a video of one"
            )
        if len(array) == 0:
            raise decode_error(name, "it holds no frames")
        self._array = array
        self.num_frames, self.height, self.width = array.shape[:3]
        require_size(name, self.width, self.height)

    def close(self) -> None:
        """The array belongs to the caller."""

    def read(self, positions: Ints) -> Iterator[tuple[int, Pixels]]:
        """Yields the frames at `positions`, each as (position, pixels)."""
        for position in positions.tolist():
            frame = self._array[position]
            yield position, frame if frame.ndim == 3 else frame[:, :, None]


def _checked_indices(indices: Sequence[int] | NDArray[np.integer], num_frames: int) -> Ints:
    """Indices as int64 (T,). Raises ConfigError for what is no index of the video."""
    allowed = f"whole numbers from 0 to {num_frames - 1}"
    try:
        array = np.asarray(indices)
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigError(f"Frame indices must be one list of {allowed}.") from error
    if array.ndim != 1 or len(array) == 0:
        raise ConfigError(
            f"Frame indices have shape {array.shape}, but must be one non-empty list of {allowed}."
        )
    is_whole = np.issubdtype(array.dtype, np.integer)
    wrong = array if not is_whole else array[(array < 0) | (array >= num_frames)]
    if len(wrong):
        raise ConfigError(f"Frame index {wrong[0]} is out of range; allowed are {allowed}.")
    return array.astype(np.int64)
