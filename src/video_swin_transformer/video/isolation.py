"""Reads videos that may be hostile: in a process with limits of time and memory.

A decoder may crash, hang or fill the memory on a damaged or malicious file. Here that ends a
process that is replaced, and the caller gets an error.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ..errors import VideoDecodeError, VideoLimitError, VideoSwinError
from .arrays import Ints, Pixels
from .images import IMAGE_SUFFIXES
from .metadata import read_stated_size
from .segment import Seconds

_START_SECONDS = 120.0  # enough for a cold disk and a busy machine


@dataclass(frozen=True)
class DecodeLimits:
    """What a video may cost; None is no limit.

    Attributes:
        max_seconds: Length of the video.
        max_frames: Number of its frames.
        max_pixels: Pixels of a frame.
        timeout_seconds: Time from opening the video to the last frame that is read.
    """

    max_seconds: float | None = None
    max_frames: int | None = None
    max_pixels: int | None = None
    timeout_seconds: float = 60.0


@dataclass(frozen=True)
class _Open:
    path: str
    limits: DecodeLimits


@dataclass(frozen=True)
class _Read:
    positions: Ints


@dataclass(frozen=True)
class _Opened:
    num_frames: int
    fps: float | None
    times_seconds: Seconds | None
    height: int
    width: int


@dataclass(frozen=True)
class _Frame:
    """Announces the bytes of a frame."""

    position: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Done:
    """All frames were sent; decoding may have revealed that there are fewer."""

    num_frames: int
    times_seconds: Seconds | None


@dataclass(frozen=True)
class _Failed:
    message: str
    is_limit: bool


class DecoderProcess:
    """A process that reads one video after the other. A context manager that ends the process.

    It is started when the first video is opened, and again after a video has ended it. One thread
    uses it at a time.

    Args:
        memory_bytes: Memory that a video may take in the process, beyond what the process needs
            itself; None for no limit. Enforced on Linux and macOS.
    """

    def __init__(self, memory_bytes: int | None = None) -> None:
        self._memory_bytes = memory_bytes
        self._process: Any = None
        self._pipe: Connection | None = None
        self._video: IsolatedVideo | None = None  # the one that the process has open

    def open(self, path: str | Path, limits: DecodeLimits | None = None) -> IsolatedVideo:
        """Opens a video; pass the result to `VideoReader`, or to a `Predictor`.

        Args:
            path: The video file.
            limits: What the video may cost.

        Raises:
            VideoLimitError: The video exceeds a limit.
            VideoDecodeError: The video cannot be read, or ended the process.
        """
        limits = limits or DecodeLimits()
        if self._process is None or not self._process.is_alive():
            self._start()
        self._video = None
        self._video = IsolatedVideo(self, str(path), limits)
        return self._video

    def close(self) -> None:
        """Ends the process. The next video starts another one."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = self._video = None

    def require_open(self, video: IsolatedVideo) -> None:
        """Raises VideoDecodeError if the process has ended or opened another video.

        Args:
            video: The video to read.
        """
        if self._video is not video:
            raise VideoDecodeError(
                f"Cannot read {video.path!r}: its process has ended or opened another video; open "
                "it again."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def send(self, message: object) -> None:
        """Sends a request to the process; if that has died, `receive` says so."""
        assert self._pipe is not None
        with contextlib.suppress(OSError):
            self._pipe.send(message)

    def receive(self, name: str, deadline: float, timeout_seconds: float) -> Any:
        """Returns the next message, without the bytes of a frame.

        Args:
            name: The video, for messages.
            deadline: When to give up, by `time.monotonic()`.
            timeout_seconds: The limit that it comes from, for messages.

        Raises:
            VideoLimitError: The deadline has passed; the process was killed.
            VideoDecodeError: The process died, or the video cannot be read.
        """
        message = self._next(name, deadline, timeout_seconds, is_bytes=False)
        if isinstance(message, _Failed):
            raise (VideoLimitError if message.is_limit else VideoDecodeError)(message.message)
        return message

    def receive_bytes(self, name: str, deadline: float, timeout_seconds: float) -> bytes:
        """Returns the bytes of an announced frame; see `receive`."""
        return bytes(self._next(name, deadline, timeout_seconds, is_bytes=True))

    def _next(self, name: str, deadline: float, timeout_seconds: float, *, is_bytes: bool) -> Any:
        assert self._pipe is not None
        try:
            if not self._pipe.poll(max(0.0, deadline - time.monotonic())):
                self.close()
                raise VideoLimitError(
                    f"Cannot read {name!r}: decoding took longer than {timeout_seconds:g} seconds, "
                    "the most allowed; give a shorter or smaller video."
                )
            return self._pipe.recv_bytes() if is_bytes else self._pipe.recv()
        except (EOFError, OSError) as error:
            self.close()
            raise VideoDecodeError(
                f"Cannot read {name!r}: it ended the process of the decoder, by a crash or for "
                "lack of memory; convert it with another program."
            ) from error

    def _start(self) -> None:
        self.close()
        context = multiprocessing.get_context("spawn")
        self._pipe, child = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(child, self._memory_bytes), daemon=True
        )
        self._process.start()
        child.close()
        self.receive("", time.monotonic() + _START_SECONDS, _START_SECONDS)


