"""What is measured on a set of labeled clips: accuracy with intervals, controls, calibration."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from . import labels as lb
from .footage import LabeledClips
from .labels import LABELS
from .model import predict

Clips = NDArray[np.uint8]
Labels = NDArray[np.int64]
Floats = NDArray[np.float64]

_NUM_RESAMPLES = 2000
_NUM_BINS = 10
_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)

SYMMETRIES: dict[str, tuple[Callable[[Clips], Clips], tuple[int, ...]]] = {
    "mirrored": (lambda clips: clips[:, :, :, ::-1], lb.MIRRORED),
    "transposed": (lambda clips: clips.transpose(0, 1, 3, 2, 4), lb.TRANSPOSED),
    "reversed": (lambda clips: clips[:, ::-1], lb.REVERSED),
}


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95% interval of a share, for clips that have nothing to do with each other."""
    z = 1.96
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    half /= 1 + z * z / count
    return middle - half, middle + half


def resampled(right: NDArray[np.bool_], groups: Labels) -> tuple[float, float]:
    """95% interval of the share of `right`, resampling whole groups and not single clips."""
    names = np.unique(groups)
    hits = np.array([right[groups == name].sum() for name in names])
    counts = np.array([(groups == name).sum() for name in names])
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(names), (_NUM_RESAMPLES, len(names)))
    shares = hits[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(low), float(high)


def reliability(scores: Floats, right: NDArray[np.bool_]) -> dict[str, Any]:
    """Ten bins of the best score: their clips, mean score and accuracy, and the expected error."""
    best = scores.max(1)
    number = np.minimum((best * _NUM_BINS).astype(int), _NUM_BINS - 1)
    bins, error = [], 0.0
    for place in range(_NUM_BINS):
        inside = number == place
        if not inside.any():
            continue
        score, accuracy = float(best[inside].mean()), float(right[inside].mean())
        error += abs(score - accuracy) * float(inside.mean())
        bins.append({"count": int(inside.sum()), "score": score, "accuracy": accuracy})
    return {"bins": bins, "expected_calibration_error": error}


def answered(scores: Floats, right: NDArray[np.bool_]) -> list[dict[str, float]]:
    """Accuracy where the best score reaches a threshold, and how many clips do."""
    best = scores.max(1)
    rows = []
    for threshold in _THRESHOLDS:
        kept = best >= threshold
        rows.append(
            {
                "threshold": threshold,
                "answered": float(kept.mean()),
                "accuracy": float(right[kept].mean()),
            }
        )
    return rows


def single_frames(clips: Clips) -> Clips:
    """One middle frame, repeated: no movement is left to see."""
    return np.repeat(clips[:, 4:5], clips.shape[1], axis=1)


def shuffled(clips: Clips, rng: np.random.Generator) -> Clips:
    """The frames of each clip in an order of chance."""
    return np.stack([clip[rng.permutation(len(clip))] for clip in clips])


def _under_symmetry(model: nn.Module, test: LabeledClips, chosen: Labels) -> dict[str, Any]:
    rows = {}
    for name, (change, mapping) in SYMMETRIES.items():
        again = predict(model, np.ascontiguousarray(change(test.clips))).argmax(-1).numpy()
        wanted = np.array(mapping)
        right = again == wanted[test.labels]
        rows[name] = {
            "same_answer": float((again == wanted[chosen]).mean()),
            "accuracy": float(right.mean()),
            "per_label": {
                label: float(right[test.labels == place].mean())
                for place, label in enumerate(LABELS)
            },
        }
    return rows


def measure(model: nn.Module, test: LabeledClips) -> dict[str, Any]:
    """All figures of one set, as plain data for a JSON file."""
    scores = predict(model, test.clips).double().numpy()
    chosen = scores.argmax(1)
    right = chosen == test.labels
    confusion = np.zeros((len(LABELS), len(LABELS)), int)
    np.add.at(confusion, (test.labels, chosen), 1)
    per_label = {}
    for place, name in enumerate(LABELS):
        mine = test.labels == place
        per_label[name] = {
            "count": int(mine.sum()),
            "accuracy": float(right[mine].mean()),
            "interval": resampled(right[mine], test.groups[mine]),
        }
    one = predict(model, single_frames(test.clips)).argmax(-1).numpy()
    mixed = predict(model, shuffled(test.clips, np.random.default_rng(0))).argmax(-1).numpy()
    return {
        "count": len(test.labels),
        "groups": len(np.unique(test.groups)),
        "accuracy": float(right.mean()),
        "interval": resampled(right, test.groups),
        "per_label": per_label,
        "confusion": confusion.tolist(),
        "single_frame_accuracy": float((one == test.labels).mean()),
        "single_frame_called_static": float((one == LABELS.index("static")).mean()),
        "shuffled_accuracy": float((mixed == test.labels).mean()),
        "symmetry": _under_symmetry(model, test, chosen),
        "reliability": reliability(scores, right),
        "answered": answered(scores, right),
    }
