"""Pictures of frames: heat maps over them, contact sheets, captions, HTML for notebooks.

Frames are (H, W, 3) uint8 RGB. Heat is colored with matplotlib's inferno (of OpenCV), which is
perceptually uniform and safe for color vision deficiencies; its brightness alone tells the order.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from .theme import new_figure, require_matplotlib, rgb, theme_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Frames: TypeAlias = npt.NDArray[np.uint8]

_MAX_OPACITY = 0.8  # of the hottest places
_DIMMING = 0.65  # of the frame below the heat
_UNSEEN_DIMMING = 0.3  # of parts that the network did not see
_MIN_READABLE_SIDE = 320
_MAX_SHRINKS = 10  # of a line that is too long
_CELL_INCHES = 1.55  # width of a frame in a contact sheet


class FrameBox(NamedTuple):
    """A rectangle on a frame, in pixels."""

    top: float
    left: float
    height: float
    width: float


def overlay_heat(
    frames: Frames,
    maps: npt.NDArray[np.floating],
    seen: npt.NDArray[np.bool_] | None = None,
    max_value: float | None = None,
) -> Frames:
    """Draws heat maps over dimmed frames.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        maps: (T, H, W). Values of 0 and below are cold.
        seen: (H, W), False where the network saw nothing; those parts are dark. None: all seen.
        max_value: The hottest value; None for the maximum of `maps`.

    Returns:
        (T, H, W, 3) uint8 RGB.
    """
    top = float(maps.max(initial=0.0)) if max_value is None else max_value
    heat = np.clip(maps / top, 0, 1) if top > 0 else np.zeros_like(maps)
    out = np.empty_like(frames)
    for index, frame in enumerate(frames):
        levels = np.rint(heat[index] * 255).astype(np.uint8)
        colors = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1].astype(np.float32)
        # Cold places stay transparent: the frame is visible where there is nothing to say.
        opacity = _MAX_OPACITY * np.sqrt(heat[index])[..., None]
        mixed = (1 - opacity) * _DIMMING * frame + opacity * colors
        if seen is not None:
            mixed = np.where(seen[..., None], mixed, _UNSEEN_DIMMING * frame)
        out[index] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return out


def dimmed_outside(image: Frames, box: FrameBox) -> Frames:
    """Darkens what is outside of a rectangle.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: The rectangle.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    top, left = max(0, round(box.top)), max(0, round(box.left))
    bottom, right = round(box.top + box.height), round(box.left + box.width)
    out = (image * _UNSEEN_DIMMING).astype(np.uint8)
    out[top:bottom, left:right] = image[top:bottom, left:right]
    return out


def readable_size(frames: Frames) -> Frames:
    """Enlarges small frames, so that a caption above them can be read.

    Args:
        frames: (T, H, W, 3) uint8 RGB.

    Returns:
        (T, H', W', 3) uint8 RGB, at least 320 pixels on the short side.
    """
    height, width = frames.shape[1:3]
    if min(height, width) >= _MIN_READABLE_SIDE:
        return frames
    scale = _MIN_READABLE_SIDE / min(height, width)
    size = (round(width * scale), round(height * scale))
    enlarged = [cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in frames]
    return np.asarray(np.stack(enlarged), np.uint8)


def resized_maps(
    maps: npt.NDArray[np.floating] | npt.NDArray[np.bool_], height: int, width: int
) -> npt.NDArray[np.float32]:
    """Resizes heat maps or masks (T, H, W) to (T, height, width), as float32."""
    size = (width, height)
    resized = [
        cv2.resize(each.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) for each in maps
    ]
    return np.asarray(np.stack(resized), np.float32)


def encode_png(image: Frames) -> bytes:
    """Encodes (H, W, 3) uint8 RGB as a PNG file."""
    return _encode(".png", image, [])


