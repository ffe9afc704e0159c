"""Pictures of an evaluation as SVG text, drawn by hand: they need no library and stay sharp.

Lines and letters take the color of the page around them (`currentColor`), so that the pictures
fit a light and a dark page; alone in a file they bring a white ground of their own.
"""

from __future__ import annotations

import base64
from html import escape

import cv2
import numpy as np

from .metrics import Calibration, Floats, Ints
from .summary import EvaluationResult

_BLUE = (31, 111, 235)  # R, G, B
_MATRIX_SIDE = 640  # pixels a large matrix gets
_MAX_NAMED = 60  # classes above which names would be too small to read
_MAX_COUNTED = 20  # classes above which numbers in the cells would be
_LETTER_WIDTH = 6.2  # of the 11 pixel type
_LONGEST_NAME = 26
_PLOT_SIDE = 300


def shown_classes(confusion: Ints) -> list[int]:
    """The classes that occur or are predicted; the others would be empty rows and columns."""
    return np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1)).tolist()


def confusion_svg(result: EvaluationResult, *, standalone: bool = False) -> str:
    """Rows are the right classes, columns the predicted ones; a row's shares add up to 1."""
    assert result.confusion is not None
    shown = shown_classes(result.confusion)
    counts = result.confusion[np.ix_(shown, shown)]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    num = len(shown)
    cell = max(min(34.0, _MATRIX_SIDE / num), 1.0)
    side = cell * num
    names = [_short(result.class_name(label)) for label in shown]
    has_names = num <= _MAX_NAMED
    margin = (max(map(len, names)) * _LETTER_WIDTH + 14) if has_names else 24
    parts = [
        f'<image x="{margin}" y="4" width="{side}" height="{side}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="{_cells_png(shares)}"/>',
        f'<rect x="{margin}" y="4" width="{side}" height="{side}" fill="none" '
        'stroke="currentColor" stroke-opacity="0.4"/>',
    ]
    if has_names:
        for place, name in enumerate(names):
            middle = (place + 0.5) * cell
            parts.append(_text(margin - 6, 4 + middle + 4, name, "end"))
            x, y = margin + middle + 4, side + 12
            parts.append(_text(x, y, name, "end", f"rotate(-60 {x:.1f} {y:.1f})"))
    if num <= _MAX_COUNTED:
        for row, column in np.argwhere(counts).tolist():
            color = "#fff" if shares[row, column] > 0.5 else "currentColor"
            x, y = margin + (column + 0.5) * cell, 8 + (row + 0.5) * cell
            parts.append(_text(x, y, str(counts[row, column]), "middle", color=color))
    bottom = side + margin * 0.9 + 30
    parts.append(_text(margin + side / 2, bottom - 6, "predicted", "middle"))
    x, y = 11, 4 + side / 2
    if not has_names:
        parts.append(_text(x, y, "right class", "middle", f"rotate(-90 {x} {y:.1f})"))
    return _svg(margin + side + 8, bottom, parts, "Confusion matrix", standalone)


def reliability_svg(found: Calibration, *, standalone: bool = False) -> str:
    """How often a score is right, by how high it is; on the dashed line it means what it says."""
    num, side, left, top = len(found.counts), _PLOT_SIDE, 44, 10
    most = max(found.counts)
    parts = []
    for place, count in enumerate(found.counts):
        if not count:
            continue
        x, width = left + place * side / num, side / num
        height = found.accuracy[place] * side
        shade = 0.3 + 0.7 * count / most
        title = (
            f"{count} clips, mean score {found.confidence[place]:.2f}, "
            f"right {found.accuracy[place]:.2f}"
        )
        parts.append(
            f'<rect x="{x + 1:.1f}" y="{top + side - height:.1f}" width="{width - 2:.1f}" '
            f'height="{height:.1f}" fill="rgb{_BLUE}" fill-opacity="{shade:.2f}">'
            f"<title>{title}</title></rect>"
        )
    bottom, right = top + side, left + side
    parts.append(
        f'<path d="M{left} {bottom}L{right} {top}" stroke="currentColor" stroke-dasharray="5 4" '
        'fill="none"/>'
    )
    parts.append(f'<path d="M{left} {top}V{bottom}H{right}" stroke="currentColor" fill="none"/>')
    for tick in (0.0, 0.5, 1.0):
        parts.append(_text(left - 6, bottom - tick * side + 4, f"{tick:g}", "end"))
        parts.append(_text(left + tick * side, bottom + 16, f"{tick:g}", "middle"))
    parts.append(_text(left + side / 2, bottom + 34, "score of the predicted class", "middle"))
    x, y = 13, top + side / 2
    parts.append(_text(x, y, "share that is right", "middle", f"rotate(-90 {x} {y})"))
    return _svg(right + 14, bottom + 44, parts, "Reliability diagram", standalone)


def _svg(width: float, height: float, parts: list[str], title: str, standalone: bool) -> str:
    ground = '<rect width="100%" height="100%" fill="#fff"/>' if standalone else ""
    color = ' color="#222"' if standalone else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.1f} {height:.1f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" font-family="system-ui,sans-serif" '
        f'font-size="11"{color}><title>{title}</title>{ground}{"".join(parts)}</svg>'
    )


def _text(
    x: float,
    y: float,
    text: str,
    anchor: str,
    transform: str | None = None,
    color: str = "currentColor",
) -> str:
    turned = f' transform="{transform}"' if transform else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}"{turned}>'
        f"{escape(text)}</text>"
    )


def _cells_png(shares: Floats) -> str:
    """A data url of one pixel a cell: blue, as opaque as the share is large."""
    # The root makes single mistakes visible, all the more where cells are tiny.
    power = 0.5 if len(shares) <= _MAX_NAMED else 0.25
    alpha = np.round(255 * shares**power).astype(np.uint8)
    pixels = np.empty((*shares.shape, 4), np.uint8)
    pixels[..., :3] = _BLUE[::-1]
    pixels[..., 3] = alpha
    _, data = cv2.imencode(".png", pixels)
    return "data:image/png;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "\u2026"
