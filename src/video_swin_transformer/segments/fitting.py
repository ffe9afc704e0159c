"""`fit_thresholds`: the thresholds of each class from annotated videos."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Segment, VideoSegments
from ..errors import ConfigError, DataError, UnknownNameError
from ..evaluation import TIOUS, SegmentMap, segment_map
from ..files import read_text_file, write_atomic
from ..strict_json import parse_json
from .decoding import SegmentRules, Thresholds, decode_segments
from .timeline import ScoreTimeline

_FORMAT = "video-swin-transformer thresholds"
_HIGHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_LOW_SHARES = (0.3, 0.5, 0.7, 0.9)  # of the high threshold
_ROUNDS = 2  # over the classes, whose segments compete


@dataclass(frozen=True, eq=False)
class FittedThresholds:
    """Thresholds that were fitted, and what they are worth on the same videos.

    Attributes:
        thresholds: Thresholds of each class that occurs in the annotations.
        before: mAP with the given rules.
        after: mAP with the fitted thresholds. Videos that were not used for fitting give less.
    """

    thresholds: Mapping[str, Thresholds]
    before: SegmentMap
    after: SegmentMap


def fit_thresholds(
    timelines: Sequence[ScoreTimeline],
    annotations: Sequence[VideoSegments],
    rules: SegmentRules | None = None,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FittedThresholds:
    """Fits the thresholds of each class to annotated videos.

    For each class, the high and low thresholds are chosen that give the best mean F1 over tIoU 0.3
    to 0.7, all other classes as they are. Two rounds, since the segments of a model with one label
    per video compete.

    Args:
        timelines: The scores of the videos, one for each annotation, in the same order.
        annotations: The true segments.
        rules: Everything but the thresholds of these classes; None for the defaults.
        progress: Called with the number of finished steps and of all steps.

    Returns:
        The thresholds, and the mAP before and after.

    Raises:
        ConfigError: The numbers of timelines and annotations differ, or there are none.
        UnknownNameError: A class of the annotations is unknown to the model.
    """
    if len(timelines) != len(annotations) or not timelines:
        raise ConfigError(
            f"There are {len(timelines)} timelines and {len(annotations)} annotations; give one "
            "timeline for each annotated video, and at least one."
        )
    rules = rules or SegmentRules()
    labels = sorted({one.label for video in annotations for one in video.segments})
    for label in labels:
        if label not in timelines[0].labels:
            raise UnknownNameError("class", label, timelines[0].labels)
    before = _measure(timelines, annotations, rules)
    fitted = {label: rules.of(label) for label in labels}
    total, done = _ROUNDS * len(labels), 0
    for _ in range(_ROUNDS):
        for label in labels:
            options = [fitted[label]]
            options += [Thresholds(high, high * share) for high in _HIGHS for share in _LOW_SHARES]
            scores = [
                _f1(timelines, annotations, _with(rules, fitted | {label: option}), labels)
                for option in options
            ]
            fitted[label] = options[int(np.argmax(scores))]
            done += 1
            progress(done, total)
    after = _measure(timelines, annotations, _with(rules, fitted))
    return FittedThresholds(fitted, before, after)


def _with(rules: SegmentRules, thresholds: Mapping[str, Thresholds]) -> SegmentRules:
    return dataclasses.replace(rules, class_thresholds={**rules.class_thresholds, **thresholds})


def _measure(
    timelines: Sequence[ScoreTimeline], annotations: Sequence[VideoSegments], rules: SegmentRules
) -> SegmentMap:
    predictions = [
        VideoSegments(video.video, decode_segments(timeline, rules))
        for timeline, video in zip(timelines, annotations, strict=True)
    ]
    return segment_map(annotations, predictions)


def _f1(
    timelines: Sequence[ScoreTimeline],
    annotations: Sequence[VideoSegments],
    rules: SegmentRules,
    labels: Sequence[str],
) -> float:
    """The F1 of the segments of all classes, averaged over tIoU."""
    overlaps, num_found, num_true = [], 0, 0
    for timeline, video in zip(timelines, annotations, strict=True):
        found = [one for one in decode_segments(timeline, rules) if one.label in labels]
        num_found += len(found)
        num_true += len(video.segments)
        overlaps += [_best_overlap(one, found) for one in video.segments]
    values = [2 * np.sum(np.array(overlaps) >= t) / max(1, num_found + num_true) for t in TIOUS]
    return float(np.mean(values))


def _best_overlap(segment: Segment, found: Sequence[Segment]) -> float:
    best = 0.0
    for one in found:
        if one.label == segment.label:
            intersection = min(one.end, segment.end) - max(one.start, segment.start)
            union = max(one.end, segment.end) - min(one.start, segment.start)
            best = max(best, intersection / union)
    return best


def write_thresholds(fitted: FittedThresholds, path: str | Path) -> Path:
    """Writes thresholds as a JSON file.

    Args:
        fitted: The thresholds.
        path: The file.

    Raises:
        OSError: The file cannot be written.
    """
    data = {
        "format": _FORMAT,
        "thresholds": {
            label: {"high": one.high, "low": round(one.low, 6)}
            for label, one in fitted.thresholds.items()
        },
        "before": fitted.before.to_dict(),
        "after": fitted.after.to_dict(),
    }
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    write_atomic(Path(path), text.encode("utf-8"))
    return Path(path)


def is_thresholds(path: Path) -> bool:
    """Whether a file was written by `write_thresholds`.

    Args:
        path: The file.
    """
    with path.open("rb") as file:
        return _FORMAT.encode() in file.read(200)


def read_thresholds(path: str | Path) -> dict[str, Thresholds]:
    """Reads the thresholds of classes.

    Args:
        path: A file that `write_thresholds` wrote, or one like it.

    Returns:
        Thresholds by class name, for `SegmentRules.class_thresholds`.

    Raises:
        DataError: The file cannot be read, or is something else.
    """
    advice = "give a file that videoswin segments --fit wrote."
    try:
        data: Any = parse_json(read_text_file(path, what="file of thresholds"))
    except ValueError as error:
        raise DataError(f"{str(path)!r} is not JSON: {error}; {advice}") from error
    try:
        if data["format"] != _FORMAT:
            raise KeyError("format")
        return {
            str(label): Thresholds(float(one["high"]), float(one["low"]))
            for label, one in data["thresholds"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{str(path)!r} has no thresholds ({error}); {advice}") from error
    except ConfigError as error:
        raise DataError(f"{str(path)!r}: {error}") from error
