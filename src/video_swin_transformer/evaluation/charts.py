"""Charts of an evaluation as SVG text, drawn by `plotting`."""

from __future__ import annotations

import numpy as np

from ..plotting import confusion_chart, figure_svg, reliability_chart
from .metrics import Calibration, Ints
from .summary import EvaluationResult


def shown_classes(confusion: Ints) -> list[int]:
    """Returns the classes that occur or are predicted, omitting empty rows and columns."""
    return np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1)).tolist()


def confusion_svg(result: EvaluationResult, *, theme: str) -> str:
    """Draws the confusion matrix of the classes that occur."""
    assert result.confusion is not None
    shown = shown_classes(result.confusion)
    names = [result.class_name(label) for label in shown]
    chart = confusion_chart(result.confusion[np.ix_(shown, shown)], names, theme=theme)
    return figure_svg(chart, "Confusion matrix")


def reliability_svg(found: Calibration, *, theme: str) -> str:
    """Draws accuracy by confidence."""
    chart = reliability_chart(found.counts, found.accuracy, theme=theme)
    return figure_svg(chart, "Reliability diagram")
