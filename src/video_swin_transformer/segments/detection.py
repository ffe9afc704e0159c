"""`detect_segments`: a video -> labeled segments, through scores of sliding windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from ..data import Segment, VideoSegments, write_segment_annotations
from ..errors import ConfigError, VideoSwinError
from ..features import FeatureOptions, FeatureTable
from ..features.extraction import FeatureExtractor
from ..files import write_atomic
from ..plotting import Segment as Bar
from ..plotting import figure_png, timeline_chart
from ..predictor import Predictor, Source
from ..receipt import Receipt
from ..video.inputs import source_name
from .decoding import SegmentRules, decode_segments
from .timeline import ScoreTimeline, score_timeline

Progress = Callable[[int, int], None]

_HOPS_PER_WINDOW = 4


@dataclass(frozen=True, eq=False)
class DetectedSegments:
    """The segments of one video.

    Attributes:
        source: The video.
        model: Name of the model.
        segments: The segments in order of time.
        timeline: The scores that they were made of; None if `error` is set.
        fps: Frames per second; None if unknown or variable.
        error: The error, if the video could not be processed.
        receipt: Where the scores came from; see `Predictor.with_receipts`.
    """

    source: str
    model: str
    segments: tuple[Segment, ...]
    timeline: ScoreTimeline | None
    fps: float | None = None
    error: VideoSwinError | None = None
    receipt: Receipt | None = None

    @property
    def duration_seconds(self) -> float | None:
        """Length of the video."""
        return None if self.timeline is None else self.timeline.duration_seconds

    def as_annotation(self) -> VideoSegments:
        """Returns the segments for `write_segment_annotations` and `segment_map`."""
        return VideoSegments(self.source, self.segments, self.duration_seconds, self.fps)

    def save(self, path: str | Path, *, format: str = "activitynet") -> list[Path]:
        """Writes the segments; see `write_segment_annotations`.

        Args:
            path: The file.
            format: "activitynet", "csv", "jsonl", "labelstudio" or "fiftyone".
        """
        return write_segment_annotations([self.as_annotation()], path, format=format)

    def save_picture(self, path: str | Path, *, theme: str = "light") -> Path:
        """Draws the segments over time, one row per label; the opacity is the score.

        Args:
            path: The PNG file.
            theme: "light" or "dark".

        Raises:
            ConfigError: The video could not be processed.
            MissingExtraError: matplotlib is not installed.
            OSError: The file cannot be written.
        """
        if self.timeline is None:
            raise ConfigError(f"{self.source} has no segments to draw: {self.error}")
        bars = [Bar(one.start, one.end, one.label, one.score or 0.0) for one in self.segments]
        title = f"{PurePath(self.source).name} \u2013 {self.model}"
        chart = timeline_chart(bars, self.timeline.duration_seconds, title=title, theme=theme)
        write_atomic(Path(path), figure_png(chart))
        return Path(path)

    def summary(self) -> str:
        """The segments, one per line."""
        if self.error is not None:
            return f"{self.source}\n   error: {self.error}"
        lines = [
            f"{one.start:9.2f} - {one.end:9.2f} s  {one.score or 0:6.1%}  {one.label}"
            for one in self.segments
        ]
        return "\n".join([self.source, *(lines or ["   no segments"])])

    def __repr__(self) -> str:
        return f"DetectedSegments({self.source!r}, {len(self.segments)} segments)"


def detect_segments(
    predictor: Predictor,
    source: Source,
    *,
    rules: SegmentRules | None = None,
    window: int | None = None,
    stride: int | None = None,
    hop_frames: int | None = None,
    hop_seconds: float | None = None,
    fps: float | None = None,
    num_crops: int | Literal["full"] | None = None,
    progress: Progress = lambda done, total: None,
) -> DetectedSegments:
    """Finds the labeled segments of a video: scores of sliding windows, then thresholds.

    Args:
        predictor: The model, with a classifier.
        source: A video file, a folder of frames, or an array (T, H, W, 3) uint8 RGB.
        rules: Thresholds, lengths and merging; None for the defaults.
        window: Frames per window; None for the model's.
        stride: Step between the frames of a window; None for the model's.
        hop_frames: Frames between the starts of windows.
        hop_seconds: Seconds between them. Without both: a quarter of a window.
        fps: Resample to this constant rate first. For arrays and folders of images, which have no
            times, it is the rate of the source.
        num_crops: 1, 3, 5 or 10 square crops, or "full" for the whole frame; None for the model's.
        progress: Called with the number of finished windows and of all windows.

    Returns:
        The segments, and the scores that they were made of.

    Raises:
        VideoDecodeError: The video cannot be read.
        ConfigError: The options contradict each other, the model or the video.
    """
    detector = SegmentDetector(
        predictor,
        rules,
        window=window,
        stride=stride,
        hop_frames=hop_frames,
        hop_seconds=hop_seconds,
        fps=fps,
        num_crops=num_crops,
    )
    (found,) = detector.detect_many([source], progress=progress)
    if found.error is not None:
        raise found.error
    return found


class SegmentDetector:
    """Finds the segments of any number of videos; see `detect_segments`.

    Args:
        predictor: The model, with a classifier.
        rules: Thresholds, lengths and merging; None for the defaults.
        window: Frames per window.
        stride: Step between the frames of a window.
        hop_frames: Frames between the starts of windows.
        hop_seconds: Seconds between them.
        fps: Rate to resample to.
        num_crops: Number of crops.

    Raises:
        ConfigError: The options contradict each other or the model.
    """

    def __init__(
        self,
        predictor: Predictor,
        rules: SegmentRules | None = None,
        *,
        window: int | None = None,
        stride: int | None = None,
        hop_frames: int | None = None,
        hop_seconds: float | None = None,
        fps: float | None = None,
        num_crops: int | Literal["full"] | None = None,
    ) -> None:
        if predictor.bundle.targets:
            raise ConfigError(
                f"The model {predictor.name} predicts numbers, not classes, so it has no segments; "
                "use a model with classes."
            )
        self.rules = rules or SegmentRules()
        self._predictor = predictor
        if hop_frames is None and hop_seconds is None:
            hop_frames, hop_seconds = _default_hop(predictor, window, stride)
        options = FeatureOptions(
            window=window,
            stride=stride,
            hop_frames=hop_frames,
            hop_seconds=hop_seconds,
            fps=fps,
            num_crops=num_crops,
            pooling="logits",
            average_crops=False,
        )
        self._extractor = FeatureExtractor(predictor, options)

    def detect_many(
        self,
        sources: Iterable[Source],
        progress: Progress = lambda done, total: None,
    ) -> Iterator[DetectedSegments]:
        """Finds the segments of videos. Decoding runs ahead of the network, also across videos.

        Args:
            sources: The videos.
            progress: Called with the number of finished windows and of all windows of a video.

        Yields:
            The results in order; with `error` for a video that cannot be processed.
        """
        for extracted in self._extractor.extract_many(sources, progress):
            name = source_name(extracted.source)
            try:
                if extracted.table is None:
                    assert extracted.error is not None
                    raise extracted.error
                yield self._detected(name, extracted.table)
            except VideoSwinError as error:
                yield DetectedSegments(name, self._predictor.name, (), None, error=error)

    def _detected(self, name: str, table: FeatureTable) -> DetectedSegments:
        timeline = score_timeline(table, self._predictor.bundle)
        info = table.videos[0]
        return DetectedSegments(
            source=name,
            model=self._predictor.name,
            segments=decode_segments(timeline, self.rules),
            timeline=timeline,
            fps=None if info.is_variable_rate else info.fps,
            receipt=table.receipt,
        )


def _default_hop(
    predictor: Predictor, window: int | None, stride: int | None
) -> tuple[int | None, float | None]:
    """A quarter of a window, in frames or seconds as the stride is."""
    sampling = predictor.bundle.sampling
    num_frames = window or sampling.num_frames
    if stride is None and sampling.stride_seconds is not None:
        return None, num_frames * sampling.stride_seconds / _HOPS_PER_WINDOW
    return max(1, num_frames * (stride or sampling.stride) // _HOPS_PER_WINDOW), None
