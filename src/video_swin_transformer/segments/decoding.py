"""Scores over time -> segments. Pure functions of NumPy arrays.

A segment begins and ends where its score crosses the low threshold, and its score reaches the high
threshold somewhere (hysteresis). Of a model with one label per video, segments do not overlap, and
two that touch meet where the scores of their classes cross.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..config import require
from ..data import Segment
from .timeline import Floats, ScoreTimeline, Seconds

_CANDIDATE_LEVELS = 9  # low thresholds of candidates for soft-NMS
_NONE = -1  # in place of a class


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of a class.

    Attributes:
        high: A segment reaches this score somewhere, in [0, 1].
        low: It has this score everywhere, at most `high`.
    """

    high: float = 0.5
    low: float = 0.3

    def __post_init__(self) -> None:
        require(0 <= self.high <= 1, "high", self.high, "in [0, 1]")
        require(0 <= self.low <= self.high, "low", self.low, f"0 to high, which is {self.high}")


@dataclass(frozen=True)
class SegmentRules:
    """How segments are made of scores.

    Attributes:
        thresholds: Thresholds of all classes.
        class_thresholds: Thresholds of single classes, by name.
        smooth_seconds: Standard deviation of the Gaussian that smooths the scores; 0 for none.
        min_seconds: Shorter segments are left out, or given to their neighbors.
        merge_seconds: Segments of one class with a gap up to this are merged.
        soft_nms_sigma: If given, segments are candidates of several low thresholds that may
            overlap, and their scores are lowered by soft-NMS with this sigma; for metrics that rank
            segments. None: segments of one class do not overlap.
        background: Class that stands for no segment, if the model has it.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    class_thresholds: Mapping[str, Thresholds] = field(default_factory=dict)
    smooth_seconds: float = 0.0
    min_seconds: float = 0.5
    merge_seconds: float = 0.5
    soft_nms_sigma: float | None = None
    background: str = "background"

    def __post_init__(self) -> None:
        for name in ("smooth_seconds", "min_seconds", "merge_seconds"):
            value = getattr(self, name)
            require(value >= 0, name, value, "0 or more")
        sigma = self.soft_nms_sigma
        require(sigma is None or sigma > 0, "soft_nms_sigma", sigma, "above 0")

    def of(self, label: str) -> Thresholds:
        """Returns the thresholds of a class."""
        return self.class_thresholds.get(label, self.thresholds)


def smooth_scores(timeline: ScoreTimeline, sigma_seconds: float) -> ScoreTimeline:
    """Smooths the scores over time with a Gaussian, shortened at the ends.

    Args:
        timeline: The scores.
        sigma_seconds: Standard deviation.
    """
    times, scores = timeline.times_seconds, timeline.scores
    if sigma_seconds == 0 or len(times) < 2:
        return timeline
    step = float(np.median(np.diff(times)))
    radius = min(int(np.ceil(3 * sigma_seconds / step)), len(times) - 1)
    offsets = np.arange(-radius, radius + 1) * step
    kernel = np.exp(-0.5 * (offsets / sigma_seconds) ** 2)
    weight = np.convolve(np.ones(len(times)), kernel)[radius : radius + len(times)]
    smoothed = np.empty_like(scores)
    for column in range(scores.shape[1]):
        total = np.convolve(scores[:, column], kernel)[radius : radius + len(times)]
        smoothed[:, column] = total / weight
    return dataclasses.replace(timeline, scores=smoothed)


def decode_segments(timeline: ScoreTimeline, rules: SegmentRules) -> tuple[Segment, ...]:
    """Makes segments of scores.

    Args:
        timeline: The scores of one video.
        rules: Thresholds, lengths and merging.

    Returns:
        The segments in order of time. The score is the mean of the class over the segment, or with
        soft-NMS that mean after it was lowered.
    """
    timeline = smooth_scores(timeline, rules.smooth_seconds)
    if rules.soft_nms_sigma is not None:
        found = _candidates(timeline, rules)
        found = [
            one
            for label in timeline.labels
            for one in soft_nms([s for s in found if s.label == label], rules.soft_nms_sigma)
        ]
    elif timeline.multi_label:
        found = _independent(timeline, rules)
    else:
        found = _exclusive(timeline, rules)
    return tuple(sorted(found, key=lambda one: (one.start, one.end)))


def soft_nms(
    segments: Iterable[Segment], sigma: float = 0.5, min_score: float = 1e-3
) -> list[Segment]:
    """Lowers the scores of segments that overlap better ones (Bodla et al., arXiv 1704.04503).

    Args:
        segments: Segments of one class of one video, with scores.
        sigma: The score is multiplied by exp(-tIoU^2 / sigma).
        min_score: Segments below are left out.

    Returns:
        The segments in descending order of score.
    """
    left = [(one, 0.0 if one.score is None else one.score) for one in segments]
    kept = []
    while left:
        best, score = max(left, key=lambda pair: pair[1])
        if score < min_score:
            break
        kept.append(dataclasses.replace(best, score=score))
        left = [
            (one, value * float(np.exp(-(_overlap(one, best) ** 2) / sigma)))
            for one, value in left
            if one is not best
        ]
    return kept


def _overlap(one: Segment, other: Segment) -> float:
    """The intersection of two segments divided by their union."""
    intersection = max(0.0, min(one.end, other.end) - max(one.start, other.start))
    union = one.end - one.start + other.end - other.start - intersection
    return intersection / union if union > 0 else 0.0


# --- independent classes --------------------------------------------------------------------------


def _independent(timeline: ScoreTimeline, rules: SegmentRules) -> list[Segment]:
    found = []
    for column, label in enumerate(timeline.labels):
        if label != rules.background:
            found += _of_class(timeline, column, rules.of(label), rules)
    return found


def _candidates(timeline: ScoreTimeline, rules: SegmentRules) -> list[Segment]:
    """Segments of each class at several low thresholds, with the score between them and a peak."""
    found: set[Segment] = set()
    for column, label in enumerate(timeline.labels):
        high = rules.of(label).high
        if label == rules.background or timeline.scores[:, column].max() < high:
            continue
        # Not above the high threshold: means over short peaks would come before whole segments.
        for low in np.linspace(0, high, _CANDIDATE_LEVELS + 1)[1:].tolist():
            found.update(_of_class(timeline, column, Thresholds(high, low), rules))
    return sorted(found, key=lambda one: (one.label, one.start, one.end))


def _of_class(
    timeline: ScoreTimeline, column: int, thresholds: Thresholds, rules: SegmentRules
) -> list[Segment]:
    scores = timeline.scores[:, column]
    level = np.full(len(scores), thresholds.low)
    spans = []
    for first, last in _runs(scores >= thresholds.low):
        if scores[first : last + 1].max() >= thresholds.high:
            start = _border(timeline, first - 1, level - scores)
            end = _border(timeline, last, scores - level)
            spans.append((first, last, start, end))
    merged: list[tuple[int, int, float, float]] = []
    for span in spans:
        if merged and span[2] - merged[-1][3] <= rules.merge_seconds:
            merged[-1] = (merged[-1][0], span[1], merged[-1][2], span[3])
        else:
            merged.append(span)
    label = timeline.labels[column]
    return [
        Segment(label, start, end, float(scores[first : last + 1].mean()))
        for first, last, start, end in merged
        if end - start >= rules.min_seconds
    ]


def _runs(is_inside: np.ndarray) -> list[tuple[int, int]]:
    """The first and last index of each run of true values."""
    steps = np.diff(np.concatenate([[0], is_inside.astype(np.int8), [0]]))
    firsts, lasts = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1) - 1
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def _border(timeline: ScoreTimeline, row: int, lead: Seconds | Floats) -> float:
    """The time between a row and the next one at which a lead falls to 0, by a straight line.

    Before the first row it is 0, after the last one the duration.
    """
    times = timeline.times_seconds
    if row < 0:
        return 0.0
    if row >= len(times) - 1:
        return timeline.duration_seconds
    before, after = float(lead[row]), float(lead[row + 1])
    share = 0.5 if before <= after else min(1.0, max(0.0, before / (before - after)))
    return float(times[row] + share * (times[row + 1] - times[row]))


# --- one class at a time --------------------------------------------------------------------------


def _exclusive(timeline: ScoreTimeline, rules: SegmentRules) -> list[Segment]:
    scores, labels = timeline.scores, timeline.labels
    limits = [rules.of(label) for label in labels]
    low = np.array([one.low for one in limits])
    best = scores.argmax(axis=1)
    best[scores[np.arange(len(best)), best] < low[best]] = _NONE
    if rules.background in labels:
        best[best == labels.index(rules.background)] = _NONE
    for first, last in _label_runs(best):
        column = int(best[first])
        if column != _NONE and scores[first : last + 1, column].max() < limits[column].high:
            best[first : last + 1] = _NONE
    edges = timeline.edges()
    _merge(best, edges, rules.merge_seconds)
    _give_away_short_runs(best, scores, edges, rules.min_seconds)
    _merge(best, edges, rules.merge_seconds)
    runs = _label_runs(best)
    found = []
    for (first, last), previous, following in zip(
        runs, [None, *runs[:-1]], [*runs[1:], None], strict=True
    ):
        column = int(best[first])
        if column == _NONE:
            continue
        start, end = 0.0, timeline.duration_seconds
        if previous is not None:
            other = int(best[previous[0]])
            rival = low[column] if other == _NONE else scores[:, other]
            start = _border(timeline, first - 1, rival - scores[:, column])
        if following is not None:
            other = int(best[following[0]])
            rival = low[column] if other == _NONE else scores[:, other]
            end = _border(timeline, last, scores[:, column] - rival)
        if end - start >= rules.min_seconds:
            score = float(scores[first : last + 1, column].mean())
            found.append(Segment(labels[column], start, end, score))
    return found


def _label_runs(labels: np.ndarray) -> list[tuple[int, int]]:
    """The first and last index of each run of equal values."""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(labels)) + 1])
    ends = np.concatenate([starts[1:] - 1, [len(labels) - 1]])
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def _merge(best: np.ndarray, edges: Seconds, merge_seconds: float) -> None:
    """Fills short gaps between two runs of one class."""
    runs = _label_runs(best)
    for previous, (first, last), following in zip(runs, runs[1:], runs[2:], strict=False):
        is_gap = best[first] == _NONE and best[previous[0]] == best[following[0]] != _NONE
        if is_gap and edges[last + 1] - edges[first] <= merge_seconds:
            best[first : last + 1] = best[previous[0]]


def _give_away_short_runs(
    best: np.ndarray, scores: Floats, edges: Seconds, min_seconds: float
) -> None:
    """Gives the rows of runs that are too short to the better neighbor, the shortest run first."""
    while True:
        runs = _label_runs(best)
        short = [
            (edges[last + 1] - edges[first], index)
            for index, (first, last) in enumerate(runs)
            if best[first] != _NONE and edges[last + 1] - edges[first] < min_seconds
        ]
        if not short or len(runs) == 1:
            return
        _, index = min(short)
        first, last = runs[index]
        beside = [runs[i][0] for i in (index - 1, index + 1) if 0 <= i < len(runs)]
        rivals: Sequence[int] = [int(best[row]) for row in beside if best[row] != _NONE]
        if not rivals:
            best[first : last + 1] = _NONE
            continue
        rows = scores[first : last + 1][:, rivals]
        chosen = np.asarray(rivals)[rows.argmax(axis=1)]
        if len(rivals) == 2 and rivals[0] != rivals[1]:
            # One border, so that the rows do not alternate.
            ahead = np.concatenate([[0.0], np.cumsum(rows[:, 0] - rows[:, 1])])
            cut = int(ahead.argmax())
            chosen[:cut], chosen[cut:] = rivals[0], rivals[1]
        best[first : last + 1] = chosen
