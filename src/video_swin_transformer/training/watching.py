"""How good a network is on clips it does not learn from."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..config import ClipSampling, Preprocessing
from ..data import Annotations, Sample, TestViews
from .augment import frame_order

_SHUFFLE_SEED = 7


@dataclass(frozen=True)
class Watched:
    """Sums over clips. losses: of -log score of the right class."""

    num_clips: int
    num_right: int
    num_right5: int
    losses: float
    failures: tuple[tuple[str, str], ...] = ()

    @property
    def top1(self) -> float:
        return self.num_right / max(self.num_clips, 1)

    @property
    def top5(self) -> float:
        return self.num_right5 / max(self.num_clips, 1)

    @property
    def loss(self) -> float:
        return self.losses / max(self.num_clips, 1)


def watch(
    model: nn.Module,
    annotations: Annotations,
    sampling: ClipSampling,
    preprocessing: Preprocessing,
    control: str,
    share: range,
    num_readers: int,
    device: torch.device,
    autocast: AbstractContextManager[object],
) -> Watched:
    """The mean of softmax over views of the clips in `share`; clips without a label are left out.

    The model is put in evaluation mode and left so. Clips that cannot be read are reported.
    """
    views = TestViews(annotations, sampling, preprocessing)
    wanted = [index for index in share if annotations.items[index].labels]
    model.eval()
    right = right5 = num = 0
    losses = 0.0
    failures = []
    with torch.inference_mode(), autocast:
        for sample in _read_ahead(views, wanted, num_readers):
            if sample.error is not None:
                failures.append((sample.path, sample.error))
                continue
            clips = torch.from_numpy(_controlled(sample, control)).to(device)
            scores = _scores(model, clips)
            label = sample.labels[0]
            place = int((scores > scores[label]).sum())
            num, right, right5 = num + 1, right + (place < 1), right5 + (place < 5)
            losses -= float(scores[label].clamp_min(1e-30).log())
    return Watched(num, right, right5, losses, tuple(failures))


def _scores(model: nn.Module, views: Tensor) -> Tensor:
    """(V, C, T, H, W) -> (K,): one view at a time, so that memory does not depend on the views."""
    logits = torch.cat([model(view[None]).float() for view in views])
    return logits.softmax(-1).mean(0)


def _controlled(sample: Sample, control: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Views (V, C, T, H, W) whose frames have lost their order where the control says so."""
    generator = np.random.default_rng((_SHUFFLE_SEED, sample.index))
    order = frame_order(sample.views.shape[2], control, generator)
    return np.ascontiguousarray(sample.views[:, :, order])


def _read_ahead(views: TestViews, wanted: list[int], num_readers: int) -> Iterator[Sample]:
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
