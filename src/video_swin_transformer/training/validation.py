"""Metrics of the network on clips that it does not train on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config import ClipSampling, Preprocessing
from ..data import Annotations, EvalClips, Sample
from ..evaluation.intervals import Measure, bootstrap, wilson
from ..evaluation.metrics import AveragePrecision, Bools, Floats
from ..evaluation.regression import plcc, srcc
from ..model import VideoSwinTransformer
from ..postprocess import average_views, combine_views
from .data import Task
from .transforms import frame_indices

_SHUFFLE_SEED = 7


@dataclass(frozen=True)
class ValidationResult:
    """Sums over clips, and the metrics that follow from them.

    Attributes:
        num_clips: Clips that could be read.
        num_correct: Clips whose top-scoring class is one of their labels.
        num_correct_top5: Clips of which a label is among the five highest scores.
        loss_sum: Sum of the loss: -log of the score of the label, or the binary cross-entropy.
        failures: (path, reason) of clips that could not be read.
        scores: (N, K) of multi-label clips, else None.
        truth: (N, K) which labels they have, else None.
        values: (N, R) predicted numbers of a regression, else None.
        targets: (N, R) the true ones, else None.
    """

    num_clips: int
    num_correct: int
    num_correct_top5: int
    loss_sum: float
    failures: tuple[tuple[str, str], ...] = ()
    scores: Floats | None = field(default=None, compare=False)
    truth: Bools | None = field(default=None, compare=False)
    values: Floats | None = field(default=None, compare=False)
    targets: Floats | None = field(default=None, compare=False)

    @classmethod
    def merge(cls, parts: Sequence[ValidationResult]) -> ValidationResult:
        """Merges the results of several processes.

        Args:
            parts: The result of each process.
        """

        def concatenate(arrays: list[np.ndarray[Any, Any] | None]) -> Any:
            present = [array for array in arrays if array is not None]
            return np.concatenate(present) if present else None

        return cls(
            sum(part.num_clips for part in parts),
            sum(part.num_correct for part in parts),
            sum(part.num_correct_top5 for part in parts),
            sum(part.loss_sum for part in parts),
            tuple(failure for part in parts for failure in part.failures),
            concatenate([part.scores for part in parts]),
            concatenate([part.truth for part in parts]),
            concatenate([part.values for part in parts]),
            concatenate([part.targets for part in parts]),
        )

    @property
    def metrics(self) -> dict[str, float]:
        """The validation metric and a second one, named as in `videoswin evaluate`.

        Of several regression targets, they are the mean.
        """
        if self.values is not None and self.targets is not None:
            pairs = list(zip(self.targets.T, self.values.T, strict=True))
            return {
                "srcc": float(np.mean([srcc(*pair) for pair in pairs])),
                "plcc": float(np.mean([plcc(*pair) for pair in pairs])),
            }
        if self.scores is None or self.truth is None:
            return {"top1": self.top1, "top5": self.top5}
        num_labeled = int(self.truth.any(axis=1).sum())
        hit1 = self.num_correct / max(num_labeled, 1)
        return {"map": AveragePrecision(self.scores, self.truth).mean(), "hit1": hit1}

    def measure(self) -> Measure:
        """The validation metric with its 95% interval."""
        if self.values is not None and self.targets is not None:
            values, targets = self.values, self.targets

            def mean_srcc(counts: np.ndarray[Any, np.dtype[np.int64]]) -> float:
                columns = zip(targets.T, values.T, strict=True)
                return float(
                    np.mean([srcc(np.repeat(t, counts), np.repeat(v, counts)) for t, v in columns])
                )

            return bootstrap(mean_srcc, self.num_clips, values.size)
        if self.scores is None or self.truth is None:
            return wilson(self.num_correct, self.num_clips)
        if not self.num_clips:
            return wilson(0, 0)
        precision = AveragePrecision(self.scores, self.truth)
        return bootstrap(precision.mean, self.num_clips, self.scores.size)

    @property
    def top1(self) -> float:
        """Fraction of clips of which a label has the highest score."""
        return self.num_correct / max(self.num_clips, 1)

    @property
    def top5(self) -> float:
        """Fraction of clips of which a label is among the five highest scores."""
        return self.num_correct_top5 / max(self.num_clips, 1)

    @property
    def loss(self) -> float:
        """Mean loss per clip."""
        return self.loss_sum / max(self.num_clips, 1)


def metric_names(task: Task) -> tuple[str, str]:
    """The keys of `ValidationResult.metrics`; the first is the validation metric."""
    if task == "regression":
        return ("srcc", "plcc")
    return ("map", "hit1") if task == "multilabel" else ("top1", "top5")


def validate(
    model: VideoSwinTransformer,
    annotations: Annotations,
    sampling: ClipSampling,
    preprocessing: Preprocessing,
    frame_order: str,
    indices: range,
    num_threads: int,
    device: torch.device,
    autocast: AbstractContextManager[object],
) -> ValidationResult:
    """Evaluates a model; the scores of a clip are averaged over views.

    Args:
        model: The model; it is left in eval mode.
        annotations: The clips. Clips without labels are negatives for all classes in multi-label
            data, and are skipped otherwise.
        sampling: The sampling.
        preprocessing: The preprocessing.
        frame_order: "natural", "single_frame" or "shuffled".
        indices: The clips of this process.
        num_threads: Number of threads that read clips.
        device: Device of the model.
        autocast: Autocast context.

    Returns:
        Sums over the clips of this process, and the unreadable clips.
    """
    clips = EvalClips(annotations, sampling, preprocessing)
    is_multilabel = annotations.is_multilabel
    labeled_indices = [
        index
        for index in indices
        if is_multilabel or annotations.targets or annotations.items[index].labels
    ]
    model.eval()
    binary = model.bundle.multi_label
    num_clips = num_correct = num_correct_top5 = 0
    loss_sum = 0.0
    failures = []
    scores_rows: list[Floats] = []
    truth_rows: list[Bools] = []
    values_rows: list[Floats] = []
    targets_rows: list[Floats] = []
    with torch.inference_mode(), autocast:
        for sample in _prefetch(clips, labeled_indices, num_threads):
            if sample.error is not None:
                failures.append((sample.path, sample.error))
                continue
            views = torch.from_numpy(_reorder_frames(sample, frame_order)).to(device)
            scores = _scores(model, views)
            if annotations.targets:
                num_clips += 1
                values_rows.append(scores.double().cpu().numpy())
                targets_rows.append(np.asarray(sample.targets, np.float64))
                continue
            ranks = [int((scores > scores[label]).sum()) for label in sample.labels]
            rank = min(ranks, default=len(scores))
            num_clips += 1
            num_correct += rank < 1
            num_correct_top5 += rank < 5
            loss_sum += _loss(scores, sample.labels, binary)
            if is_multilabel:
                scores_rows.append(scores.double().cpu().numpy())
                truth_rows.append(np.isin(np.arange(len(scores)), sample.labels))
    if annotations.targets:
        shape = (num_clips, model.num_classes)
        values, targets = (np.reshape(rows, shape) for rows in (values_rows, targets_rows))
        stds = np.array([target.std for target in model.bundle.targets])
        loss_sum = float((((values - targets) / stds) ** 2).mean(axis=1).sum())
        return ValidationResult(
            num_clips, 0, 0, loss_sum, tuple(failures), values=values, targets=targets
        )
    if not is_multilabel:
        return ValidationResult(num_clips, num_correct, num_correct_top5, loss_sum, tuple(failures))
    shape = (num_clips, model.num_classes)
    return ValidationResult(
        num_clips,
        num_correct,
        num_correct_top5,
        loss_sum,
        tuple(failures),
        np.reshape(np.asarray(scores_rows, np.float64), shape),
        np.reshape(np.asarray(truth_rows, np.bool_), shape),
    )


def _prefetch(clips: EvalClips, indices: list[int], num_threads: int) -> Iterator[Sample]:
    """Samples in order, read ahead by threads: decoding releases the GIL."""
    with ThreadPoolExecutor(max(num_threads, 1)) as pool:
        pending: deque[Future[Sample]] = deque()
        try:
            for index in indices:
                pending.append(pool.submit(clips.__getitem__, index))
                if len(pending) > 2 * num_threads + 1:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _reorder_frames(
    sample: Sample, frame_order: str
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The views (V, C, T, H, W) of a sample with their frames in the given order."""
    generator = np.random.default_rng((_SHUFFLE_SEED, sample.index))
    order = frame_indices(sample.views.shape[2], frame_order, generator)
    return np.ascontiguousarray(sample.views[:, :, order])


def _scores(model: VideoSwinTransformer, views: Tensor) -> Tensor:
    """(V, C, T, H, W) -> (K,), one view at a time, so memory does not depend on their number."""
    logits = torch.cat([model(view[None]).float() for view in views])
    view_logits = logits.cpu().double().numpy()
    bundle = model.bundle
    if bundle.targets:
        return torch.from_numpy(combine_views(view_logits, bundle)[0])
    return torch.from_numpy(average_views(view_logits, "prob", bundle.multi_label)[0])


def _loss(scores: Tensor, labels: tuple[int, ...], binary: bool) -> float:
    """-log of the label's score, or the mean binary cross-entropy over the classes."""
    if not binary:
        return -float(scores[labels[0]].clamp_min(1e-30).log())
    probabilities = 1 - scores
    probabilities[list(labels)] = scores[list(labels)]
    return -float(probabilities.clamp_min(1e-30).log().mean())
