"""Mean average precision of segments, as ActivityNet defines it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..config import require
from ..data import Segment, VideoSegments, read_segment_annotations
from ..errors import DataError
from ..file_names import path_to_text

TIOUS = (0.3, 0.4, 0.5, 0.6, 0.7)

Floats64: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SegmentMap:
    """Mean average precision of predicted segments.

    Attributes:
        tious: The temporal intersections over union that count as a match.
        class_ap: For each class of the annotations, the average precision at each tIoU, in [0, 1].
        num_videos: Annotated videos.
        num_segments: Annotated segments.
        num_predictions: Predicted segments of those videos.
        ignored_videos: Videos with predictions but without annotations; they do not count.
    """

    tious: tuple[float, ...]
    class_ap: dict[str, tuple[float, ...]]
    num_videos: int
    num_segments: int
    num_predictions: int
    ignored_videos: tuple[str, ...] = ()

    @property
    def map_at(self) -> dict[float, float]:
        """The mean of the classes at each tIoU."""
        means = np.mean(list(self.class_ap.values()), axis=0)
        return dict(zip(self.tious, means.tolist(), strict=True))

    @property
    def average(self) -> float:
        """The mean over all tIoU: the usual single number."""
        return float(np.mean(list(self.map_at.values())))

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as JSON data."""
        return {
            "average_map": self.average,
            "map": {f"{tiou:g}": value for tiou, value in self.map_at.items()},
            "class_ap": {
                label: dict(zip((f"{t:g}" for t in self.tious), values, strict=True))
                for label, values in self.class_ap.items()
            },
            "num_videos": self.num_videos,
            "num_segments": self.num_segments,
            "num_predictions": self.num_predictions,
            "ignored_videos": [path_to_text(video) for video in self.ignored_videos],
        }

    def __repr__(self) -> str:
        at = ", ".join(f"{tiou:g}: {value:.3f}" for tiou, value in self.map_at.items())
        return f"SegmentMap(average {self.average:.3f}; {at})"


def segment_map(
    annotations: Sequence[VideoSegments],
    predictions: Sequence[VideoSegments],
    *,
    tious: Sequence[float] = TIOUS,
) -> SegmentMap:
    """Computes the mean average precision of segments by ActivityNet's definition.

    Predictions of a class are taken in descending order of score. One is correct if, among the
    segments of its class and video that are not matched yet, there is one with at least the tIoU;
    the one with the highest tIoU is then matched. The average precision is the area under the
    precision-recall curve, with each precision raised to the best one at a higher recall.

    Args:
        annotations: The true segments. Classes and videos that do not occur here do not count.
        predictions: The predicted segments, with scores. Videos are matched by path, by file name
            or by file name without suffix, whichever of these fits first.
        tious: tIoU thresholds, in (0, 1].

    Returns:
        The average precision of each class at each tIoU.

    Raises:
        DataError: There is no true segment, a prediction has no score, or two videos have the same
            name.
    """
    for tiou in tious:
        require(0 < tiou <= 1, "tious", tiou, "in (0, 1]")
    true: dict[str, dict[str, list[Segment]]] = defaultdict(lambda: defaultdict(list))
    names = [video.video for video in annotations]
    for video in annotations:
        for segment in video.segments:
            true[segment.label][video.video].append(segment)
    if not true:
        raise DataError("The annotations have no segments; give a file with at least one.")
    matched, ignored = _match_videos(names, predictions)
    found: dict[str, list[tuple[str, Segment]]] = defaultdict(list)
    num_predictions = 0
    for name, video in matched:
        for segment in video.segments:
            if segment.score is None:
                raise DataError(
                    f"A predicted segment of {video.video!r} ({segment.label}, {segment.start:g} "
                    f"to {segment.end:g} seconds) has no score, by which predictions are ranked."
                )
            found[segment.label].append((name, segment))
            num_predictions += 1
    class_ap = {
        label: _average_precisions(by_video, found[label], tious)
        for label, by_video in sorted(true.items())
    }
    num_segments = sum(len(video.segments) for video in annotations)
    return SegmentMap(
        tuple(tious), class_ap, len(set(names)), num_segments, num_predictions, ignored
    )


