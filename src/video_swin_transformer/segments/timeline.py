"""`ScoreTimeline`: the scores of every class over the time of a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..config import BundleConfig
from ..errors import ConfigError
from ..features import FeatureTable
from ..postprocess import sigmoid, softmax

Floats: TypeAlias = npt.NDArray[np.float32]
Seconds: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ScoreTimeline:
    """Scores of sliding windows over one video.

    Attributes:
        video: The video.
        labels: Class names; indices as text if the model has none.
        times_seconds: (N,) float64, the middle of each window, increasing.
        scores: (N, K) float32, in [0, 1].
        duration_seconds: Length of the video.
        multi_label: Whether classes are independent. If not, the scores of a row sum to 1.
    """

    video: str
    labels: tuple[str, ...]
    times_seconds: Seconds
    scores: Floats
    duration_seconds: float
    multi_label: bool = False

    def edges(self) -> Seconds:
        """(N + 1,) float64: each row stands for the time from one edge to the next."""
        middles = (self.times_seconds[1:] + self.times_seconds[:-1]) / 2
        return np.concatenate([[0.0], middles, [self.duration_seconds]])

    def __repr__(self) -> str:
        return (
            f"ScoreTimeline({self.video!r}, {len(self.scores)} rows, {len(self.labels)} classes, "
            f"{self.duration_seconds:.2f} s)"
        )


def score_timeline(table: FeatureTable, bundle: BundleConfig) -> ScoreTimeline:
    """Makes the timeline of a table of logits.

    Args:
        table: Features of one video with the pooling "logits", not averaged over crops.
        bundle: How views are averaged, and the labels.

    Raises:
        ConfigError: The table has other features, or the times are unknown.
    """
    if table.settings.pooling != "logits" or table.settings.average_crops:
        raise ConfigError(
            "A timeline needs features with pooling 'logits' and average_crops=False; this table "
            f"has {table.settings.pooling!r}."
        )
    times = table.center_seconds
    info = table.videos[0]
    if not np.isfinite(times).all() or info.duration_seconds is None:
        raise ConfigError(
            f"The times of {info.name} are unknown, as those of arrays and folders of images are; "
            "give their rate with fps."
        )
    num_rows, num_crops, num_classes = table.values.shape
    to_scores = sigmoid if bundle.multi_label else softmax
    logits = table.values
    if bundle.average_clips == "score":
        logits = logits.mean(axis=1, keepdims=True)
        num_crops = 1
    scores = to_scores(logits.reshape(-1, num_classes)).reshape(num_rows, num_crops, num_classes)
    labels = bundle.labels or tuple(str(index) for index in range(num_classes))
    return ScoreTimeline(
        info.name,
        labels,
        times,
        scores.mean(axis=1, dtype=np.float32),
        float(info.duration_seconds),
        bundle.multi_label,
    )
