"""Decodes and resizes the frames of videos in a thread, ahead of the network.

Each frame is decoded and resized once, however many windows use it. At most `MAX_WAITING_FRAMES`
resized frames wait, so memory does not depend on the length of the videos, and the next video is
decoded while the network finishes the current one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..config import Preprocessing
from ..errors import VideoDecodeError, VideoSwinError
from ..predictor import Source
from ..preprocess import Frames, resize_frames
from ..video import VideoReader
from ..video.inputs import source_name
from .table import Ints

MAX_WAITING_FRAMES = 64
_SECONDS_BETWEEN_CHECKS = 0.2

P = TypeVar("P")


@dataclass(frozen=True)
class VideoStarts(Generic[P]):
    """A video has been opened; its frames follow.

    Attributes:
        source: The video.
        plan: What `plan` returned for it.
    """

    source: Source
    plan: P


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One frame: its index and its resized pixels, (1, H, W, 3) uint8 RGB."""

    index: int
    pixels: Frames


@dataclass(frozen=True)
class VideoEnds:
    """All frames of a video have come, or with `error` none will come any more."""

    source: Source
    error: VideoSwinError | None = None


Event = VideoStarts[P] | VideoFrame | VideoEnds


def decode_videos(
    sources: Iterable[Source],
    plan: Callable[[Source, VideoReader], tuple[P, Ints]],
    preprocessing: Preprocessing,
    *,
    allow_truncated: bool = False,
) -> Iterator[Event[P]]:
    """Decodes videos one after the other in a thread.

    Args:
        sources: The videos.
        plan: Called with each opened video; returns what is passed on with `VideoStarts` and the
            frames to decode, increasing.
        preprocessing: Sizes to resize to.
        allow_truncated: See `VideoReader`.

    Yields:
        For each video `VideoStarts`, its frames and `VideoEnds`. Frames that begin again with an
        earlier index replace those before them.
    """
    waiting: queue.Queue[Event[P] | BaseException | None] = queue.Queue(MAX_WAITING_FRAMES)
    stopped = threading.Event()

    def put(item: Event[P] | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=_SECONDS_BETWEEN_CHECKS)
                return
            except queue.Full:
                continue

    def decode() -> None:
        try:
            for source in sources:
                _decode_one(source, plan, preprocessing, allow_truncated, put, stopped)
            put(None)
        except BaseException as error:  # raised again where it can be seen
            put(error)

    thread = threading.Thread(target=decode, name="videoswin-decode", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()


def _decode_one(
    source: Source,
    plan: Callable[[Source, VideoReader], tuple[P, Ints]],
    preprocessing: Preprocessing,
    allow_truncated: bool,
    put: Callable[[Event[P]], None],
    stopped: threading.Event,
) -> None:
    try:
        with VideoReader(source, allow_truncated=allow_truncated) as video:
            planned, indices = plan(source, video)
            put(VideoStarts(source, planned))
            for index, pixels in video.iter_frames(indices):
                resized = resize_frames(
                    pixels[None], preprocessing.short_side, preprocessing.interpolation
                )
                put(VideoFrame(index, resized))
                if stopped.is_set():
                    return
        put(VideoEnds(source))
    except VideoSwinError as error:
        put(VideoEnds(source, error))
    except OSError as error:
        reason = f"{error.filename or source_name(source)}: {error.strerror or error}"
        put(VideoEnds(source, VideoDecodeError(f"The video cannot be read: {reason}.")))
