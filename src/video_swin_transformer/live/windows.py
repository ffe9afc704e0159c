"""`LiveWindows`: frames as they arrive -> windows of the model, every so many seconds."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass

import numpy as np

from ..preprocess import Frames
from .capture import LiveFrame


@dataclass(frozen=True, eq=False)
class LiveWindow:
    """A window of frames.

    Attributes:
        time_seconds: Its middle.
        captured_at: When its last frame was decoded, by `time.time()`.
        frames: (T, H, W, 3) uint8 RGB.
    """

    time_seconds: float
    captured_at: float
    frames: Frames


class LiveWindows:
    """Collects frames and makes windows.

    A window has frames at times that are `step_seconds` apart, each the last one shown then.

    Args:
        num_frames: Frames per window.
        step_seconds: Time between them.
        hop_seconds: Time between the starts of windows.

    Attributes:
        num_skipped: Windows that were left out because newer ones were due, too.
    """

    def __init__(self, num_frames: int, step_seconds: float, hop_seconds: float) -> None:
        self.num_skipped = 0
        self._offsets = np.arange(num_frames) * step_seconds
        self._span = num_frames * step_seconds
        self._hop = hop_seconds
        self._frames: deque[LiveFrame] = deque()
        self._next_start: float | None = None

    def add(self, frame: LiveFrame) -> None:
        """Adds a frame; frames that no window needs any more are forgotten."""
        self._frames.append(frame)
        if self._next_start is None:
            self._next_start = frame.time_seconds

    def due(self, *, newest_only: bool) -> LiveWindow | None:
        """Returns a window that is complete; None if there is none.

        Args:
            newest_only: Leave out all that are complete but the newest one.
        """
        if self._next_start is None or not self._frames:
            return None
        last = self._frames[-1].time_seconds
        num_due = int((last - (self._next_start + self._offsets[-1])) / self._hop + 1e-9) + 1
        if last < self._next_start + self._offsets[-1] - 1e-9 or num_due < 1:
            return None
        if newest_only:
            self._next_start += (num_due - 1) * self._hop
            self.num_skipped += num_due - 1
        start = self._next_start
        self._next_start += self._hop
        times = [frame.time_seconds for frame in self._frames]
        picked = [max(0, bisect_left(times, t + 1e-6) - 1) for t in start + self._offsets]
        window = [self._frames[index] for index in picked]
        while len(self._frames) > 1 and self._frames[1].time_seconds <= self._next_start:
            self._frames.popleft()
        return LiveWindow(
            start + self._span / 2,
            self._frames[-1].captured_at if newest_only else window[-1].captured_at,
            np.stack([frame.pixels for frame in window]),
        )
