"""Clips of a worker -> the network's input and target, on the device that trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .transforms import Mix


@dataclass(frozen=True)
class Batch:
    """What is looked at in one forward pass.

    pixels: (B, T, S, S, 3) uint8 RGB. labels: (B, L) int64, the classes of each clip, filled up
    with -1. weights: (B,) float32, 0 for a clip that only fills up. erased: (B, 4) boxes (top,
    left, height, width). mixes: one a clip.
    failures: (path, reason) of clips that could not be read and have been replaced.
    """

    pixels: Tensor
    labels: Tensor
    weights: Tensor
    erased: Tensor
    mixes: tuple[Mix, ...]
    failures: tuple[tuple[str, str], ...] = ()


class Normalizer:
    """uint8 (B, T, S, S, 3) RGB -> float32 (B, C, T, S, S): (pixel - mean) / std."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self._mean = torch.tensor(mean, device=device).view(1, -1, 1, 1, 1)
        self._scale = (1 / torch.tensor(std, dtype=torch.float64)).float().to(device)
        self._scale = self._scale.view(1, -1, 1, 1, 1)
        self._is_gray = len(mean) == 1
        self._gray = torch.tensor([0.299, 0.587, 0.114], device=device)  # BT.601
        self._device = device

    def __call__(self, pixels: Tensor) -> Tensor:
        pixels = pixels.to(self._device, non_blocking=True)
        if self._is_gray:
            values = (pixels.float() @ self._gray).round_()[:, None]  # (B, T, S, S) -> one channel
        else:
            # (B, T, S, S, 3) -> (B, 3, T, S, S)
            values = pixels.permute(0, 4, 1, 2, 3).to(
                torch.float32, memory_format=torch.contiguous_format
            )
        return values.sub_(self._mean).mul_(self._scale)


def erase(clips: Tensor, boxes: Tensor) -> None:
    """Sets each clip's box to 0, the mean color, in all frames of (B, C, T, S, S)."""
    for clip, (top, left, height, width) in zip(clips, boxes.tolist(), strict=True):
        clip[..., top : top + height, left : left + width] = 0


def targets_of(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """(B, L) filled up with -1 -> (B, K) float32: 1 - s + s / K for a clip's classes, s / K for
    the others."""
    targets = F.one_hot(labels + 1, num_classes + 1)[..., 1:].amax(dim=1).float()
    return targets * (1 - smoothing) + smoothing / num_classes


def mix(clips: Tensor, targets: Tensor, mixes: Sequence[Mix]) -> tuple[Tensor, Tensor]:
    """Each clip with its opposite in the batch: the first with the last, and so on.

    clips (B, C, T, S, S), targets (B, K). mixup blends the pixels, cutmix puts a box of the other
    into all frames; the targets are blended by the shares. A lone clip stays as it is.
    """
    mixed, blended = clips.clone(), targets.clone()
    for index, (share, box) in enumerate(mixes):
        other = len(mixes) - 1 - index
        if box.height and box.width:
            rows, columns = (
                slice(box.top, box.top + box.height),
                slice(box.left, box.left + box.width),
            )
            mixed[index, ..., rows, columns] = clips[other, ..., rows, columns]
        else:
            mixed[index] = clips[index] * share + clips[other] * (1 - share)
        blended[index] = targets[index] * share + targets[other] * (1 - share)
    return mixed, blended


def clip_losses(logits: Tensor, targets: Tensor, *, multi_label: bool = False) -> Tensor:
    """(B,) cross-entropy of logits (B, K) with target distributions (B, K), in float32.

    multi_label: each class is a question of its own; the mean over classes.
    """
    if multi_label:
        losses = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
        return losses.mean(dim=-1)
    return -(targets * F.log_softmax(logits.float(), dim=-1)).sum(dim=-1)


def class_weights(counts: Sequence[int], plan: str | Sequence[float] | None) -> list[float] | None:
    """One weight a class with a mean of 1 over the clips; "balanced" weighs by 1 / count."""
    if plan is None:
        return None
    raw = (
        [1 / max(count, 1) for count in counts] if plan == "balanced" else [float(w) for w in plan]
    )
    mean = sum(w * count for w, count in zip(raw, counts, strict=True)) / max(sum(counts), 1)
    return [w / mean for w in raw]
