"""Classification metrics in NumPy.

Notation: scores (N, K) float64, labels (N,) int64 class indices, truth (N, K) bool for multi-label
data, with N clips and K classes.
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
    """Returns the rank of the true label among the scores.

    Args:
        scores: (N, K).
        labels: (N,) class indices.

    Returns:
        (N,) int64, 0 for the highest score. Ties are ordered by class index.
    """
    true_scores = scores[np.arange(len(labels)), labels][:, None]
    has_lower_index = np.arange(scores.shape[1]) < labels[:, None]
    ranks: Ints = ((scores > true_scores) | ((scores == true_scores) & has_lower_index)).sum(axis=1)
    return ranks


def predicted_classes(scores: Floats) -> Ints:
    """Returns the class with the highest score, the lowest index on ties: (N,) int64."""
    best: Ints = scores.argmax(axis=1)
    return best


def confusion_matrix(predicted: Ints, labels: Ints, num_classes: int) -> Ints:
    """Counts clips by true label (rows) and predicted label (columns).

    Args:
        predicted: (N,) predicted class indices.
        labels: (N,) true class indices.
        num_classes: K.

    Returns:
        (K, K) int64.
    """
    flat = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def mean_class_accuracy(confusion: npt.NDArray[np.generic], rule: str = "present") -> float:
    """Computes the mean recall over classes.

    Args:
        confusion: (K, K), rows are true labels.
        rule: "present" averages over classes that occur. "official" also counts classes that are
            only predicted as 0, as the official code does.

    Returns:
        The mean, in [0, 1]; NaN without classes.

    Raises:
        ConfigError: `rule` is unknown.
    """
    if rule not in MEAN_CLASS_RULES:
        raise ConfigError(
            f"mean class accuracy is {rule!r}, but must be one of {', '.join(MEAN_CLASS_RULES)}."
        )
    counts = np.asarray(confusion, np.float64)
    totals, num_correct = counts.sum(axis=1), np.diag(counts)
    counted = totals > 0
    if rule == "official":
        counted = counted | (counts.sum(axis=0) > 0)
    recalls = np.divide(num_correct, totals, out=np.zeros_like(num_correct), where=totals > 0)
    return float(recalls[counted].mean()) if counted.any() else float("nan")


class AveragePrecision:
    """Average precision (AP) per class, for repeated evaluation with different clip weights.

    AP is the sum over thresholds of precision times the increase in recall; clips with equal
    scores share a threshold. AP is NaN for classes without positive clips, which the mean ignores.

    Args:
        scores: (N, K).
        truth: (N, K) bool.
    """

    def __init__(self, scores: Floats, truth: Bools) -> None:
        num_clips = len(scores)
        self._order = np.argsort(-scores, axis=0, kind="stable")
        ordered = np.take_along_axis(scores, self._order, axis=0)
        self._truth = np.take_along_axis(truth, self._order, axis=0)
        # The last index with the same score.
        is_last = np.ones_like(self._truth)
        is_last[:-1] = ordered[1:] != ordered[:-1]
        ranks = np.where(is_last, np.arange(num_clips)[:, None], num_clips)
        self._last = np.minimum.accumulate(ranks[::-1], axis=0)[::-1]

    def by_class(self, weights: npt.NDArray[np.generic] | None = None) -> Floats:
        """Computes the AP of each class.

        Args:
            weights: (N,) weight of each clip; None means 1.

        Returns:
            (K,) float64.
        """
        if weights is None:
            weights = np.ones(len(self._order))
        w = np.asarray(weights, np.float64)[self._order]
        positives = w * self._truth
        cumulative = np.cumsum(w, axis=0)
        hits = np.cumsum(positives, axis=0)
        precision = np.divide(hits, cumulative, out=np.zeros_like(hits), where=cumulative > 0)
        at_threshold = np.take_along_axis(precision, self._last, axis=0)
        total = positives.sum(axis=0)
        summed = (positives * at_threshold).sum(axis=0)
        by_class: Floats = np.full_like(total, np.nan)
        np.divide(summed, total, out=by_class, where=total > 0)
        return by_class

    def mean(self, weights: npt.NDArray[np.generic] | None = None) -> float:
        """Computes mAP, the mean over classes with positive clips.

        Args:
            weights: (N,) weight of each clip; None means 1.
        """
        by_class = self.by_class(weights)
        known = ~np.isnan(by_class)
        return float(by_class[known].mean()) if known.any() else float("nan")


@dataclass(frozen=True)
class Calibration:
    """Accuracy by confidence, in bins of equal width.

    Attributes:
        error: Expected calibration error: mean of |accuracy - confidence| over clips.
        counts: Number of clips per bin.
        confidence: Mean confidence per bin; 0 if empty.
        accuracy: Accuracy per bin; 0 if empty.
    """

    error: float
    counts: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]


def calibration(confidence: Floats, is_correct: Bools, num_bins: int = NUM_BINS) -> Calibration:
    """Computes the calibration of scores.

    Args:
        confidence: (N,) score of the predicted class, in [0, 1].
        is_correct: (N,) bool.
        num_bins: Number of bins n: (0, 1/n], (1/n, 2/n], ...

    Returns:
        The calibration.
    """
    bins = np.clip(np.ceil(confidence * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    sums = np.bincount(bins, confidence, num_bins)
    hits = np.bincount(bins, is_correct.astype(np.float64), num_bins)
    error = float(np.abs(hits - sums).sum() / max(len(confidence), 1))
    filled = np.maximum(counts, 1)
    return Calibration(
        error,
        tuple(counts.tolist()),
        tuple((sums / filled).tolist()),
        tuple((hits / filled).tolist()),
    )
