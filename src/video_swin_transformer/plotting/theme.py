"""Colors, figures, and figures as SVG or PNG. matplotlib is imported when a figure is made."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError, UnknownNameError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 110


@dataclass(frozen=True)
class Theme:
    """Colors of a picture, as "#rrggbb".

    Attributes:
        name: Name of the theme.
        background: Background; None for transparent.
        foreground: Text, axes and lines that are not data.
        faint: Grid lines and the fill of empty areas.
        series: Colors of the series of a chart, in order.
    """

    name: str
    background: str | None
    foreground: str
    faint: str
    series: tuple[str, ...]


# The palette of Okabe and Ito, which people with any color vision can distinguish. On dark
# backgrounds its dark blue is too faint, so the order differs.
_BLUE, _ORANGE, _GREEN, _VERMILION, _SKY, _PURPLE = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#56b4e9",
    "#cc79a7",
)
THEMES = {
    theme.name: theme
    for theme in (
        Theme(
            "light",
            "#ffffff",
            "#3d444d",
            "#d9dee3",
            (_BLUE, _VERMILION, _GREEN, _PURPLE, _ORANGE, _SKY),
        ),
        Theme(
            "dark",
            "#14181d",
            "#c9d1d9",
            "#363d45",
            (_SKY, _ORANGE, _GREEN, _PURPLE, _VERMILION, _BLUE),
        ),
        # For pages that may be light or dark: contrast above 3.5 on both.
        Theme("page", None, "#7a838e", "#8b949e40", ("#1f6feb", _VERMILION, _GREEN, _PURPLE)),
    )
}


def theme_named(name: str) -> Theme:
    """Returns a theme.

    Args:
        name: "light", "dark", or "page" for SVG inside a page of either kind: transparent and
            without a title.

    Raises:
        UnknownNameError: There is no such theme.
    """
    if name not in THEMES:
        raise UnknownNameError("theme", name, THEMES)
    return THEMES[name]


def require_matplotlib() -> None:
    """Raises MissingExtraError if matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("matplotlib", "explain", "Drawing pictures") from error


def new_figure(
    width: float, height: float, theme: Theme, title: str = "", rows: int = 1, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """Makes a figure whose axes have the colors of a theme.

    Args:
        width: Inches.
        height: Inches.
        theme: The theme.
        title: Title; not shown on the theme "page", whose page has headings.
        rows: Rows of axes.
        columns: Columns of axes.

    Returns:
        The figure, and its axes row by row.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=_DOTS_PER_INCH)
    if theme.background is None:
        figure.patch.set_alpha(0.0)
    else:
        figure.patch.set_facecolor(theme.background)
    if title and theme.name != "page":
        figure.suptitle(title, color=theme.foreground, fontsize=10)
    all_axes: list[Axes] = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes in all_axes:
        axes.patch.set_alpha(0)
        axes.tick_params(colors=theme.foreground, labelsize=8)
        axes.xaxis.label.set_color(theme.foreground)
        axes.yaxis.label.set_color(theme.foreground)
        axes.xaxis.label.set_fontsize(9)
        axes.yaxis.label.set_fontsize(9)
        for spine in axes.spines.values():
            spine.set_color(theme.foreground)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, all_axes


def add_legend(axes: Axes, theme: Theme) -> None:
    """Adds a legend without a frame."""
    axes.legend(frameon=False, fontsize=8, labelcolor=theme.foreground)


def figure_svg(figure: Figure, title: str) -> str:
    """Returns a figure as SVG text, the same for the same figure.

    Args:
        figure: The figure.
        title: Title for screen readers.
    """
    from matplotlib import rc_context

    data = io.StringIO()
    # The fixed salt makes files reproducible; "none" keeps text as text.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "videoswin"}):
        figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    text = re.sub(r"<metadata>.*?</metadata>", "", data.getvalue(), flags=re.DOTALL)
    return text[text.index("<svg") :].strip()


def figure_png(figure: Figure) -> bytes:
    """Returns a figure as the bytes of a PNG file."""
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


def rgb(color: str) -> tuple[int, int, int]:
    """Converts "#rrggbb" to values in 0..255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def tinted_rgba(color: str, opacity: Any) -> Any:
    """Converts opacity (H, W) in [0, 1] to RGBA (H, W, 4) in [0, 1] of one color."""
    import numpy as np

    rgba = np.empty((*opacity.shape, 4))
    rgba[..., :3] = np.array(rgb(color)) / 255
    rgba[..., 3] = opacity
    return rgba