def _encode(suffix: str, image: Frames, options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    assert done, suffix
    return data.tobytes()


def captioned(image: Frames, lines: Sequence[str], theme: str = "light") -> Frames:
    """Puts lines of text above an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        lines: The lines; one that is too long for the image is set smaller.
        theme: Name of the theme.

    Returns:
        (H', W, 3) uint8 RGB with H' > H.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    look = theme_named(theme)
    line_height, width = 22, image.shape[1]
    height = line_height * len(lines) + 8
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    figure.patch.set_facecolor(look.background or "#ffffff")
    canvas: Any = FigureCanvasAgg(figure)
    for number, line in enumerate(lines):
        y = 1 - (4 + line_height * (number + 0.5)) / height
        text = figure.text(6 / width, y, line, fontsize=9.5, va="center", color=look.foreground)
        # Glyphs have whole pixels, so that a smaller size need not be narrower in proportion.
        for _ in range(_MAX_SHRINKS):
            used = text.get_window_extent(canvas.get_renderer()).width
            if used <= width - 12:
                break
            text.set_fontsize(text.get_fontsize() * min(0.97, (width - 12) / used))
    canvas.draw()
    banner = np.asarray(canvas.buffer_rgba())[..., :3]
    return np.concatenate([banner, image])


def sheet_pair(above: Frames, below: Frames, theme: str = "light") -> Frames:
    """Puts one image below another with a gap in the color of the background.

    Args:
        above: (H, W, 3) uint8 RGB.
        below: (H', W, 3) uint8 RGB.
        theme: Name of the theme.

    Returns:
        (H + gap + H', W, 3) uint8 RGB.
    """
    width = above.shape[1]
    gap = np.empty((max(2, width // 60), width, 3), np.uint8)
    gap[:] = rgb(theme_named(theme).background or "#ffffff")
    return np.concatenate([above, gap, below])


def sheet_chart(
    images: Sequence[Frames],
    captions: Sequence[str],
    *,
    title: str,
    columns: int = 4,
    boxes: Sequence[FrameBox | None] = (),
    theme: str = "light",
) -> Figure:
    """Draws a contact sheet: images in rows, each with a caption.

    Args:
        images: The images, each (H, W, 3) uint8 RGB.
        captions: One caption per image.
        title: Title.
        columns: Images per row.
        boxes: A rectangle to draw on each image, or None; empty for no rectangles.
        theme: Name of the theme.
    """
    look = theme_named(theme)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width = images[0].shape[:2]
    cell_width = _CELL_INCHES if width <= 1.4 * height else 1.35 * _CELL_INCHES
    cell_height = cell_width * height / width + 0.26
    title_lines = title.count("\n") + 1
    figure, all_axes = new_figure(
        max(3.4, columns * cell_width), rows * cell_height + 0.2 * title_lines, look, title,
        rows, columns,
    )  # fmt: skip
    for axes in all_axes:
        axes.set_axis_off()
    outlines = list(boxes) or [None] * len(images)
    for axes, image, caption, box in zip(all_axes, images, captions, outlines, strict=False):
        axes.imshow(image, interpolation="antialiased")
        axes.set_title(caption, fontsize=7.5, color=look.foreground, pad=2)
        if box is not None:
            from matplotlib.patches import Rectangle

            corner = (box.left - 0.5, box.top - 0.5)
            for color, line_width in (("#000000", 3.0), (look.series[1], 1.5)):
                outline = Rectangle(
                    corner, box.width, box.height, fill=False, color=color, linewidth=line_width
                )
                axes.add_patch(outline)
    return figure


def frames_html(
    frames: Sequence[Frames],
    captions: Sequence[str],
    heading: str,
    scores: Sequence[tuple[str, float]] = (),
    height: int = 96,
) -> str:
    """Returns frames, and scores as bars, as HTML for a notebook; it follows the page's theme.

    Args:
        frames: Frames, each (H, W, 3) uint8 RGB.
        captions: One caption per frame.
        heading: A line above.
        scores: (label, score in [0, 1]) pairs.
        height: Height of the frames in pixels.
    """
    cells = []
    for frame, caption in zip(frames, captions, strict=True):
        width = max(1, round(frame.shape[1] * height / frame.shape[0]))
        small = np.asarray(
            cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), np.uint8
        )
        data = _encode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])
        image = base64.b64encode(data).decode("ascii")
        text = html.escape(caption)
        cells.append(
            f'<figure style="margin:0 4px 4px 0"><img alt="{text}" width="{width}" '
            f'height="{height}" src="data:image/jpeg;base64,{image}">'
            f'<figcaption style="font-size:11px;opacity:.75">{text}</figcaption></figure>'
        )
    bars = "".join(
        f'<tr><td style="text-align:left">{html.escape(label)}</td><td style="text-align:left">'
        f'<div style="background:#1f6feb;height:10px;width:{max(1, round(160 * score))}px">'
        f"</div></td><td>{score:.1%}</td></tr>"
        for label, score in scores
    )
    table = f'<table style="font-size:12px;margin:0">{bars}</table>' if bars else ""
    return (
        f'<div><div style="margin-bottom:4px"><b>{html.escape(heading)}</b></div>'
        f'<div style="display:flex;flex-wrap:wrap">{"".join(cells)}</div>{table}</div>'
    )
