"""Targets, losses and their weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from .dataloader import Batch


def build_targets(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Smoothed target distributions.

    Args:
        labels: (B, L) int64, padded with -1.
        num_classes: K.
        smoothing: s.

    Returns:
        (B, K) float32: 1 - s + s / K for the classes of a clip, s / K for the others.
    """
    targets = F.one_hot(labels + 1, num_classes + 1)[..., 1:].amax(dim=1).float()
    return targets * (1 - smoothing) + smoothing / num_classes


def clip_losses(logits: Tensor, targets: Tensor, *, binary: bool = False) -> Tensor:
    """The loss of each clip, in float32.

    Args:
        logits: (B, K).
        targets: (B, K) float32.
        binary: The mean over classes of the binary cross-entropy, instead of the cross-entropy.

    Returns:
        (B,) float32.
    """
    if binary:
        losses = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
        return losses.mean(dim=-1)
    return -(targets * F.log_softmax(logits.float(), dim=-1)).sum(dim=-1)


def regression_losses(logits: Tensor, targets: Tensor, distance: str, delta: float) -> Tensor:
    """The mean distance of each clip over its targets, in float32.

    Args:
        logits: (B, R), standardized.
        targets: (B, R) float32, standardized.
        distance: "mse" or "huber".
        delta: Where the Huber loss becomes linear.

    Returns:
        (B,) float32.
    """
    if distance == "mse":
        losses = F.mse_loss(logits.float(), targets, reduction="none")
    else:
        losses = F.huber_loss(logits.float(), targets, reduction="none", delta=delta)
    return losses.mean(dim=-1)


def scaled_class_weights(
    counts: Sequence[int], weights: str | Sequence[float] | None
) -> list[float] | None:
    """One weight per class, with a mean of 1 over the clips.

    Args:
        counts: Clips of each class.
        weights: "balanced" is 1 / count; or one number per class; None: no weights.
    """
    if weights is None:
        return None
    if weights == "balanced":
        raw = [1 / max(count, 1) for count in counts]
    else:
        raw = [float(weight) for weight in weights]
    mean = sum(w * count for w, count in zip(raw, counts, strict=True)) / max(sum(counts), 1)
    return [w / mean for w in raw]


def loss_weights(batch: Batch, class_weights: Tensor | None) -> Tensor:
    """The weight of each clip's loss, (B,): 0 for padding, else that of its class."""
    if class_weights is None:
        return batch.weights
    return batch.weights * class_weights[batch.labels[:, 0]]
