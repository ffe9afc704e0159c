"""How time grows with the number of frames, the side of the frames and the batch."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from video_swin_transformer.runtimes import Runtime

_log = logging.getLogger(__name__)

FRAMES = (8, 16, 32, 64, 128)  # at 224 x 224
SIDES = (112, 160, 224, 288, 384)  # of 32 frames
BATCHES = (1, 2, 4, 8)  # of 32 x 224 x 224


def scaling(runtimes: Mapping[tuple[str, str], Runtime], num_rounds: int) -> dict[str, Any]:
    """Median seconds by runtime along each of the three axes."""
    axes = {
        "frames": [(n, (1, 3, n, 224, 224)) for n in FRAMES],
        "side": [(s, (1, 3, 32, s, s)) for s in SIDES],
        "batch": [(b, (b, 3, 32, 224, 224)) for b in BATCHES],
    }
    result: dict[str, Any] = {}
    for axis, points in axes.items():
        result[axis] = {" ".join(key): {} for key in runtimes}
        for value, shape in points:
            _log.info("scaling: %s %s", axis, value)
            views = np.random.default_rng(0).standard_normal(shape, np.float32)
            for key, runtime in runtimes.items():
                result[axis][" ".join(key)][str(value)] = _seconds(runtime, views, num_rounds)
    return result


def _seconds(runtime: Runtime, views: np.ndarray[Any, Any], num_rounds: int) -> float:
    runtime.run(views)
    took = []
    for _ in range(num_rounds):
        began = time.perf_counter()
        runtime.run(views)
        took.append(time.perf_counter() - began)
    return statistics.median(took)
