"""From the outputs of views to one answer per video: the only place that averages.

Views are crop-major: crop 0 of every clip, then crop 1 of every clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Scores = npt.NDArray[Any]  # of the precision of the logits


class ViewOutputs(NamedTuple):
    """The network's outputs for V views.

    Attributes:
        logits: (V, num_classes) float32; (V, num_features) without a classifier.
        features: (V, num_features) float32, the mean over time and space.
    """

    logits: Floats
    features: Floats

    @classmethod
    def concatenate(cls, parts: Sequence[ViewOutputs]) -> ViewOutputs:
        """The outputs of consecutive chunks of views as one."""
        return cls(
            np.concatenate([part.logits for part in parts]),
            np.concatenate([part.features for part in parts]),
        )


def softmax(logits: npt.NDArray[np.floating]) -> Scores:
    """(V, K) logits -> (V, K) probabilities, each row summing to 1."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores: Scores = shifted / shifted.sum(axis=1, keepdims=True)
    return scores


def sigmoid(logits: npt.NDArray[np.floating]) -> Scores:
    """(V, K) logits -> (V, K) independent probabilities."""
    scores: Scores = 0.5 * (1 + np.tanh(0.5 * logits))  # does not overflow
    return scores


def average_views(
    logits: npt.NDArray[np.floating], average_clips: str, multi_label: bool
) -> tuple[Scores, Scores]:
    """Averages the views of one video into its scores.

    Args:
        logits: (V, K), in the precision to compute in.
        average_clips: "prob" for the mean of the views' scores (the published protocol), "score"
            for the scores of the mean logits.
        multi_label: whether classes are independent (sigmoid instead of softmax).

    Returns:
        Scores of the video (K,) and of each view (V, K).
    """
    to_scores = sigmoid if multi_label else softmax
    view_scores = to_scores(logits)
    if average_clips == "score":
        return to_scores(logits.mean(axis=0, keepdims=True))[0], view_scores
    return view_scores.mean(axis=0), view_scores


def average_crops(features: Floats, num_crops: int) -> Floats:
    """(num_crops * num_clips, C) features of views -> (num_clips, C), averaged over crops."""
    averaged: Floats = features.reshape(num_crops, -1, features.shape[1]).mean(axis=0)
    return averaged
