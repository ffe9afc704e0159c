"""Averages the outputs of views to scores and features.

Views are crop-major: crop 0 of every clip, then crop 1 of every clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .config import BundleConfig

Floats = npt.NDArray[np.float32]
Scores = npt.NDArray[Any]  # with the dtype of the logits


class ViewOutputs(NamedTuple):
    """The outputs of a model for V views.

    Attributes:
        logits: (V, num_classes) float32; (V, num_features) without a classifier.
        features: (V, num_features) float32, averaged over time and space.
    """

    logits: Floats
    features: Floats

    @classmethod
    def concatenate(cls, parts: Sequence[ViewOutputs]) -> ViewOutputs:
        """Concatenates the outputs of consecutive batches of views.

        Args:
            parts: The outputs in order.
        """
        return cls(
            np.concatenate([part.logits for part in parts]),
            np.concatenate([part.features for part in parts]),
        )


def softmax(logits: npt.NDArray[np.floating]) -> Scores:
    """Computes the softmax of each row of (V, K) logits."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores: Scores = shifted / shifted.sum(axis=1, keepdims=True)
    return scores


def sigmoid(logits: npt.NDArray[np.floating]) -> Scores:
    """Computes the sigmoid of (V, K) logits without overflow."""
    scores: Scores = 0.5 * (1 + np.tanh(0.5 * logits))
    return scores


def average_views(
    logits: npt.NDArray[np.floating], average_clips: str, multi_label: bool
) -> tuple[Scores, Scores]:
    """Computes the scores of a video from the logits of its views.

    Args:
        logits: (V, K) float.
        average_clips: "prob" averages the scores of views (the published protocol), "score"
            averages their logits.
        multi_label: Use sigmoid instead of softmax.

    Returns:
        The scores of the video (K,) and of each view (V, K), in [0, 1].
    """
    to_scores = sigmoid if multi_label else softmax
    view_scores = to_scores(logits)
    if average_clips == "score":
        return to_scores(logits.mean(axis=0, keepdims=True))[0], view_scores
    return view_scores.mean(axis=0), view_scores


def combine_views(logits: npt.NDArray[np.floating], bundle: BundleConfig) -> tuple[Scores, Scores]:
    """Computes what a model says of a video from the logits of its views.

    Args:
        logits: (V, K) float.
        bundle: Whether the model has classes or regression targets, and how views are averaged.

    Returns:
        The result of the video (K,) and of each view (V, K): scores in [0, 1], or for regression
        targets their values in original units, averaged over views.
    """
    if not bundle.targets:
        return average_views(logits, bundle.average_clips, bundle.multi_label)
    means = np.array([target.mean for target in bundle.targets], logits.dtype)
    stds = np.array([target.std for target in bundle.targets], logits.dtype)
    values: Scores = logits * stds + means
    return values.mean(axis=0), values


def average_crops(features: Floats, num_crops: int) -> Floats:
    """Averages features over crops.

    Args:
        features: (num_crops * num_clips, C), crop-major.
        num_crops: Number of crops.

    Returns:
        (num_clips, C).
    """
    averaged: Floats = features.reshape(num_crops, -1, features.shape[1]).mean(axis=0)
    return averaged
