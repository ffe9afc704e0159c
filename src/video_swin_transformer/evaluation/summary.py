"""Computes the results of an evaluation from stored logits, without the model or the videos."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import AVERAGES
from ..errors import ConfigError, DataError, counted
from ..postprocess import average_views
from .intervals import Measure, bootstrap, wilson
from .metrics import (
    AveragePrecision,
    Bools,
    Calibration,
    Floats,
    Ints,
    calibration,
    confusion_matrix,
    label_ranks,
    mean_class_accuracy,
    predicted_classes,
)
from .scores import Failure, Scores

NUM_WORST = 24
_TOP_K = 5


@dataclass(frozen=True)
class ClipResult:
    """The result for one clip.

    Attributes:
        path: Path of the clip.
        labels: True class indices.
        predicted: Predicted class index.
        confidence: Score of the predicted class.
        label_score: Score of the true label; the lowest one for multi-label clips.
        rank: Rank of that label among the scores, starting at 1.
        is_correct: Whether the prediction is correct.
    """

    path: str
    labels: tuple[int, ...]
    predicted: int
    confidence: float
    label_score: float
    rank: int
    is_correct: bool


@dataclass(frozen=True)
class ClipFailure:
    """A clip without scores.

    Attributes:
        path: Path of the clip.
        kind: Kind of failure.
        reason: Error message.
    """

    path: str
    kind: Failure
    reason: str


@dataclass(frozen=True)
class ClassResult:
    """The result for one class.

    Attributes:
        name: Class name.
        num_clips: Number of clips with this label.
        accuracy: Recall, or average precision (without interval) for multi-label data; None if the
            class does not occur.
        confused_with: The class most often predicted instead.
        num_confused: How many times it was predicted instead.
    """

    name: str
    num_clips: int
    accuracy: Measure | None
    confused_with: str | None
    num_confused: int


@dataclass(frozen=True)
class EvaluationResult:
    """The results of an evaluation.

    Attributes:
        settings: Model, sampling, preprocessing and dataset, as JSON data.
        average: Averaging of views, "prob" or "score".
        mean_class_rule: "present" or "official".
        measures: Metrics by name: top1, top5 and mean_class_accuracy; map and hit1 for multi-label
            data.
        classes: Results per class.
        clips: Results per clip, without failed clips.
        failures: Clips without scores.
        confusion: (K, K) int64, rows are true labels; None for multi-label data.
        calibration: Accuracy by confidence; None for multi-label data.
    """

    settings: Mapping[str, Any]
    average: str
    mean_class_rule: str
    measures: dict[str, Measure]
    classes: tuple[ClassResult, ...]
    clips: tuple[ClipResult, ...]
    failures: tuple[ClipFailure, ...]
    confusion: Ints | None
    calibration: Calibration | None

    @property
    def worst(self) -> list[ClipResult]:
        """Misclassified clips with the lowest scores of the true label, worst first."""
        labeled = [clip for clip in self.clips if clip.labels and not clip.is_correct]
        return sorted(labeled, key=lambda clip: (clip.label_score, clip.path))[:NUM_WORST]

    def class_name(self, label: int) -> str:
        """Returns the name of a class, or its index as text if there are no names.

        Args:
            label: Class index.
        """
        names = self.settings["classes"]
        return str(names[label]) if label < len(names) else str(label)


def summarize(
    scores: Scores, average: str | None = None, mean_class_rule: str = "present"
) -> EvaluationResult:
    """Computes all metrics from stored logits; they are defined in `metrics.py`.

    Args:
        scores: The logits of every view.
        average: "prob" or "score"; None uses the model's setting.
        mean_class_rule: "present" or "official".

    Returns:
        The results.

    Raises:
        ConfigError: `average` is unknown.
        DataError: No clip could be read.
    """
    settings = scores.plan.settings
    average = average or str(settings["average"])
    if average not in AVERAGES:
        raise ConfigError(f"average is {average!r}, but must be one of {', '.join(AVERAGES)}.")
    readable = [clip for clip in scores.clips if clip.failure is None]
    if not readable:
        first = scores.clips[0]
        raise DataError(
            f"None of {counted(len(scores.clips), 'clip')} could be read, such as {first.path}: "
            f"{first.error}"
        )
    is_multilabel = bool(settings["is_multilabel"])
    # The annotations select the metrics; the model determines how logits become scores.
    multi_label = is_multilabel or bool(settings.get("multi_label"))
    table: Floats = np.stack(
        [
            average_views(np.asarray(scores.of(clip), np.float64), average, multi_label)[0]
            for clip in readable
        ]
    )
    labels = [scores.plan.labels[clip.item] for clip in readable]
    paths = [clip.path for clip in readable]
    failures = tuple(
        ClipFailure(clip.path, clip.failure, clip.error or "")
        for clip in scores.clips
        if clip.failure is not None
    )
    build = _summarize_multilabel if is_multilabel else _summarize_single_label
    return build(settings, average, mean_class_rule, table, labels, paths, failures)


def _summarize_single_label(
    settings: Mapping[str, Any],
    average: str,
    mean_class_rule: str,
    table: Floats,
    labels: list[tuple[int, ...]],
    paths: list[str],
    failures: tuple[ClipFailure, ...],
) -> EvaluationResult:
    num_clips, num_classes = table.shape
    true_labels = np.asarray([label[0] for label in labels], np.int64)
    predicted, ranks = predicted_classes(table), label_ranks(table, true_labels)
    confusion = confusion_matrix(predicted, true_labels, num_classes)
    measures = {"top1": wilson(int((ranks < 1).sum()), num_clips)}
    if num_classes > _TOP_K:
        measures["top5"] = wilson(int((ranks < _TOP_K).sum()), num_clips)

    pairs = true_labels * num_classes + predicted

    def weighted(counts: Ints) -> float:
        drawn = np.bincount(pairs, counts, num_classes**2).reshape(num_classes, num_classes)
        return mean_class_accuracy(drawn, mean_class_rule)

    measures["mean_class_accuracy"] = bootstrap(weighted, num_clips, num_clips + num_classes**2)
    confidence = table.max(axis=1)
    true_scores = table[np.arange(num_clips), true_labels]
    names = settings["classes"]
    return EvaluationResult(
        settings,
        average,
        mean_class_rule,
        measures,
        tuple(_class_result(confusion, label, names) for label in range(num_classes)),
        tuple(
            ClipResult(
                paths[i],
                (int(true_labels[i]),),
                int(predicted[i]),
                float(confidence[i]),
                float(true_scores[i]),
                int(ranks[i]) + 1,
                bool(ranks[i] == 0),
            )
            for i in range(num_clips)
        ),
        failures,
        confusion,
        calibration(confidence, ranks == 0),
    )


def _class_result(confusion: Ints, label: int, names: list[str]) -> ClassResult:
    row = confusion[label].copy()
    total, num_correct = int(row.sum()), int(row[label])
    row[label] = 0
    confused = int(row.argmax())
    return ClassResult(
        _class_name(names, label),
        total,
        wilson(num_correct, total) if total else None,
        _class_name(names, confused) if row[confused] else None,
        int(row[confused]),
    )


def _summarize_multilabel(
    settings: Mapping[str, Any],
    average: str,
    mean_class_rule: str,
    table: Floats,
    labels: list[tuple[int, ...]],
    paths: list[str],
    failures: tuple[ClipFailure, ...],
) -> EvaluationResult:
    num_clips, num_classes = table.shape
    truth: Bools = np.zeros(table.shape, np.bool_)
    for row, clip_labels in enumerate(labels):
        truth[row, list(clip_labels)] = True
    precision = AveragePrecision(table, truth)
    predicted = predicted_classes(table)
    hits = truth[np.arange(num_clips), predicted]
    has_labels = truth.any(axis=1)
    by_class = precision.by_class()
    return EvaluationResult(
        settings,
        average,
        mean_class_rule,
        {
            "map": bootstrap(precision.mean, num_clips, table.size),
            "hit1": wilson(int(hits.sum()), int(has_labels.sum())),
        },
        tuple(
            ClassResult(
                _class_name(settings["classes"], label),
                int(truth[:, label].sum()),
                None if math.isnan(by_class[label]) else Measure(by_class[label], *(math.nan,) * 2),
                None,
                0,
            )
            for label in range(num_classes)
        ),
        tuple(_multilabel_clip_result(paths[i], table[i], labels[i]) for i in range(num_clips)),
        failures,
        None,
        None,
    )


def _multilabel_clip_result(path: str, scores: Floats, labels: tuple[int, ...]) -> ClipResult:
    predicted = int(scores.argmax())
    weakest = min(labels, key=lambda label: scores[label], default=predicted)
    rank = int(label_ranks(scores[None], np.asarray([weakest]))[0])
    return ClipResult(
        path,
        labels,
        predicted,
        float(scores[predicted]),
        float(scores[weakest]),
        rank + 1,
        rank < max(len(labels), 1),  # all labels rank above all other classes
    )


def _class_name(names: list[str], label: int) -> str:
    return str(names[label]) if label < len(names) else str(label)
