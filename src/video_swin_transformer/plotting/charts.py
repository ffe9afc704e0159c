"""Charts: confusion matrix, reliability, curves over time, timeline of segments."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from .theme import add_legend, new_figure, theme_named, tinted_rgba

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_CLASS_NAMES = 60  # without names above this number of classes
_MAX_CELL_COUNTS = 20  # without counts above this number of classes
_MAX_NAME_LENGTH = 26
_MAX_LANES = 4


class Segment(NamedTuple):
    """A labeled part of a video."""

    start_seconds: float
    end_seconds: float
    label: str
    score: float  # in [0, 1]


def confusion_chart(
    counts: npt.NDArray[np.integer],
    names: Sequence[str],
    *,
    title: str = "Confusion matrix",
    theme: str = "light",
) -> Figure:
    """Draws a row-normalized confusion matrix; rows are true labels, columns predicted labels.

    Args:
        counts: (K, K) number of clips.
        names: K class names.
        title: Title.
        theme: Name of the theme.
    """
    look = theme_named(theme)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    num = len(counts)
    side = max(3.2, min(8.0, 0.38 * num + 1.6))  # inches
    figure, (axes,) = new_figure(side, side, look, title)
    axes.spines[["top", "right"]].set_visible(True)
    # Gamma correction makes rare confusions visible, more so if cells are tiny.
    power = 0.5 if num <= _MAX_CLASS_NAMES else 0.25
    axes.imshow(tinted_rgba(look.series[0], shares**power), interpolation="nearest")
    if num <= _MAX_CLASS_NAMES:
        short = [_short(name) for name in names]
        axes.set_xticks(range(num), short, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(num), short)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    on_cell = look.background or "#ffffff"
    if num <= _MAX_CELL_COUNTS:
        for row, column in np.argwhere(counts).tolist():
            color = on_cell if shares[row, column] > 0.25 else look.foreground
            text = str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    axes.set_xlabel("predicted label")
    axes.set_ylabel("true label")
    return figure


def reliability_chart(
    counts: Sequence[int],
    accuracy: Sequence[float],
    *,
    title: str = "Reliability diagram",
    theme: str = "light",
) -> Figure:
    """Draws accuracy by confidence; perfectly calibrated scores follow the dashed line.

    Args:
        counts: Number of clips in each of the equal bins of confidence from 0 to 1.
        accuracy: Accuracy in each bin, in [0, 1]; ignored for empty bins.
        title: Title.
        theme: Name of the theme.
    """
    look = theme_named(theme)
    num = len(counts)
    figure, (axes,) = new_figure(3.6, 3.6, look, title)
    max_count = max(counts)
    for index, count in enumerate(counts):
        if count:
            axes.bar(
                (index + 0.5) / num,
                accuracy[index],
                width=0.92 / num,
                color=look.series[0],
                alpha=0.3 + 0.7 * count / max_count,
            )
    axes.plot([0, 1], [0, 1], linestyle="--", color=look.foreground, linewidth=1)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    return figure


def curve_chart(
    x: npt.ArrayLike,
    curves: Mapping[str, npt.ArrayLike],
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    theme: str = "light",
) -> Figure:
    """Draws curves over a common axis, with a point at each value.

    Args:
        x: (N,) positions.
        curves: (N,) values by name; the names are shown if there are several.
        xlabel: What `x` is, with its unit.
        ylabel: What the values are, with their unit.
        title: Title.
        theme: Name of the theme.
    """
    look = theme_named(theme)
    figure, (axes,) = new_figure(6.4, 2.8, look, title)
    positions = np.asarray(x, np.float64)
    lowest = 0.0
    for (name, values), color in zip(curves.items(), itertools.cycle(look.series), strict=False):
        heights = np.asarray(values, np.float64)
        lowest = min(lowest, float(heights.min(initial=0.0)))
        axes.plot(
            positions, heights, color=color, marker="o", markersize=3.5, linewidth=1.6, label=name
        )
    if len(curves) > 1:
        add_legend(axes, look)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if lowest == 0.0:
        axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=look.faint, linewidth=0.7)
    axes.set_axisbelow(True)
    return figure


def timeline_chart(
    segments: Sequence[Segment],
    duration_seconds: float,
    *,
    title: str,
    theme: str = "light",
    in_lanes: bool = False,
) -> Figure:
    """Draws segments as bars over time, one row per label; the opacity is the score.

    Args:
        segments: The segments.
        duration_seconds: Length of the video.
        title: Title.
        theme: Name of the theme.
        in_lanes: Draw segments of a label that overlap below each other, in up to 4 lanes.
    """
    look = theme_named(theme)
    labels = list(dict.fromkeys(segment.label for segment in segments))
    figure, (axes,) = new_figure(7.5, 1.1 + 0.32 * max(1, len(labels)), look, title)
    for row, (label, color) in enumerate(zip(labels, itertools.cycle(look.series), strict=False)):
        mine = [segment for segment in segments if segment.label == label]
        lanes, num_lanes = _lanes(mine) if in_lanes else ([0] * len(mine), 1)
        height = 0.7 / num_lanes
        for (start, end, _, score), lane in zip(mine, lanes, strict=True):
            alpha = 0.35 + 0.65 * min(1.0, max(0.0, score))
            top = row - 0.35 + (lane + 0.5) * height
            axes.barh(top, end - start, left=start, height=height, color=color, alpha=alpha)
    axes.set_yticks(range(len(labels)), [_short(label) for label in labels])
    axes.invert_yaxis()
    axes.set_xlim(0, max(duration_seconds, 1e-3))
    axes.set_xlabel("time (s)")
    axes.grid(axis="x", color=look.faint, linewidth=0.7)
    axes.set_axisbelow(True)
    return figure


def _lanes(segments: Sequence[Segment]) -> tuple[list[int], int]:
    """The lane of each segment, so that few overlap, and the number of lanes."""
    free_at = [-np.inf] * _MAX_LANES
    lanes = []
    for segment in segments:
        free = [lane for lane, end in enumerate(free_at) if end <= segment.start_seconds + 1e-9]
        lane = free[0] if free else int(np.argmin(free_at))
        free_at[lane] = segment.end_seconds
        lanes.append(lane)
    return lanes, max(lanes, default=0) + 1


def _short(name: str) -> str:
    if len(name) <= _MAX_NAME_LENGTH:
        return name
    return name[: _MAX_NAME_LENGTH - 1] + "\u2026"
