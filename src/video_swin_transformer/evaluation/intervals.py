"""95% confidence intervals of metrics. They cover sampling error only."""

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
_MAX_VALUES = (
    1_000_000_000  # limits the time to about a minute; larger datasets get fewer resamples
)
SEED = 20210624


@dataclass(frozen=True)
class Measure:
    """A metric with its confidence interval.

    Attributes:
        value: The metric.
        low: Lower bound; NaN if there is none.
        high: Upper bound; NaN if there is none.
    """

    value: float
    low: float
    high: float


def wilson(num_correct: int, num_total: int) -> Measure:
    """Computes a proportion with its Wilson score interval.

    Args:
        num_correct: Number of successes.
        num_total: Number of trials.

    Returns:
        The proportion; NaN if `num_total` is 0.
    """
    if num_total == 0:
        return Measure(math.nan, math.nan, math.nan)
    test = _scipy_stats().binomtest(num_correct, num_total)
    interval = test.proportion_ci(CONFIDENCE, method="wilson")
    return Measure(num_correct / num_total, float(interval.low), float(interval.high))


def bootstrap(
    statistic: Callable[[npt.NDArray[np.int64]], float], num_clips: int, num_values: int
) -> Measure:
    """Computes a metric with its percentile bootstrap interval over clips.

    The seed is fixed, so results are reproducible.

    Args:
        statistic: Computes the metric from the weight (count) of each clip, (N,) int64.
        num_clips: Number of clips, N.
        num_values: Number of values that `statistic` processes; limits the number of resamples.

    Returns:
        The metric and its interval.
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
    low, high = np.nanquantile(values, (tail, 1 - tail))  # NaN if a resample has no valid class
    return Measure(value, float(low), float(high))


def _scipy_stats() -> Any:
    try:
        from scipy import stats
    except ImportError as error:
        raise MissingExtraError("scipy", "evaluate", "Evaluation") from error
    return stats
