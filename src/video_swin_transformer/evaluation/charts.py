"""Charts of an evaluation as SVG text, drawn by matplotlib.

The colors are readable on light and dark pages; standalone files get a white background.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import MissingExtraError
from .metrics import Calibration, Ints
from .summary import EvaluationResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE = "#1f6feb"
_FOREGROUND = "#7a838e"  # contrast above 3.5 on white and on the dark page
_MAX_CLASS_NAMES = 60  # without names above this number of classes
_MAX_CELL_COUNTS = 20  # without counts above this number of classes
_MAX_NAME_LENGTH = 26


def shown_classes(confusion: Ints) -> list[int]:
    """Returns the classes that occur or are predicted, omitting empty rows and columns."""
    return np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1)).tolist()


def confusion_svg(result: EvaluationResult, *, standalone: bool = False) -> str:
    """Draws the row-normalized confusion matrix; rows are true labels, columns predicted labels."""
    assert result.confusion is not None
    shown = shown_classes(result.confusion)
    counts = result.confusion[np.ix_(shown, shown)]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    num = len(shown)
    side = max(3.2, min(8.0, 0.38 * num + 1.6))  # inches
    figure, axes = _figure(side, side)
    # Gamma correction makes rare confusions visible, more so if cells are tiny.
    power = 0.5 if num <= _MAX_CLASS_NAMES else 0.25
    axes.imshow(_blue_rgba(shares**power), interpolation="nearest")
    if num <= _MAX_CLASS_NAMES:
        names = [_short(result.class_name(label)) for label in shown]
        axes.set_xticks(range(num), names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(num), names)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    if num <= _MAX_CELL_COUNTS:
        for row, column in np.argwhere(counts).tolist():
            color = "white" if shares[row, column] > 0.25 else _FOREGROUND
            text = str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    axes.set_xlabel("predicted label")
    axes.set_ylabel("true label")
    return _to_svg(figure, "Confusion matrix", standalone)


def reliability_svg(found: Calibration, *, standalone: bool = False) -> str:
    """Draws accuracy by confidence; perfectly calibrated scores follow the dashed line."""
    num = len(found.counts)
    figure, axes = _figure(3.6, 3.6)
    max_count = max(found.counts)
    for index, count in enumerate(found.counts):
        if count:
            axes.bar(
                (index + 0.5) / num,
                found.accuracy[index],
                width=0.92 / num,
                color=_BLUE,
                alpha=0.3 + 0.7 * count / max_count,
            )
    axes.plot([0, 1], [0, 1], linestyle="--", color=_FOREGROUND, linewidth=1)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    return _to_svg(figure, "Reliability diagram", standalone)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "evaluate", "The report of an evaluation") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.tick_params(colors=_FOREGROUND, labelsize=8)
    axes.xaxis.label.set_color(_FOREGROUND)
    axes.yaxis.label.set_color(_FOREGROUND)
    for spine in axes.spines.values():
        spine.set_color(_FOREGROUND)
    return figure, axes


def _to_svg(figure: Figure, title: str, standalone: bool) -> str:
    from matplotlib import rc_context

    figure.patch.set_alpha(1.0 if standalone else 0.0)
    data = io.StringIO()
    # The fixed salt makes files reproducible; "none" keeps text as text.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "videoswin"}):
        figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    text = re.sub(r"<metadata>.*?</metadata>", "", data.getvalue(), flags=re.DOTALL)
    return text[text.index("<svg") :].strip()


def _blue_rgba(opacity: Any) -> Any:
    """Converts opacity (H, W) in [0, 1] to RGBA (H, W, 4) in blue."""
    rgba = np.empty((*opacity.shape, 4))
    rgba[..., :3] = (0x1F / 255, 0x6F / 255, 0xEB / 255)
    rgba[..., 3] = opacity
    return rgba


def _short(name: str) -> str:
    if len(name) <= _MAX_NAME_LENGTH:
        return name
    return name[: _MAX_NAME_LENGTH - 1] + "\u2026"
