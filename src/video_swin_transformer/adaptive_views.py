"""Adaptive views: views of a video are added until its label is stable.

After n of N views, m is the mean lead of the best label over the second best (a score in [0, 1]
minus another, so in [-1, 1]). The decision of all N views is the same unless the mean lead of all N
is negative. A sample of n from N without replacement misses the mean by about

    standard error = sqrt(v / n * (N - n) / (N - 1))

v is the variance of the lead between views. It is estimated from the views seen, at least two, to
which one view with the largest variance that a lead of mean m can have, 1 - m**2 (Bhatia-Davis), is
added, so that two views suffice only if they are nearly certain. Views are added while
m / standard error is below the quantile of the normal distribution for `error_rate`, shared equally
among the N - 1 looks.

`error_rate` is the nominal chance that the label differs from that of all views. It is not a
guarantee: views of one video are not drawn at random, and the normal quantile is an approximation.
"""

from __future__ import annotations

import math
import statistics

import numpy as np
import numpy.typing as npt

from .config import require

DEFAULT_ERROR_RATE = 0.05
MIN_VIEWS = 2  # one view does not say how much views differ


def view_order(num_clips: int, num_crops: int) -> list[tuple[int, int]]:
    """Returns (clip, crop) of each view in the order in which views are added.

    The middle crop of each clip comes first, from the middle of the video outwards, then the
    other crops.

    Args:
        num_clips: Clips per video.
        num_crops: Crops per clip, in the order of `crop_offsets`.

    >>> view_order(4, 3)[:5]
    [(2, 2), (1, 2), (3, 2), (0, 2), (2, 0)]
    """
    # Crops are in the order of `crop_offsets`: of three, the middle one is last.
    crops = {1: [0], 3: [2, 0, 1], 5: [2, 0, 4, 1, 3], 10: [4, 9, 0, 3, 1, 2, 5, 8, 6, 7]}
    middle = num_clips / 2
    clips = sorted(range(num_clips), key=lambda clip: (abs(clip - middle), clip))
    return [(clip, crop) for crop in crops[num_crops] for clip in clips]


def is_decided(
    view_scores: npt.NDArray[np.floating], max_views: int, error_rate: float = DEFAULT_ERROR_RATE
) -> bool:
    """Whether more views are unlikely to change the label; see the top of this module.

    Args:
        view_scores: (n, K), the scores of the views so far, in [0, 1].
        max_views: N, the views that there could be.
        error_rate: Nominal chance that the label differs from that of all views.

    Returns:
        Whether to stop. Always true for all views and for a single label, never for one of several
        views.
    """
    require(0 < error_rate < 1, "error_rate", error_rate, "above 0 and below 1")
    num_views, num_labels = view_scores.shape
    if num_views >= max_views or num_labels < 2:
        return True
    if num_views < MIN_VIEWS:
        return False
    second, first = np.argsort(view_scores.mean(axis=0), kind="stable")[-2:]
    leads = view_scores[:, first].astype(np.float64) - view_scores[:, second]
    mean = float(leads.mean())
    variance = (1 - mean**2 + float(((leads - mean) ** 2).sum())) / num_views
    left = (max_views - num_views) / (max_views - 1)
    standard_error = math.sqrt(max(variance, 0.0) / num_views * left)
    quantile = -statistics.NormalDist().inv_cdf(error_rate / (max_views - 1))
    return mean > quantile * standard_error
