"""Writes a smaller copy of a video. Runs in worker processes.

The frames, their times and their orientation are those that `VideoReader` returns.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import VideoSwinError
from ..files import open_atomic, os_error_reason, sibling_path
from ..video import VideoReader
from ..video.arrays import Pixels
from ..video.discovery import video_suffixes

OUTPUT_SUFFIX = ".mp4"
MAX_CRF = 51
# Ticks per second: frames at 23.976 to 120 per second and times in milliseconds are exact.
_TICKS_PER_SECOND = 360_000
_TICK = Fraction(1, _TICKS_PER_SECOND)
_KEYFRAME_INTERVAL = 32  # frames; a clip is decoded from the keyframe before it
_PRESET = "veryfast"
_DEFAULT_FPS = 25.0
_MAX_DENOMINATOR = 1001  # of the nominal rate


@dataclass(frozen=True)
class FrameSize:
    """The size of prepared frames; one of both is given.

    Attributes:
        short_side: Pixels of the shorter side.
        height: Pixels of the height.
    """

    short_side: int | None = None
    height: int | None = None

    def of(self, width: int, height: int) -> tuple[int, int]:
        """Returns the (width, height) of resized frames, even numbers; never larger.

        Args:
            width: Width of the source.
            height: Height of the source.
        """
        wanted = self.height or self.short_side
        assert wanted is not None
        side = height if self.height is not None else min(width, height)
        if side <= wanted:
            return width, height
        scale = wanted / side
        return _even(width * scale), _even(height * scale)


@dataclass(frozen=True)
class TranscodeTask:
    """A video to prepare.

    Attributes:
        source: Path of the video.
        target: Path of the copy without its suffix.
        size: Size of the frames.
        crf: Constant rate factor of x264, 0 (lossless) to 51.
    """

    source: str
    target: Path
    size: FrameSize
    crf: int


@dataclass(frozen=True)
class Transcoded:
    """The result of a task.

    Attributes:
        output: The file that was written; None on error.
        is_copy: Whether the frames were small enough, so that the file was copied unchanged.
        error: Why the video cannot be used, without its path.
        output_error: Why the copy cannot be written.
    """

    output: Path | None = None
    is_copy: bool = False
    error: str | None = None
    output_error: str | None = None


def transcode(task: TranscodeTask) -> Transcoded:
    """Decodes every frame of a video and writes a smaller copy; a small video is copied unchanged.

    Args:
        task: The video.

    Returns:
        The file that was written, or why there is none.
    """
    import av

    try:
        if Path(task.source).is_dir():
            return Transcoded(error="it is a folder of images, and only video files are prepared")
        with VideoReader(task.source) as video:
            if video.times_seconds is None:
                return Transcoded(error="its frames have no times, so it is not a video")
            width, height = task.size.of(video.width, video.height)
            is_copy = (width, height) == (video.width, video.height)
            suffix = OUTPUT_SUFFIX
            if is_copy and Path(task.source).suffix.lower() in video_suffixes():
                suffix = Path(task.source).suffix
            target = sibling_path(task.target, suffix)
            try:
                if is_copy:
                    _decode_all(video)
                    _copy(task.source, target)
                else:
                    _encode(video, target, width, height, task.crf)
            except av.FFmpegError as error:
                return Transcoded(error=f"it cannot be encoded ({error.strerror or error})")
            except OSError as error:
                return Transcoded(output_error=f"{str(target)!r}: {os_error_reason(error)}")
        return Transcoded(target, is_copy)
    except VideoSwinError as error:
        reason = str(error).removeprefix(f"Cannot read {task.source!r}: ").rstrip(".")
        return Transcoded(error=reason)
    except OSError as error:
        return Transcoded(error=os_error_reason(error))
    except MemoryError:
        return Transcoded(error="not enough memory to decode it")


def _even(length: float) -> int:
    return max(2, 2 * round(length / 2))


def _decode_all(video: VideoReader) -> None:
    for _ in video.iter_frames(range(video.num_frames)):
        pass


def _copy(source: str, target: Path) -> None:
    with Path(source).open("rb") as original, open_atomic(target) as file:
        shutil.copyfileobj(original, file)


def _encode(video: VideoReader, target: Path, width: int, height: int, crf: int) -> None:
    assert video.times_seconds is not None
    ticks = np.rint(video.times_seconds * _TICKS_PER_SECOND).astype(np.int64)
    # Times of damaged files may repeat; the encoder requires increasing ones.
    ticks = np.maximum.accumulate(ticks - np.arange(len(ticks))) + np.arange(len(ticks))
    with open_atomic(target) as file:
        encoder = _Encoder(file, width, height, video.fps, crf)
        last = -1
        for index, pixels in video.iter_frames(range(video.num_frames)):
            if index <= last:  # the reader started over
                encoder = _Encoder(file, width, height, video.fps, crf)
            encoder.add(pixels, int(ticks[index]))
            last = index
        encoder.finish()


class _Encoder:
    """Writes H.264 into an mp4 file."""

    def __init__(
        self, file: BinaryIO, width: int, height: int, fps: float | None, crf: int
    ) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        file.seek(0)
        file.truncate()
        self._container = av.open(file, "w", format="mp4")
        rate = Fraction(fps or _DEFAULT_FPS).limit_denominator(_MAX_DENOMINATOR)
        options = {"crf": str(crf), "preset": _PRESET}
        self._stream = self._container.add_stream("libx264", rate=rate, options=options)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = _TICK
        self._stream.codec_context.gop_size = _KEYFRAME_INTERVAL
        self._stream.codec_context.thread_count = 1  # there is one process per core
        self._reformatter = VideoReformatter()  # one for all frames: creating it is slow

    def add(self, pixels: Pixels, ticks: int) -> None:
        """Encodes a frame that is shown at a time, later than the frame before."""
        from av import VideoFrame
        from av.video.reformatter import Colorspace, Interpolation

        frame = self._reformatter.reformat(
            VideoFrame.from_numpy_buffer(np.ascontiguousarray(pixels), format="rgb24"),
            width=self._stream.width,
            height=self._stream.height,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU601,  # what readers assume of small frames
            interpolation=Interpolation.BICUBIC,  # as in the scale filter of FFmpeg
        )
        frame.pts, frame.time_base = ticks, _TICK
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Writes the last frames and the index."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
