"""`VideoReader` reads frames at indices of a video file, a folder of images or an array.

with VideoReader("clip.mp4") as reader:
    frames = reader.frames_at([0, 10, 20])        # (3, H, W, 3) uint8 RGB
"""

from __future__ import annotations

import copy
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, VideoDecodeError
from .arrays import Ints, Pixels
from .container import decode_error, is_folder, require_size, translate_errors
from .images import (
    IMAGE_SUFFIXES,
    TIFF_HEADS,
    FrameFolder,
    ImageFolder,
    TiffPages,
    is_animated,
)
from .inputs import VideoSource, as_array, copy_to_file, layout_hint, source_name
from .isolation import IsolatedVideo
from .segment import FrameSource, SegmentFrames, VideoSegment
from .video_file import VideoFile


class VideoReader:
    """The frames of one video.

    The frames and their order are those of a complete FFmpeg decode, rotated according to the
    display matrix. There is no deinterlacing, no correction of non-square pixels (as in the
    official pipeline) and no tone mapping. Alpha is dropped. If the frame size changes within a
    stream, frames are scaled to the size of the first one.

    If there are several video streams, FFmpeg's choice is used (the default stream, then the
    largest). Short videos are decoded when opened and kept in memory (at most 128 MiB) until
    `close`; for long videos only the requested frames are decoded. Readers are not thread-safe.
    Only local regular files are opened, and no files that they reference.

    Attributes can be read after `close`.

    Args:
        source: Path of a video file, of an image (a video of one frame), of a TIFF file (a video
            of its pages) or of a folder of images in natural order (see
            `sequences.choose_sequence`); a `FrameFolder`; a `VideoSegment`; an `IsolatedVideo`; an
            array or tensor, (T, H, W, 3) or (T, 3, H, W) uint8 RGB or (T, H, W) uint8 grayscale; a
            list of frames, which are PIL images, arrays or tensors; or the content of a video file
            as bytes or as a file object in binary mode, which is copied to a temporary file.
        allow_truncated: Read a file whose end is missing up to its last intact frame, with a
            warning, instead of refusing it. The whole file is decoded when it is opened.

    Attributes:
        num_frames: Number of frames. For long mp4, mov, mkv and webm files it is determined from
            the packets and verified when frames are decoded; otherwise it is the number of decoded
            frames.
        fps: Average frames per second; None for arrays and images.
        times_seconds: (num_frames,) float64, presentation times relative to the first frame; None
            if unknown.
        height: Frame height in pixels, after rotation.
        width: Frame width in pixels, after rotation.

    Raises:
        VideoDecodeError: The source cannot be read, is truncated, or has frames smaller than 2x2
            or larger than 100 million pixels. Damaged frames are rejected when requested, as far
            as the codec detects the damage.
    """

    num_frames: int
    fps: float | None
    times_seconds: NDArray[np.float64] | None
    height: int
    width: int

    def __init__(self, source: VideoSource, *, allow_truncated: bool = False) -> None:
        self._name = source_name(source)
        self._frames: FrameSource | None = None
        if self._name == "":
            raise decode_error("", "its path is an empty string; give the path of a video")
        self._delete: Callable[[], object] = _nothing
        segment = source if isinstance(source, VideoSegment) else None
        if segment is not None:
            source = segment.path
        is_file = hasattr(source, "read") and not isinstance(source, IsolatedVideo)
        if isinstance(source, bytes | bytearray | memoryview) or is_file:
            source = copy_to_file(source)  # type: ignore[arg-type]
            self._delete = weakref.finalize(self, source.unlink, missing_ok=True)
        try:
            frames = _open(source, self._name, allow_truncated)
        except BaseException:
            self._delete()
            raise
        self._opened: FrameSource | None = frames  # closed with this reader
        try:
            self._frames = frames if segment is None else SegmentFrames(frames, segment)
        except BaseException:
            self.close()
            raise
        self._copy_metadata(self._frames)

    def _copy_metadata(self, frames: FrameSource) -> None:
        self.num_frames = frames.num_frames
        self.fps = frames.fps
        self.times_seconds = frames.times_seconds
        self.height, self.width = frames.height, frames.width

    def frames_at(
        self,
        indices: Sequence[int] | NDArray[np.integer],
        transform: Callable[[Pixels], Pixels] | None = None,
    ) -> Pixels:
        """Returns the frames at the given indices.

        Args:
            indices: T integers in [0, num_frames), in any order; each distinct frame is decoded
                once.
            transform: Applied to each distinct frame, (H, W, 3) uint8, as soon as it is decoded. It
                returns (H', W', 3) uint8, the same size for all frames. If it makes them smaller,
                the frames never take memory at full size together.

        Returns:
            (T, H, W, 3) uint8 RGB, in the order of the indices; (T, H', W', 3) with `transform`.

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
        out: Pixels | None = None
        try:
            with translate_errors(self._name, "decoding"):
                for position, pixels in self._frames.read(positions):
                    if transform is not None:
                        is_gray = pixels.shape[2] == 1
                        pixels = transform(np.repeat(pixels, 3, axis=2) if is_gray else pixels)
                    if out is None:
                        out = np.empty((len(checked), *pixels.shape[:2], 3), np.uint8)
                    out[rows[position]] = pixels
        finally:
            self._copy_metadata(self._frames)  # decoding may have revealed fewer frames
        assert out is not None  # there is at least one index, and errors are raised
        return out

    def iter_frames(
        self, indices: Sequence[int] | NDArray[np.integer]
    ) -> Iterator[tuple[int, Pixels]]:
        """Yields frames one at a time, each decoded once, in memory independent of their number.

        Args:
            indices: Strictly increasing integers in [0, num_frames).

        Yields:
            (index, (H, W, 3) uint8 RGB pixels) in order. In the rare case that decoding has to
            start over, it goes back to the first index: discard what came before.

        Raises:
            ConfigError: An index is out of range, or the indices do not increase.
            VideoDecodeError: A requested frame is damaged.
        """
        if self._frames is None:
            raise decode_error(self._name, "the reader is closed")
        checked = _checked_indices(indices, self.num_frames)
        if (np.diff(checked) <= 0).any():
            raise ConfigError("Frame indices must strictly increase; use frames_at for others.")
        try:
            with translate_errors(self._name, "decoding"):
                for position, pixels in self._frames.read(checked):
                    yield position, np.broadcast_to(pixels, (*pixels.shape[:2], 3))
        finally:
            if self._frames is not None:
                self._copy_metadata(self._frames)

    def segment(self, start: float, end: float) -> VideoReader:
        """Returns a reader of a part of this video, without opening the file again.

        Args:
            start: Seconds from the first frame, 0 or more.
            end: Seconds, after `start`.

        Returns:
            The reader; usable until this one is closed.

        Raises:
            VideoDecodeError: The times are not in order or outside of the video, or its frames have
                no times.
        """
        if self._frames is None:
            raise decode_error(self._name, "the reader is closed")
        segment = VideoSegment(self._name, start, end)
        part = copy.copy(self)
        part._name, part._opened, part._delete = str(segment), None, _nothing
        part._frames = SegmentFrames(self._frames, segment)
        part._copy_metadata(part._frames)
        return part

    def close(self) -> None:
        """Closes the file and frees its frames. Can be called repeatedly."""
        self._frames = None
        if self._opened is not None:
            self._opened.close()
            self._opened = None
            self._delete()

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


def _nothing() -> None:
    pass


def _open(source: VideoSource, name: str, allow_truncated: bool) -> FrameSource:
    if isinstance(source, IsolatedVideo):
        return source
    array = as_array(source)
    if array is not None:
        return _ArrayFrames(array, name)
    num_frames = None
    if isinstance(source, FrameFolder):
        num_frames, source = source.num_frames, source.path
    if not isinstance(source, str | Path):
        raise VideoDecodeError(
            "A video must be a path, a uint8 array or tensor (T, H, W, 3), a list of frames, bytes "
            f"or a binary file object, not {type(source).__name__}."
        )
    path = os.fspath(source)
    folder = is_folder(path, name)
    with translate_errors(name, "opening"):
        if folder:
            return ImageFolder.from_folder(path, name, num_frames)
        image = _open_image(path, name)
        return image or VideoFile(path, name, allow_truncated=allow_truncated)


def _open_image(path: str, name: str) -> FrameSource | None:
    """Opens an image file; None for other files and animated png. Raises VideoDecodeError."""
    if Path(path).suffix.lower() not in IMAGE_SUFFIXES:
        return None
    with Path(path).open("rb") as file:
        head = file.read(4096)
    if head[:4] in TIFF_HEADS:
        return TiffPages(path, name)
    if not is_animated(head):
        return ImageFolder([Path(path)], [name])
    if head[:4] == b"RIFF":
        raise decode_error(name, "animated webp is not supported; convert it to gif or mp4")
    return None


class _ArrayFrames:
    """An array as a video; grayscale is broadcast to three channels."""

    fps = None
    times_seconds = None

    def __init__(self, array: NDArray[np.uint8], name: str) -> None:
        is_color = array.ndim == 4 and array.shape[3] == 3
        if array.dtype != np.uint8 or not (is_color or array.ndim == 3):
            raise decode_error(
                name,
                f"its type is {array.dtype}, but must be uint8, with values from 0 to 255"
                if array.dtype != np.uint8
                else f"its shape is {array.shape} and its type {array.dtype}, but must be "
                f"(T, H, W, 3) or (T, H, W) and uint8{layout_hint(array.shape)}",
            )
        if array.ndim == 3 and array.shape[2] in (3, 4):
            raise decode_error(
                name,
                "it looks like a single color image; pass array[None] for a video of one frame",
            )
        if len(array) == 0:
            raise decode_error(name, "it contains no frames")
        self._array = array
        self.num_frames, self.height, self.width = array.shape[:3]
        require_size(name, self.width, self.height)

    def close(self) -> None:
        """Does nothing."""

    def read(self, positions: Ints) -> Iterator[tuple[int, Pixels]]:
        """Yields the frames at `positions`, each as (position, pixels)."""
        for position in positions.tolist():
            frame = self._array[position]
            yield position, frame if frame.ndim == 3 else frame[:, :, None]


def _checked_indices(indices: Sequence[int] | NDArray[np.integer], num_frames: int) -> Ints:
    """Converts indices to int64 (T,). Raises ConfigError if one is invalid."""
    allowed = f"integers from 0 to {num_frames - 1}"
    try:
        array = np.asarray(indices)
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigError(f"Frame indices must be a list of {allowed}.") from error
    if array.ndim != 1 or len(array) == 0:
        raise ConfigError(
            f"Frame indices have shape {array.shape}, but must be a non-empty list of {allowed}."
        )
    is_integer = np.issubdtype(array.dtype, np.integer)
    invalid = array if not is_integer else array[(array < 0) | (array >= num_frames)]
    if len(invalid):
        raise ConfigError(f"Frame index {invalid[0]} is out of range; allowed are {allowed}.")
    return array.astype(np.int64)
