"""How good a network is on clips it does not learn from."""

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
from ..model import VideoSwinTransformer
from ..postprocess import average_views
from .transforms import frame_order

_SHUFFLE_SEED = 7


@dataclass(frozen=True)
class ValidationResult:
    """Sums over clips. losses: of -log score of the right class, or of the cross-entropy of each
    class on its own. num_right, num_right5: clips of which a class is the first, or among the first
    five. scores, truth: (N, K) where clips have several labels, else None."""

    num_clips: int
    num_right: int
    num_right5: int
    losses: float
    failures: tuple[tuple[str, str], ...] = ()
    scores: Floats | None = field(default=None, compare=False)
    truth: Bools | None = field(default=None, compare=False)

    @classmethod
    def joined(cls, parts: Sequence[ValidationResult]) -> ValidationResult:
        """The parts of several processes as one."""

        def stacked(arrays: list[np.ndarray[Any, Any] | None]) -> Any:
            there = [array for array in arrays if array is not None]
            return np.concatenate(there) if there else None

        return cls(
            sum(part.num_clips for part in parts),
            sum(part.num_right for part in parts),
            sum(part.num_right5 for part in parts),
            sum(part.losses for part in parts),
            tuple(failure for part in parts for failure in part.failures),
            stacked([part.scores for part in parts]),
            stacked([part.truth for part in parts]),
        )

    @property
    def figures(self) -> dict[str, float]:
        """The one that is watched, then another, by name and as `videoswin evaluate` has them."""
        if self.scores is None or self.truth is None:
            return {"top1": self.top1, "top5": self.top5}
        num_labeled = int(self.truth.any(axis=1).sum())
        hit1 = self.num_right / max(num_labeled, 1)
        return {"map": AveragePrecision(self.scores, self.truth).mean(), "hit1": hit1}

    def measure(self) -> Measure:
        """The watched figure with its interval."""
        if self.scores is None or self.truth is None:
            return wilson(self.num_right, self.num_clips)
        if not self.num_clips:
            return wilson(0, 0)
        precision = AveragePrecision(self.scores, self.truth)
        return bootstrap(precision.mean, self.num_clips, self.scores.size)

    @property
    def top1(self) -> float:
        return self.num_right / max(self.num_clips, 1)

    @property
    def top5(self) -> float:
        return self.num_right5 / max(self.num_clips, 1)

    @property
    def loss(self) -> float:
        return self.losses / max(self.num_clips, 1)


def metric_names(is_multilabel: bool) -> tuple[str, str]:
    """Names of what `ValidationResult.figures` holds."""
    return ("map", "hit1") if is_multilabel else ("top1", "top5")


def watch(
    model: VideoSwinTransformer,
    annotations: Annotations,
    sampling: ClipSampling,
    preprocessing: Preprocessing,
    control: str,
    share: range,
    num_readers: int,
    device: torch.device,
    autocast: AbstractContextManager[object],
) -> ValidationResult:
    """The mean over views of softmax or sigmoid of the clips in `share`. A clip without a label
    shows none of the classes where clips have several, else it is left out.

    The model is put in evaluation mode and left so. Clips that cannot be read are reported.
    """
    views = EvalClips(annotations, sampling, preprocessing)
    several = annotations.is_multilabel
    wanted = [index for index in share if several or annotations.items[index].labels]
    model.eval()
    multi_label = model.bundle.multi_label
    right = right5 = num = 0
    losses = 0.0
    failures = []
    table: list[Floats] = []
    truths: list[Bools] = []
    with torch.inference_mode(), autocast:
        for sample in _read_ahead(views, wanted, num_readers):
            if sample.error is not None:
                failures.append((sample.path, sample.error))
                continue
            clips = torch.from_numpy(_controlled(sample, control)).to(device)
            scores = _scores(model, clips)
            places = [int((scores > scores[label]).sum()) for label in sample.labels]
            place = min(places, default=len(scores))
            num, right, right5 = num + 1, right + (place < 1), right5 + (place < 5)
            losses += _loss(scores, sample.labels, multi_label)
            if several:
                table.append(scores.double().cpu().numpy())
                truths.append(np.isin(np.arange(len(scores)), sample.labels))
    if not several:
        return ValidationResult(num, right, right5, losses, tuple(failures))
    shape = (num, model.num_classes)
    return ValidationResult(
        num,
        right,
        right5,
        losses,
        tuple(failures),
        np.reshape(np.asarray(table, np.float64), shape),
        np.reshape(np.asarray(truths, np.bool_), shape),
    )


def _scores(model: VideoSwinTransformer, views: Tensor) -> Tensor:
    """(V, C, T, H, W) -> (K,): one view at a time, so that memory does not depend on the views."""
    logits = torch.cat([model(view[None]).float() for view in views])
    views_logits = logits.cpu().double().numpy()
    return torch.from_numpy(average_views(views_logits, "prob", model.bundle.multi_label)[0])


def _loss(scores: Tensor, labels: tuple[int, ...], multi_label: bool) -> float:
    """-log of the score of the right class, or the mean of it over questions of yes and no."""
    if not multi_label:
        return -float(scores[labels[0]].clamp_min(1e-30).log())
    own = 1 - scores
    own[list(labels)] = scores[list(labels)]
    return -float(own.clamp_min(1e-30).log().mean())


def _controlled(sample: Sample, control: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Views (V, C, T, H, W) whose frames have lost their order where the control says so."""
    generator = np.random.default_rng((_SHUFFLE_SEED, sample.index))
    order = frame_order(sample.views.shape[2], control, generator)
    return np.ascontiguousarray(sample.views[:, :, order])


def _read_ahead(views: EvalClips, wanted: list[int], num_readers: int) -> Iterator[Sample]:
    """Samples in order; threads, since decoding leaves Python's lock alone."""
    with ThreadPoolExecutor(max(num_readers, 1)) as pool:
        waiting: deque[Future[Sample]] = deque()
        try:
            for index in wanted:
                waiting.append(pool.submit(views.__getitem__, index))
                if len(waiting) > 2 * num_readers + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
