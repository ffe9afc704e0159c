"""Scores and labels -> figures. NumPy only; every definition stands where it is computed.

Names: scores (N, K), labels (N,) class numbers, truth (N, K) bool for several labels a clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MEAN_CLASS_RULES = ("present", "official")
NUM_BINS = 15


def label_ranks(scores: Floats, labels: Ints) -> Ints:
    """(N,) place of the right class among the scores, 0 the best; ties go by class number."""
    own = scores[np.arange(len(labels)), labels][:, None]
    before = np.arange(scores.shape[1]) < labels[:, None]
    places: Ints = ((scores > own) | ((scores == own) & before)).sum(axis=1)
    return places


def predicted_classes(scores: Floats) -> Ints:
    """(N,) class of the highest score; of equal ones the lowest number."""
    best: Ints = scores.argmax(axis=1)
    return best


def confusion_matrix(predicted: Ints, labels: Ints, num_classes: int) -> Ints:
    """(K, K): row = right class, column = predicted class."""
    flat = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def mean_class_accuracy(confusion: npt.NDArray[np.generic], rule: str = "present") -> float:
    """Mean over classes of the share of their clips that is recognized.

    present: over the classes that occur in the data. official: over those that occur or are
    predicted; a class that is predicted without occurring counts as 0 (the official code).
    """
    if rule not in MEAN_CLASS_RULES:
        raise ConfigError(
            f"mean class accuracy is {rule!r}, but must be one of {', '.join(MEAN_CLASS_RULES)}."
        )
    counts = np.asarray(confusion, np.float64)
    totals, right = counts.sum(axis=1), np.diag(counts)
    counted = totals > 0
    if rule == "official":
        counted = counted | (counts.sum(axis=0) > 0)
    recalls = np.divide(right, totals, out=np.zeros_like(right), where=totals > 0)
    return float(recalls[counted].mean()) if counted.any() else float("nan")


class AveragePrecision:
    """Average precision of each class, with the sorting done once for any weighting of clips.

    AP is the sum over thresholds of precision times the recall gained; clips of equal score share
    a threshold. Classes without a positive clip have none (nan), and the mean leaves them out.
    """

    def __init__(self, scores: Floats, truth: Bools) -> None:
        num_clips = len(scores)
        self._order = np.argsort(-scores, axis=0, kind="stable")
        ordered = np.take_along_axis(scores, self._order, axis=0)
        self._truth = np.take_along_axis(truth, self._order, axis=0)
        # For each place, the last place with the same score.
        is_last = np.ones_like(self._truth)
        is_last[:-1] = ordered[1:] != ordered[:-1]
        places = np.where(is_last, np.arange(num_clips)[:, None], num_clips)
        self._last = np.minimum.accumulate(places[::-1], axis=0)[::-1]

    def by_class(self, weights: npt.NDArray[np.generic] | None = None) -> Floats:
        """(K,) AP; `weights` (N,) says how often each clip counts."""
        if weights is None:
            weights = np.ones(len(self._order))
        w = np.asarray(weights, np.float64)[self._order]
        positives = w * self._truth
        seen = np.cumsum(w, axis=0)
        hits = np.cumsum(positives, axis=0)
        precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
        at_threshold = np.take_along_axis(precision, self._last, axis=0)
        total = positives.sum(axis=0)
        summed = (positives * at_threshold).sum(axis=0)
        by_class: Floats = np.full_like(total, np.nan)
        np.divide(summed, total, out=by_class, where=total > 0)
        return by_class

    def mean(self, weights: npt.NDArray[np.generic] | None = None) -> float:
        """mAP: the mean over classes that have a positive clip."""
        by_class = self.by_class(weights)
        known = ~np.isnan(by_class)
        return float(by_class[known].mean()) if known.any() else float("nan")


@dataclass(frozen=True)
class Calibration:
    """Is a score of 80 % right in 80 % of cases? One entry a bin of equal width, lowest first.

    error: the expected calibration error, the mean of |accuracy - confidence| over clips.
    """

    error: float
    counts: tuple[int, ...]
    confidence: tuple[float, ...]  # mean score of the predicted class; 0 in an empty bin
    accuracy: tuple[float, ...]


def calibration(confidence: Floats, is_right: Bools, num_bins: int = NUM_BINS) -> Calibration:
    """confidence: (N,) score of the predicted class; bins are (0, 1/n], (1/n, 2/n], ..."""
    bins = np.clip(np.ceil(confidence * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    sums = np.bincount(bins, confidence, num_bins)
    hits = np.bincount(bins, is_right.astype(np.float64), num_bins)
    error = float(np.abs(hits - sums).sum() / max(len(confidence), 1))
    filled = np.maximum(counts, 1)
    return Calibration(
        error,
        tuple(counts.tolist()),
        tuple((sums / filled).tolist()),
        tuple((hits / filled).tolist()),
    )
