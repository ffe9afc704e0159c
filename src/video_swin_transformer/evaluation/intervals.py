"""95 % intervals: the uncertainty of a metric because the clips are a sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import MissingExtraError

CONFIDENCE = 0.95
NUM_RESAMPLES = 1000
_MIN_RESAMPLES = 200
_MAX_VALUES = 1_000_000_000  # of all resamples, a minute or so; larger sets get fewer resamples
SEED = 20210624


@dataclass(frozen=True)
class Measure:
    """A metric with its interval."""

    value: float
    low: float
    high: float


def wilson(num_correct: int, num_total: int) -> Measure:
    """A proportion with Wilson's interval, which holds near 0 and 1 and for few clips."""
    if num_total == 0:
        return Measure(math.nan, math.nan, math.nan)
    test = _scipy_stats().binomtest(num_correct, num_total)
    interval = test.proportion_ci(CONFIDENCE, method="wilson")
    return Measure(num_correct / num_total, float(interval.low), float(interval.high))


def bootstrap(
    statistic: Callable[[npt.NDArray[np.int64]], float], num_clips: int, num_values: int
) -> Measure:
    """A metric with its percentile bootstrap interval over clips.

    The seed is fixed: the same clips give the same interval.

    Args:
        statistic: the number of times each of the N clips counts -> the metric.
        num_clips: N.
        num_values: numbers that one call of `statistic` handles, to bound the time.
    """
    num_resamples = max(_MIN_RESAMPLES, min(NUM_RESAMPLES, _MAX_VALUES // max(num_values, 1)))
    value = statistic(np.ones(num_clips, np.int64))
    if num_clips < 2:
        return Measure(value, value, value)
    result = _scipy_stats().bootstrap(
        (np.arange(num_clips),),
        lambda clips: statistic(np.bincount(clips, minlength=num_clips)),
        n_resamples=num_resamples,
        batch=1,
        vectorized=False,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    values = result.bootstrap_distribution
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(values, (tail, 1 - tail))  # a resample may lack every class
    return Measure(value, float(low), float(high))


def _scipy_stats() -> Any:
    try:
        from scipy import stats
    except ImportError as error:
        raise MissingExtraError("scipy", "evaluate", "Evaluation") from error
    return stats
