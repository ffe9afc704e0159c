"""Decodes a source in a process that can be killed, since opening and reading may hang for ever.

The process resizes each frame and sends it; a thread receives. While the consumer is busy, frames
wait in a queue of limited length, and the oldest ones are dropped and counted. If nothing comes for
too long, the process is killed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

import numpy as np

from ..errors import VideoSwinError
from ..preprocess import Frames, resize_frames
from ..video import VideoReader
from .sources import LiveSource

_HEARTBEAT_SECONDS = 0.5
_START_SECONDS = 60.0  # of the process itself, which has to import the decoder
_CHUNK_BYTES = 32_768  # that FFmpeg probes at most of a network stream


@dataclass(frozen=True)
class CaptureSettings:
    """What the process needs to know.

    Attributes:
        source: The source.
        short_side: Short side of the resized frames in pixels.
        interpolation: Of the resizing.
        speed: Of files: 1 plays in real time, None as fast as frames are used.
        allow_truncated: Of files: read those whose end is missing.
    """

    source: LiveSource
    short_side: int
    interpolation: str
    speed: float | None
    allow_truncated: bool = False


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """A frame.

    Attributes:
        time_seconds: Time from the first frame of the source.
        captured_at: When it was decoded, by `time.time()`.
        pixels: (H, W, 3) uint8 RGB, resized.
    """

    time_seconds: float
    captured_at: float
    pixels: Frames


@dataclass(frozen=True)
class _Ready:
    """The process has started; opening begins."""


@dataclass(frozen=True)
class _Alive:
    """Nothing to send yet, on purpose."""


@dataclass(frozen=True)
class CaptureEnd:
    """No more frames come.

    Attributes:
        error: Why; "" at the regular end of a source.
    """

    error: str = ""


class Capture:
    """Frames of a source, as they arrive. A context manager; leaving it kills the process.

    Args:
        settings: The source, and how frames are made.
        timeout_seconds: Time without a frame after which the source counts as hanging.
        max_waiting_frames: Length of the queue.

    Attributes:
        num_frames: Frames that arrived.
        num_dropped: Frames that were dropped because the consumer was busy.
    """

    def __init__(
        self, settings: CaptureSettings, timeout_seconds: float, max_waiting_frames: int
    ) -> None:
        self.num_frames = 0
        self.num_dropped = 0
        self._timeout = timeout_seconds
        self._max_waiting = max_waiting_frames
        # Without a pace, files are read as fast as they are used and nothing is dropped.
        self._waits = settings.source.kind == "file" and settings.speed is None
        self._queue: deque[LiveFrame] = deque()
        self._end: CaptureEnd | None = None
        self._changed = threading.Condition()
        self._is_closing = False
        context = multiprocessing.get_context("spawn")
        self._connection, child = context.Pipe(duplex=False)
        self._process = context.Process(target=_capture, args=(child, settings), daemon=True)
        self._process.start()
        child.close()
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def take(self, timeout_seconds: float) -> list[LiveFrame] | CaptureEnd:
        """Returns the frames that wait, or the end after the last one.

        Args:
            timeout_seconds: How long to wait for a frame. After that the list is empty.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._end, timeout_seconds)
            if not self._queue and self._end is not None:
                return self._end
            frames = list(self._queue)
            self._queue.clear()
            self._changed.notify_all()
            return frames

    def close(self) -> None:
        """Kills the process."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._process.kill()
        self._thread.join()
        self._process.join()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _receive(self) -> None:
        end = CaptureEnd("the decoder crashed")
        limit, doing = _START_SECONDS, "starting"
        try:
            while True:
                if not self._connection.poll(limit):
                    self._process.kill()
                    end = CaptureEnd(f"{doing} took longer than {limit:g} seconds")
                    break
                message = self._connection.recv()
                if isinstance(message, _Ready):
                    limit, doing = self._timeout, "opening it"
                elif isinstance(message, LiveFrame):
                    doing = "waiting for the next frame"
                    if not self._put(message):
                        return
                elif isinstance(message, CaptureEnd):
                    end = message
                    break
        except (EOFError, OSError):  # the process died
            pass
        with self._changed:
            self._end = end
            self._changed.notify_all()

    def _put(self, frame: LiveFrame) -> bool:
        """Appends a frame. Returns whether the capture goes on."""
        with self._changed:
            self.num_frames += 1
            if self._waits:
                self._changed.wait_for(
                    lambda: len(self._queue) < self._max_waiting or self._is_closing
                )
            elif len(self._queue) >= self._max_waiting:
                self._queue.popleft()
                self.num_dropped += 1
            self._queue.append(frame)
            self._changed.notify_all()
            return not self._is_closing


# --- in the process -------------------------------------------------------------------------------


def _capture(connection: Connection, settings: CaptureSettings) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    with contextlib.suppress(OSError):  # the parent has gone
        connection.send(_Ready())
        try:
            for frame in _frames_of(settings, connection):
                connection.send(frame)
            end = CaptureEnd()
        except VideoSwinError as error:
            end = CaptureEnd(str(error))
        except MemoryError:
            end = CaptureEnd("there is not enough memory for its frames")
        connection.send(end)


def _frames_of(settings: CaptureSettings, connection: Connection) -> Iterator[LiveFrame]:
    if settings.source.kind == "file":
        frames = _paced(_file_frames(settings), settings.speed, connection)
    elif settings.source.kind == "camera":
        frames = _camera_frames(settings)
    else:
        frames = _network_frames(settings)
    for seconds, pixels in frames:
        resized = resize_frames(pixels[None], settings.short_side, settings.interpolation)[0]
        yield LiveFrame(seconds, time.time(), np.ascontiguousarray(resized))


def _file_frames(settings: CaptureSettings) -> Iterator[tuple[float, Frames]]:
    with VideoReader(settings.source.address, allow_truncated=settings.allow_truncated) as video:
        times = video.times_seconds
        rate = video.fps or 25.0
        sent = -1
        for index, pixels in video.iter_frames(range(video.num_frames)):
            if index > sent:  # decoding may start over
                sent = index
                yield (index / rate if times is None else float(times[index])), pixels


def _paced(
    frames: Iterator[tuple[float, Frames]], speed: float | None, connection: Connection
) -> Iterator[tuple[float, Frames]]:
    """Waits until each frame is due."""
    start: float | None = None
    for seconds, pixels in frames:
        if speed is not None:
            if start is None:
                start = time.monotonic() - seconds / speed
            while (wait := start + seconds / speed - time.monotonic()) > 0:
                time.sleep(min(wait, _HEARTBEAT_SECONDS))
                if wait > _HEARTBEAT_SECONDS:
                    connection.send(_Alive())
        yield seconds, pixels


def _camera_frames(settings: CaptureSettings) -> Iterator[tuple[float, Frames]]:
    """Through OpenCV, which knows the cameras of every system by number."""
    import cv2

    camera = cv2.VideoCapture(int(settings.source.address))
    if not camera.isOpened():
        raise VideoSwinError("there is no such camera, or another program uses it")
    start = time.monotonic()
    while True:
        is_read, image = camera.read()
        if not is_read:
            raise VideoSwinError("the camera stopped")
        yield time.monotonic() - start, np.asarray(image[..., ::-1], np.uint8)


def _network_frames(settings: CaptureSettings) -> Iterator[tuple[float, Frames]]:
    import av

    options = {"probesize": str(_CHUNK_BYTES), "analyzeduration": "1000000"}
    if settings.source.address.lower().startswith("rtsp"):
        options["rtsp_transport"] = "tcp"
    try:
        container: Any = av.open(settings.source.address, options=options)
        if not container.streams.video:
            raise VideoSwinError("it has no video stream")
        first, last = None, 0.0
        for frame in container.decode(video=0):
            seconds = last if frame.time is None else float(frame.time)
            first = seconds if first is None else first
            last = max(last, seconds - first)
            yield last, np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    except (av.error.FFmpegError, ValueError, OSError) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise VideoSwinError(f"it is not a video, or is damaged ({text})") from error
    if first is None:
        raise VideoSwinError("it ended before its first frame")
