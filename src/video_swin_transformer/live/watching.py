"""`watch`: scores and events of a live source."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt

from ..config import require
from ..errors import ConfigError, VideoDecodeError
from ..postprocess import average_views
from ..predictor import Predictor, require_finite_outputs
from ..preprocess import views_from_frames
from ..segments import SegmentRules
from .capture import Capture, CaptureEnd, CaptureSettings
from .events import EventTracker, LiveEvent
from .sources import LiveSource, parse_source
from .webhook import Webhook
from .windows import LiveWindow, LiveWindows

Floats: TypeAlias = npt.NDArray[np.float32]

DEFAULT_FPS = 25.0  # of models whose stride counts frames
_HOPS_PER_WINDOW = 4
_KEPT_LATENCIES = 1000
_WAIT_SECONDS = 0.5
_FIRST_PAUSE_SECONDS = 0.5  # before reconnecting; doubled each time
_MAX_PAUSE_SECONDS = 30.0
_QUEUE_SECONDS = 2.0  # of frames that may wait


@dataclass(frozen=True, eq=False)
class LiveScores:
    """The scores of one window.

    Attributes:
        time_seconds: Middle of the window, from the first frame.
        scores: (K,) float32.
        latency_seconds: From the decoding of its last frame to the scores.
        running: Labels of the events that are running.
    """

    time_seconds: float
    scores: Floats
    latency_seconds: float
    running: tuple[str, ...]


@dataclass
class WatchStatistics:
    """What happened so far.

    Attributes:
        num_frames: Frames that arrived.
        num_dropped_frames: Frames that were dropped because the model was busy.
        num_windows: Windows that were scored.
        num_skipped_windows: Windows that were left out because newer ones were due.
        num_events: Events that ended.
        num_connections: How often the source was opened.
        failures: Why it broke off, each time.
        seconds: Time of the source that was seen.
        num_posted: Events that the webhook accepted.
        num_not_posted: Events that it did not.
        webhook_error: Its last failure.
    """

    num_frames: int = 0
    num_dropped_frames: int = 0
    num_windows: int = 0
    num_skipped_windows: int = 0
    num_events: int = 0
    num_connections: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    num_posted: int = 0
    num_not_posted: int = 0
    webhook_error: str = ""
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT_LATENCIES))

    def latency_seconds(self, quantile: float = 0.5) -> float:
        """Returns a quantile of the latency of the last windows; NaN before the first one."""
        return float(np.quantile(self.latencies, quantile)) if self.latencies else float("nan")


class Watcher:
    """Iterates over the events of a source; see `watch`. Close it, or use it in a `with` block.

    Attributes:
        source: The source.
        labels: Class names.
        statistics: What happened so far.
    """

    def __init__(
        self,
        predictor: Predictor,
        source: LiveSource,
        rules: SegmentRules,
        *,
        hop_seconds: float,
        step_seconds: float,
        speed: float | None,
        timeout_seconds: float,
        reconnect: int,
        max_seconds: float | None,
        webhook: Webhook | None,
        on_scores: Callable[[LiveScores], None] | None,
    ) -> None:
        self.source = source
        bundle = predictor.bundle
        classes = range(bundle.model.num_classes)
        self.labels = bundle.labels or tuple(str(index) for index in classes)
        self.statistics = WatchStatistics()
        self._predictor = predictor
        self._tracker = EventTracker(self.labels, bundle.multi_label, rules)
        self._hop, self._step = hop_seconds, step_seconds
        self._timeout, self._reconnect = timeout_seconds, reconnect
        self._max_seconds = max_seconds
        self._webhook, self._on_scores = webhook, on_scores
        preprocessing = bundle.preprocessing
        self._settings = CaptureSettings(
            source,
            preprocessing.short_side,
            preprocessing.interpolation,
            speed,
            predictor.allow_truncated,
        )
        self._is_paced = source.kind != "file" or speed is not None
        self._capture: Capture | None = None
        self._events: Generator[LiveEvent, None, None] = self._run()

    def __iter__(self) -> Iterator[LiveEvent]:
        return self

    def __next__(self) -> LiveEvent:
        return next(self._events)

    def close(self) -> None:
        """Stops watching."""
        self._events.close()
        if self._capture is not None:
            self._capture.close()
            self._capture = None
        if self._webhook is not None:
            self._webhook.close()
            self._count_posts()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> Generator[LiveEvent, None, None]:
        start, left, pause = time.monotonic(), self._reconnect, _FIRST_PAUSE_SECONDS
        while True:
            offset = 0.0 if not self.statistics.num_connections else time.monotonic() - start
            self.statistics.num_connections += 1
            seen_before = self.statistics.num_windows
            error = yield from self._connection(offset)
            yield from self._posted(self._tracker.finish(self.statistics.seconds))
            if error is None:
                return
            self.statistics.failures.append(error)
            if self.statistics.num_windows > seen_before:  # it worked, so the count starts again
                left, pause = self._reconnect, _FIRST_PAUSE_SECONDS
            if left == 0:
                again = "" if not self._reconnect else f", {self._reconnect} times in a row"
                raise VideoDecodeError(
                    f"Watching {self.source.name!r} ended{again}: {error}. Check the source, or "
                    "let it reconnect with reconnect=N (--reconnect N)."
                )
            left -= 1
            time.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)

    def _connection(self, offset: float) -> Generator[LiveEvent, None, str | None]:
        """Yields the events of one connection. Returns why it broke off; None at the end."""
        windows = LiveWindows(self._predictor.bundle.sampling.num_frames, self._step, self._hop)
        waiting = max(8, round(_QUEUE_SECONDS * DEFAULT_FPS))
        capture = self._capture = Capture(self._settings, self._timeout, waiting)
        frames, dropped = self.statistics.num_frames, self.statistics.num_dropped_frames
        skipped = self.statistics.num_skipped_windows
        try:
            while True:
                arrived = capture.take(_WAIT_SECONDS)
                if isinstance(arrived, CaptureEnd):
                    is_end = not arrived.error and self.source.kind == "file"
                    return None if is_end else arrived.error or "the stream ended"
                for frame in arrived:
                    windows.add(frame)
                    self.statistics.seconds = offset + frame.time_seconds
                    if not self._is_paced:
                        yield from self._score_due(windows, offset)
                yield from self._score_due(windows, offset)
                self.statistics.num_frames = frames + capture.num_frames
                self.statistics.num_dropped_frames = dropped + capture.num_dropped
                self.statistics.num_skipped_windows = skipped + windows.num_skipped
                if self._max_seconds is not None and self.statistics.seconds >= self._max_seconds:
                    return None
        finally:
            capture.close()
            self._capture = None

    def _score_due(self, windows: LiveWindows, offset: float) -> Iterator[LiveEvent]:
        while (window := windows.due(newest_only=self._is_paced)) is not None:
            yield from self._score(window, offset)

    def _score(self, window: LiveWindow, offset: float) -> Iterator[LiveEvent]:
        bundle = self._predictor.bundle
        views = views_from_frames(window.frames[None], bundle.preprocessing)
        outputs = self._predictor.runtime.run(views)
        require_finite_outputs(self._predictor, outputs)
        scores, _ = average_views(outputs.logits, bundle.average_clips, bundle.multi_label)
        seconds = offset + window.time_seconds
        latency = time.time() - window.captured_at
        self.statistics.num_windows += 1
        self.statistics.latencies.append(latency)
        events = self._tracker.add(seconds, scores)
        if self._on_scores is not None:
            running = tuple(self._tracker.running())
            self._on_scores(LiveScores(seconds, scores, latency, running))
        yield from self._posted(events)

    def _posted(self, events: list[LiveEvent]) -> Iterator[LiveEvent]:
        for event in events:
            self.statistics.num_events += event.state == "ended"
            if self._webhook is not None:
                self._webhook.post({"source": self.source.name, **event.to_dict()})
                self._count_posts()
            yield event

    def _count_posts(self) -> None:
        assert self._webhook is not None
        self.statistics.num_posted = self._webhook.num_sent
        self.statistics.num_not_posted = self._webhook.num_failed
        self.statistics.webhook_error = self._webhook.last_error


def watch(
    predictor: Predictor,
    source: str | Path,
    *,
    rules: SegmentRules | None = None,
    hop_seconds: float | None = None,
    speed: float | None = 1.0,
    allow_network: bool = False,
    timeout_seconds: float = 10.0,
    reconnect: int = 0,
    max_seconds: float | None = None,
    webhook: str | None = None,
    on_scores: Callable[[LiveScores], None] | None = None,
) -> Watcher:
    """Watches a live source, and gives the events in it as they start and end.

    Frames are decoded in another process, which is killed if the source hangs. If the model is
    slower than the source, stale frames and windows are dropped and counted.

    Args:
        predictor: The model, with a classifier.
        source: A file that is replayed, "camera:N", or a URL (rtsp, http, rtmp, udp, tcp, srt).
        rules: Thresholds, `min_seconds` and the background; None for the defaults.
        hop_seconds: Seconds between the starts of windows; None for a quarter of a window.
        speed: Of files: 1 replays in real time, 10 ten times as fast; None as fast as possible,
            without dropping anything.
        allow_network: Whether URLs are allowed.
        timeout_seconds: Time without a frame after which the source counts as hanging.
        reconnect: How often in a row to open the source again after it broke off.
        max_seconds: Stop after this time of the source.
        webhook: URL to which each event is posted as JSON. Failures are counted and never block.
        on_scores: Called with the scores of every window.

    Returns:
        An iterator of the events, with `statistics`.

    Raises:
        ConfigError: The source is not allowed or unknown, or an argument is out of range.
        VideoDecodeError: There is no such file; while iterating: the source cannot be read, hangs
            or broke off, and does not reconnect.
    """
    if predictor.bundle.model.num_classes == 0 or predictor.bundle.targets:
        raise ConfigError(
            f"The model {predictor.name} has no classifier, so there is nothing to watch for; load "
            "weights with a classifier."
        )
    sampling = predictor.bundle.sampling
    step = sampling.stride_seconds or sampling.stride / DEFAULT_FPS
    if hop_seconds is None:
        hop_seconds = sampling.num_frames * step / _HOPS_PER_WINDOW
    require(hop_seconds > 0, "hop_seconds", hop_seconds, "above 0")
    require(speed is None or speed > 0, "speed", speed, "above 0, or None")
    require(timeout_seconds > 0, "timeout_seconds", timeout_seconds, "above 0")
    require(reconnect >= 0, "reconnect", reconnect, "0 or more")
    require(max_seconds is None or max_seconds > 0, "max_seconds", max_seconds, "above 0")
    parsed = parse_source(source, allow_network=allow_network)
    return Watcher(
        predictor,
        parsed,
        rules or SegmentRules(),
        hop_seconds=hop_seconds,
        step_seconds=step,
        speed=speed,
        timeout_seconds=timeout_seconds,
        reconnect=reconnect,
        max_seconds=max_seconds,
        webhook=None if webhook is None else Webhook(webhook),
        on_scores=on_scores,
    )
