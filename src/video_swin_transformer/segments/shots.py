"""`label_shots`: the cuts of a video by PySceneDetect, and one answer for each shot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from ..config import require
from ..data import Segment, VideoSegments
from ..errors import ConfigError, MissingExtraError
from ..features import extract_features
from ..predictor import Predictor, Source
from ..preprocess import Frames
from ..receipt import Receipt
from ..sampling import at_fps
from ..video import VideoReader
from ..video.inputs import source_name
from ..video.segment import frame_edges
from .timeline import score_timeline

Floats: TypeAlias = npt.NDArray[np.float32]

_SIDE = 240  # short side of the frames in which cuts are sought, in pixels
_MIN_SHOT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Shot:
    """A part of a video without a cut.

    Attributes:
        start_frame: First frame.
        end_frame: One past the last frame.
        start_seconds: When the first frame is shown.
        end_seconds: When the frame after the last one is shown.
    """

    start_frame: int
    end_frame: int
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, eq=False)
class LabeledShots:
    """The shots of one video, each with one answer.

    Attributes:
        source: The video.
        model: Name of the model.
        labels: Class names.
        shots: The shots, in order; they cover the video.
        scores: (S, K) float32, the scores of each shot.
        num_frames: Frames of the video.
        fps: Average frames per second.
        width: Width of the video in pixels.
        height: Height of the video in pixels.
        receipt: Where the scores came from; see `Predictor.with_receipts`.
    """

    source: str
    model: str
    labels: tuple[str, ...]
    shots: tuple[Shot, ...]
    scores: Floats
    num_frames: int
    fps: float | None
    width: int
    height: int
    receipt: Receipt | None = None

    def top(self, shot: int) -> tuple[str, float]:
        """Returns the label with the highest score of a shot, and the score.

        Args:
            shot: Number of the shot.
        """
        best = int(self.scores[shot].argmax())
        return self.labels[best], float(self.scores[shot, best])

    def as_annotation(self) -> VideoSegments:
        """Returns one segment per shot."""
        segments = [
            Segment(self.top(number)[0], shot.start_seconds, shot.end_seconds, self.top(number)[1])
            for number, shot in enumerate(self.shots)
        ]
        return VideoSegments(self.source, tuple(segments), self.shots[-1].end_seconds, self.fps)

    def summary(self) -> str:
        """The shots, one per line."""
        lines = []
        for number, shot in enumerate(self.shots):
            label, score = self.top(number)
            times = f"{shot.start_seconds:9.2f} - {shot.end_seconds:9.2f} s"
            lines.append(f"{times}  {score:6.1%}  {label}")
        return "\n".join([self.source, *lines])

    def __repr__(self) -> str:
        return f"LabeledShots({self.source!r}, {len(self.shots)} shots)"


def find_shots(
    source: Source,
    *,
    min_shot_seconds: float = _MIN_SHOT_SECONDS,
    allow_truncated: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Shot, ...]:
    """Finds the shots of a video with the adaptive detector of PySceneDetect.

    Frames and times are those of `VideoReader`, at variable rates, too.

    Args:
        source: A video file.
        min_shot_seconds: Shorter shots are not separated.
        allow_truncated: Read videos whose end is missing as far as they go.
        progress: Called with the number of frames that were read and of all frames.

    Returns:
        The shots, which cover the video.

    Raises:
        MissingExtraError: PySceneDetect is not installed.
        VideoDecodeError: The video cannot be read.
        ConfigError: The video has no times.
    """
    require(min_shot_seconds >= 0, "min_shot_seconds", min_shot_seconds, "0 or more")
    detectors, common = _scenedetect()
    with VideoReader(source, allow_truncated=allow_truncated) as video:
        times = video.times_seconds
        if times is None:
            raise ConfigError(
                f"{source_name(source)} has frames without times; give a video file for shots."
            )
        edges = frame_edges(times, video.fps)
        rate = Fraction(video.fps or 25).limit_denominator(1001)

        def at(frame: int) -> Any:
            # In microseconds, so that the detector counts true time at variable rates.
            microseconds = common.Timecode(round(edges[frame] * 1e6), Fraction(1, 1_000_000))
            return common.FrameTimecode(microseconds, fps=rate)

        for frame, pixels in video.iter_frames(range(len(times))):
            if frame == 0:  # also where decoding has to start over
                detector = detectors.AdaptiveDetector(min_scene_len=float(min_shot_seconds))
                cuts: list[float] = []
            cuts += [cut.seconds for cut in detector.process_frame(at(frame), _small_bgr(pixels))]
            progress(frame + 1, len(times))
        cuts += [cut.seconds for cut in detector.post_process(at(len(times) - 1))]
    # Half a microsecond is the rounding above.
    firsts = sorted({0, *np.searchsorted(edges[:-1], np.array(cuts) - 1e-6).tolist()})
    ends = [*firsts[1:], len(times)]
    return tuple(
        Shot(first, end, float(edges[first]), float(edges[end]))
        for first, end in zip(firsts, ends, strict=True)
        if first < end
    )


def label_shots(
    predictor: Predictor,
    source: Source,
    *,
    min_shot_seconds: float = _MIN_SHOT_SECONDS,
    windows_per_shot: int = 3,
    num_crops: int | Literal["full"] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LabeledShots:
    """Gives one answer for each shot of a video: the mean scores of windows spread over it.

    Args:
        predictor: The model, with a classifier.
        source: A video file.
        min_shot_seconds: Shorter shots are not separated.
        windows_per_shot: Windows per shot; shots that are not longer than a window get one.
        num_crops: 1, 3, 5 or 10 square crops, or "full" for the whole frame; None for the model's.
        progress: Called with the number of frames in which cuts were sought, and of all frames.

    Returns:
        The shots and their scores.

    Raises:
        MissingExtraError: PySceneDetect is not installed.
        VideoDecodeError: The video cannot be read.
        ConfigError: The model has no classifier, or the video no times.
    """
    require(windows_per_shot >= 1, "windows_per_shot", windows_per_shot, "1 or more")
    shots = find_shots(
        source,
        min_shot_seconds=min_shot_seconds,
        allow_truncated=predictor.allow_truncated,
        progress=progress,
    )
    with VideoReader(source, allow_truncated=predictor.allow_truncated) as video:
        num_frames, fps, height, width = video.num_frames, video.fps, video.height, video.width
        assert video.times_seconds is not None  # find_shots needs them
        edges = frame_edges(video.times_seconds, fps)
    sampling = at_fps(predictor.bundle.sampling, fps)
    span = sampling.num_frames * sampling.stride
    windows = [_windows(shot, span, windows_per_shot) for shot in shots]
    table = extract_features(
        predictor,
        source,
        segments=[
            (float(edges[start]), float(edges[end])) for found in windows for start, end in found
        ],
        num_crops=num_crops,
        pooling="logits",
        average_crops=False,
    )
    timeline = score_timeline(table, predictor.bundle)
    ends = np.cumsum([len(found) for found in windows])[:-1]
    scores = [part.mean(axis=0) for part in np.split(timeline.scores, ends)]
    return LabeledShots(
        source_name(source),
        predictor.name,
        timeline.labels,
        shots,
        np.stack(scores),
        num_frames,
        fps,
        width,
        height,
        table.receipt,
    )


def _windows(shot: Shot, span: int, count: int) -> list[tuple[int, int]]:
    """Frames of windows spread over a shot; only one if it is not longer than a window.

    A window that is longer than its part of the video would loop, which is another movement.
    """
    length = shot.end_frame - shot.start_frame
    if length <= span:
        return [(shot.start_frame, shot.end_frame)]
    last = shot.end_frame - span
    starts = (np.arange(count) + 0.5) / count * (last - shot.start_frame) + shot.start_frame
    return [(start, start + span) for start in starts.round().astype(int).tolist()]


def _small_bgr(frame: Frames) -> Frames:
    scale = _SIDE / min(frame.shape[:2])
    if scale < 1:
        frame = np.asarray(
            cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
        )
    return np.ascontiguousarray(frame[..., ::-1])


def require_scenedetect() -> None:
    """Raises MissingExtraError if PySceneDetect is not installed."""
    _scenedetect()


def _scenedetect() -> tuple[Any, Any]:
    try:
        from scenedetect import common, detectors
    except ImportError as error:
        raise MissingExtraError("scenedetect", "shots", "Finding shots") from error
    return detectors, common
