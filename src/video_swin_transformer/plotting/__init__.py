"""All pictures of the package: charts, frames with heat maps, contact sheets, HTML for notebooks.

theme.py     colors, figures, and figures as SVG or PNG; the only module with a style
charts.py    confusion matrix, reliability, curves, timeline
frames.py    heat maps over frames, contact sheets, captions, frames as HTML
movie.py     frames as an H.264 video

The functions take plain arrays and text, and know nothing of models. Colors can be distinguished
with color vision deficiencies. Every picture comes in a light and a dark theme.
"""

from .charts import Segment, confusion_chart, curve_chart, reliability_chart, timeline_chart
from .frames import (
    FrameBox,
    captioned,
    dimmed_outside,
    encode_png,
    frames_html,
    overlay_heat,
    readable_size,
    resized_maps,
    sheet_chart,
    sheet_pair,
)
from .movie import encode_mp4
from .theme import THEMES, Theme, figure_png, figure_svg, require_matplotlib, theme_named

__all__ = [
    "THEMES",
    "FrameBox",
    "Segment",
    "Theme",
    "captioned",
    "confusion_chart",
    "curve_chart",
    "dimmed_outside",
    "encode_mp4",
    "encode_png",
    "figure_png",
    "figure_svg",
    "frames_html",
    "overlay_heat",
    "readable_size",
    "reliability_chart",
    "require_matplotlib",
    "resized_maps",
    "sheet_chart",
    "sheet_pair",
    "theme_named",
    "timeline_chart",
]
