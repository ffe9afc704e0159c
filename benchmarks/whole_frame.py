"""Accuracy against cost of one view of the whole frame, on the camera-motion model.

Clips of the generator with a seed of their own, 160 x 112 pixels: one square crop in the middle,
three overlapping ones, or the whole frame in one pass.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camera_motion.generator import ClipGenerator
from video_swin_transformer.postprocess import average_views
from video_swin_transformer.preprocess import views_from_frames
from video_swin_transformer.runtimes import Runtime

_SEED = 70_000  # neither of the training nor of any test of it
_WIDTH, _HEIGHT = 160, 112


def wide_clips(num_clips: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(N, T, 112, 160, 3) uint8 RGB clips and their labels (N,)."""
    clips, labels = ClipGenerator("test", _SEED, side=_WIDTH).batch(0, num_clips)
    top = (_WIDTH - _HEIGHT) // 2
    return np.ascontiguousarray(clips[:, :, top : top + _HEIGHT]), labels


def whole_frame(runtime: Runtime, num_clips: int) -> dict[str, dict[str, Any]]:
    """Share of right labels and median seconds a clip for each kind of view."""
    clips, labels = wide_clips(num_clips)
    base = runtime.bundle.preprocessing
    kinds = {
        "1x1": dataclasses.replace(base, num_crops=1),
        "1x3": dataclasses.replace(base, num_crops=3),
        "1xfull": dataclasses.replace(base, num_crops=1, whole_frame=True),
    }
    hits = dict.fromkeys(kinds, 0)
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for clip, label in zip(clips, labels, strict=True):
        for kind, preprocessing in kinds.items():
            views = views_from_frames(clip[None], preprocessing)
            began = time.perf_counter()
            logits = runtime.run(views).logits
            seconds[kind].append(time.perf_counter() - began)
            hits[kind] += int(average_views(logits, "prob", False)[0].argmax() == label)
    return {
        kind: {"accuracy": hits[kind] / num_clips, "seconds": statistics.median(seconds[kind])}
        for kind in kinds
    }
