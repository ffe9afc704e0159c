"""Stored scores -> every figure of the report. Needs no network and no video."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import AVERAGES
from ..errors import ConfigError, DataError
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
    """One clip: what it is, what the model says, and how sure it is of both."""

    path: str
    labels: tuple[int, ...]
    predicted: int
    confidence: float  # score of the predicted class
    label_score: float  # score of the right class; of the least sure one where there are several
    rank: int  # place of that class among the scores, 1 the best
    is_right: bool


@dataclass(frozen=True)
class ClipFailure:
    """A clip without scores."""

    path: str
    kind: Failure
    reason: str


@dataclass(frozen=True)
class ClassResult:
    """accuracy: with several labels a clip, the average precision (no interval)."""

    name: str
    num_clips: int
    accuracy: Measure | None  # None where the class does not occur
    confused_with: str | None  # the class most often predicted instead
    num_confused: int


@dataclass(frozen=True)
class EvaluationResult:
    """All results. measures: top1, top5, mean_class_accuracy; for several labels map and hit1."""

    settings: Mapping[str, Any]
    average: str
    mean_class_rule: str
    measures: dict[str, Measure]
    classes: tuple[ClassResult, ...]
    clips: tuple[ClipResult, ...]
    failures: tuple[ClipFailure, ...]
    confusion: Ints | None  # (K, K), row = right class; None with several labels a clip
    calibration: Calibration | None

    @property
    def worst(self) -> list[ClipResult]:
        """The clips whose right class has the lowest score, worst first."""
        labeled = [clip for clip in self.clips if clip.labels and not clip.is_right]
        return sorted(labeled, key=lambda clip: (clip.label_score, clip.path))[:NUM_WORST]

    def class_name(self, label: int) -> str:
        names = self.settings["classes"]
        return str(names[label]) if label < len(names) else str(label)


def summarize(
    scores: Scores, average: str | None = None, mean_class_rule: str = "present"
) -> EvaluationResult:
    """Computes all metrics from stored scores; `metrics.py` holds their definitions.

    Args:
        scores: The logits of every view.
        average: "prob" or "score"; None takes the model's own.
        mean_class_rule: "present" or "official".

    Raises:
        ConfigError: `average` is unknown.
        DataError: No clip could be read.
    """
    settings = scores.plan.settings
    average = average or str(settings["average"])
    if average not in AVERAGES:
        raise ConfigError(f"average is {average!r}, but must be one of {', '.join(AVERAGES)}.")
    good = [clip for clip in scores.clips if clip.failure is None]
    if not good:
        first = scores.clips[0]
        raise DataError(
            f"None of {len(scores.clips)} clips could be read, such as {first.path}: {first.error}"
        )
    is_multilabel = bool(settings["is_multilabel"])
    # The list decides what is measured; a model of several labels stays one on any list.
    multi_label = is_multilabel or bool(settings.get("multi_label"))
    table: Floats = np.stack(
        [
            average_views(np.asarray(scores.of(clip), np.float64), average, multi_label)[0]
            for clip in good
        ]
    )
    labels = [scores.plan.labels[clip.item] for clip in good]
    paths = [clip.path for clip in good]
    failures = tuple(
        ClipFailure(clip.path, clip.failure, clip.error or "")
        for clip in scores.clips
        if clip.failure is not None
    )
    build = _multilabel if is_multilabel else _single_label
    return build(settings, average, mean_class_rule, table, labels, paths, failures)


def _single_label(
    settings: Mapping[str, Any],
    average: str,
    mean_class_rule: str,
    table: Floats,
    labels: list[tuple[int, ...]],
    paths: list[str],
    failures: tuple[ClipFailure, ...],
) -> EvaluationResult:
    num_clips, num_classes = table.shape
    right = np.asarray([label[0] for label in labels], np.int64)
    predicted, ranks = predicted_classes(table), label_ranks(table, right)
    confusion = confusion_matrix(predicted, right, num_classes)
    measures = {"top1": wilson(int((ranks < 1).sum()), num_clips)}
    if num_classes > _TOP_K:
        measures["top5"] = wilson(int((ranks < _TOP_K).sum()), num_clips)

    pairs = right * num_classes + predicted

    def weighted(counts: Ints) -> float:
        drawn = np.bincount(pairs, counts, num_classes**2).reshape(num_classes, num_classes)
        return mean_class_accuracy(drawn, mean_class_rule)

    measures["mean_class_accuracy"] = bootstrap(weighted, num_clips, num_clips + num_classes**2)
    confidence = table.max(axis=1)
    own = table[np.arange(num_clips), right]
    names = settings["classes"]
    return EvaluationResult(
        settings,
        average,
        mean_class_rule,
        measures,
        tuple(_class_of_confusion(confusion, label, names) for label in range(num_classes)),
        tuple(
            ClipResult(
                paths[i],
                (int(right[i]),),
                int(predicted[i]),
                float(confidence[i]),
                float(own[i]),
                int(ranks[i]) + 1,
                bool(ranks[i] == 0),
            )
            for i in range(num_clips)
        ),
        failures,
        confusion,
        calibration(confidence, ranks == 0),
    )


def _class_of_confusion(confusion: Ints, label: int, names: list[str]) -> ClassResult:
    row = confusion[label].copy()
    total, right = int(row.sum()), int(row[label])
    row[label] = 0
    confused = int(row.argmax())
    return ClassResult(
        _name(names, label),
        total,
        wilson(right, total) if total else None,
        _name(names, confused) if row[confused] else None,
        int(row[confused]),
    )


def _multilabel(
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
    for row, some in enumerate(labels):
        truth[row, list(some)] = True
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
                _name(settings["classes"], label),
                int(truth[:, label].sum()),
                None if math.isnan(by_class[label]) else Measure(by_class[label], *(math.nan,) * 2),
                None,
                0,
            )
            for label in range(num_classes)
        ),
        tuple(_multilabel_clip(paths[i], table[i], labels[i]) for i in range(num_clips)),
        failures,
        None,
        None,
    )


def _multilabel_clip(path: str, scores: Floats, labels: tuple[int, ...]) -> ClipResult:
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
        rank < max(len(labels), 1),  # its labels are the best-ranked ones
    )


def _name(names: list[str], label: int) -> str:
    return str(names[label]) if label < len(names) else str(label)
