"""95 % intervals: how far a figure may be off because the clips are a sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_Z = 1.959963984540054  # two-sided 95 % of the normal distribution
NUM_RESAMPLES = 1000
_MIN_RESAMPLES = 200
_MAX_BOOTSTRAP_VALUES = 1_000_000_000  # a minute or so; larger sets get fewer resamples
SEED = 20210624


@dataclass(frozen=True)
class Measure:
    """A figure with its interval."""

    value: float
    low: float
    high: float


def wilson(num_right: int, num_all: int) -> Measure:
    """A share of clips with Wilson's interval, which is sound near 0 and 1 and for few clips."""
    if num_all == 0:
        return Measure(math.nan, math.nan, math.nan)
    share = num_right / num_all
    z2 = _Z * _Z / num_all
    center = (share + z2 / 2) / (1 + z2)
    half = _Z * math.sqrt(share * (1 - share) / num_all + z2 / (4 * num_all)) / (1 + z2)
    # At 0 and 1 the two terms are equal, but for rounding.
    low = 0.0 if num_right == 0 else center - half
    high = 1.0 if num_right == num_all else center + half
    return Measure(share, low, high)


def bootstrap(
    statistic: Callable[[npt.NDArray[np.int64]], float], num_clips: int, values_a_pass: int
) -> Measure:
    """statistic(how often each of N clips counts), with its interval over resampled clips.

    The percentile bootstrap with a fixed seed: the same clips give the same interval.
    values_a_pass: how many numbers one call of `statistic` handles, to bound the time.
    """
    value = statistic(np.ones(num_clips, np.int64))
    affordable = _MAX_BOOTSTRAP_VALUES // max(values_a_pass, 1)
    num_resamples = max(_MIN_RESAMPLES, min(NUM_RESAMPLES, affordable))
    generator = np.random.default_rng(SEED)
    drawn = []
    for _ in range(num_resamples):
        picks = generator.integers(num_clips, size=num_clips)
        drawn.append(statistic(np.bincount(picks, minlength=num_clips)))
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return Measure(value, float(low), float(high))