def evaluate_segments(
    annotations: str | Path,
    predictions: str | Path,
    *,
    root: str | Path | None = None,
    format: str | None = None,
    split: str | None = None,
    annotation_fps: float | None = None,
    tious: Sequence[float] = TIOUS,
) -> SegmentMap:
    """Compares a file of predicted segments with annotations; see `segment_map`.

    Args:
        annotations: Annotated segments, in a format of `read_segment_annotations`.
        predictions: Predicted segments with scores, such as those of `videoswin segments --out`.
        root: Folder of the videos of the annotations.
        format: Format of the annotations; None detects it.
        split: Split of the annotations to use.
        annotation_fps: Frame rate of a Label Studio project.
        tious: tIoU thresholds.

    Raises:
        DataError: A file cannot be read, or there is nothing to compare.
    """
    true = read_segment_annotations(
        annotations, root=root, format=format, split=split, annotation_fps=annotation_fps
    )
    return segment_map(true, read_segment_annotations(predictions), tious=tious)


def _match_videos(
    names: Sequence[str], predictions: Sequence[VideoSegments]
) -> tuple[list[tuple[str, VideoSegments]], tuple[str, ...]]:
    """Finds the annotated video of each prediction, and the predictions of other videos."""
    keys = (str, lambda name: PurePath(name).name, lambda name: PurePath(name).stem)
    for key in keys:
        by_key: dict[str, str] = {}
        for name in dict.fromkeys(names):
            other = by_key.setdefault(key(name), name)
            if other != name:
                raise DataError(
                    f"The annotated videos {other!r} and {name!r} have the same name, so "
                    "predictions cannot be assigned; use paths that are the same in both files."
                )
        matched = [(by_key[key(v.video)], v) for v in predictions if key(v.video) in by_key]
        ignored = [v.video for v in predictions if key(v.video) not in by_key]
        if matched or not predictions:
            return matched, tuple(ignored)
    raise DataError(
        f"No predicted video is annotated: the first prediction is of {predictions[0].video!r}, "
        f"the first annotation of {names[0]!r}. Give files about the same videos."
    )


def _average_precisions(
    true: dict[str, list[Segment]], found: list[tuple[str, Segment]], tious: Sequence[float]
) -> tuple[float, ...]:
    ranked = sorted(found, key=lambda pair: -(pair[1].score or 0.0))  # stable
    overlaps = [
        np.array([_tiou(segment, one) for one in true.get(video, [])]) for video, segment in ranked
    ]
    num_true = sum(map(len, true.values()))
    values = []
    for tiou in tious:
        is_matched = {video: np.zeros(len(segments), np.bool_) for video, segments in true.items()}
        is_correct = np.zeros(len(ranked))
        for rank, ((video, _), overlap) in enumerate(zip(ranked, overlaps, strict=True)):
            if video not in is_matched:
                continue
            left = np.where(is_matched[video], -1.0, overlap)
            best = int(left.argmax())
            if left[best] >= tiou:
                is_matched[video][best] = True
                is_correct[rank] = 1
        values.append(_interpolated_area(is_correct, num_true))
    return tuple(values)


def _tiou(one: Segment, other: Segment) -> float:
    intersection = max(0.0, min(one.end, other.end) - max(one.start, other.start))
    union = one.end - one.start + other.end - other.start - intersection
    return intersection / union if union > 0 else 0.0


def _interpolated_area(is_correct: Floats64, num_true: int) -> float:
    if not len(is_correct):
        return 0.0
    hits = np.cumsum(is_correct)
    precision = hits / np.arange(1, len(hits) + 1)
    recall = np.concatenate([[0.0], hits / num_true])
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * best))