class IsolatedVideo:
    """A video in another process: the source of a `VideoReader`.

    Args:
        process: Where it is read.
        path: The video file.
        limits: What it may cost.

    Attributes:
        path: The video file.
        num_frames: Number of frames.
        fps: Average frames per second; None if unknown.
        times_seconds: (num_frames,) float64, presentation times relative to the first frame.
        height: Frame height in pixels.
        width: Frame width in pixels.
        num_read: Number of frames that were read so far, for a display of progress.
    """

    def __init__(self, process: DecoderProcess, path: str, limits: DecodeLimits) -> None:
        self.path = path
        self.num_read = 0
        self._process, self._limits = process, limits
        self._deadline = time.monotonic() + limits.timeout_seconds
        process.send(_Open(path, limits))
        opened = self._receive()
        self.num_frames, self.fps = opened.num_frames, opened.fps
        self.times_seconds = opened.times_seconds
        self.height, self.width = opened.height, opened.width

    def read(self, positions: Ints) -> Iterator[tuple[int, Pixels]]:
        """Yields the frames at positions, each as (position, pixels).

        A caller that does not take all of them ends the process.

        Args:
            positions: Strictly increasing indices of frames.

        Raises:
            VideoLimitError: It takes longer or needs more memory than allowed.
            VideoDecodeError: A frame is damaged, or the process has ended.
        """
        self._process.require_open(self)
        self._process.send(_Read(positions))
        is_finished = False
        try:
            while not isinstance(message := self._receive(), _Done):
                data = self._process.receive_bytes(
                    self.path, self._deadline, self._limits.timeout_seconds
                )
                self.num_read += 1
                yield message.position, np.frombuffer(data, np.uint8).reshape(message.shape)
            self.num_frames, self.times_seconds = message.num_frames, message.times_seconds
            is_finished = True
        except VideoSwinError:
            is_finished = True  # the process waits for the next request, or has ended
            raise
        finally:
            if not is_finished:
                self._process.close()  # frames that nobody wants are on their way

    def close(self) -> None:
        """Does nothing; the process closes the file when it opens another one."""

    def __str__(self) -> str:
        return self.path

    def _receive(self) -> Any:
        return self._process.receive(self.path, self._deadline, self._limits.timeout_seconds)


# --- in the process -------------------------------------------------------------------------------


def _serve(pipe: Connection, memory_bytes: int | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles it
    import av  # noqa: F401 (loaded before the memory is limited, as OpenCV is below)
    import cv2  # noqa: F401

    from .reader import VideoReader

    if memory_bytes is not None and os.name == "posix":
        _limit_memory(memory_bytes)
    pipe.send(None)
    reader: VideoReader | None = None
    while True:
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            return  # the parent process has ended
        try:
            if isinstance(message, _Open):
                if reader is not None:
                    reader.close()
                reader = _opened(message)
                pipe.send(
                    _Opened(
                        reader.num_frames,
                        reader.fps,
                        reader.times_seconds,
                        reader.height,
                        reader.width,
                    )
                )
            elif reader is not None:
                for position, pixels in reader.iter_frames(message.positions):
                    pipe.send(_Frame(position, pixels.shape))
                    pipe.send_bytes(pixels.tobytes())
                pipe.send(_Done(reader.num_frames, reader.times_seconds))
        except VideoSwinError as error:
            pipe.send(_Failed(str(error), isinstance(error, VideoLimitError)))
        except MemoryError:
            name = message.path if isinstance(message, _Open) else "the video"
            text = f"Cannot read {name!r}: it takes more memory than allowed; give a smaller video."
            pipe.send(_Failed(text, is_limit=True))


def _opened(request: _Open) -> Any:
    """Opens a video whose container, and then whose frames, are within the limits."""
    from .reader import VideoReader

    limits = request.limits
    if Path(request.path).suffix.lower() not in IMAGE_SUFFIXES:
        stated = read_stated_size(request.path)
        _require_within(request.path, limits, stated.pixels, stated.seconds, stated.num_frames)
    reader = VideoReader(request.path)
    times = reader.times_seconds
    seconds = None if times is None else float(times[-1])
    _require_within(request.path, limits, reader.height * reader.width, seconds, reader.num_frames)
    return reader


def _require_within(
    path: str,
    limits: DecodeLimits,
    pixels: int | None,
    seconds: float | None,
    num_frames: int | None,
) -> None:
    for found, allowed, unit in (
        (pixels, limits.max_pixels, "pixels per frame"),
        (seconds, limits.max_seconds, "seconds"),
        (num_frames, limits.max_frames, "frames"),
    ):
        if found is not None and allowed is not None and found > allowed:
            raise VideoLimitError(
                f"Cannot read {path!r}: it has {found:g} {unit}, but at most {allowed:g} are "
                "allowed; give a shorter or smaller video."
            )


def _limit_memory(num_bytes: int) -> None:
    import resource

    used = 0
    with contextlib.suppress(OSError, ValueError):  # Linux
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = used + num_bytes
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
