"""Which frames, times and crops each view of a video sees."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..file_names import path_to_text
from ..files import write_atomic
from ..plotting import FrameBox, dimmed_outside, figure_png, readable_size, sheet_chart
from ..predictor import Predictor, Source
from ..preprocess import Frames, crop_boxes, resized_size
from ..sampled_view import SampledView, sampled_views_of
from ..sampling import clip_indices
from ..video import VideoReader
from ..video.inputs import source_name
from .clip import shown_frames

_MAX_SHEET_FRAMES = 8  # per view
_MAX_SHEET_VIEWS = 24


@dataclass(frozen=True, eq=False)
class SampledViews:
    """All views of a video, crop-major: crop 0 of every clip, then crop 1 of every clip.

    Attributes:
        source: The video.
        model: Name of the model.
        num_video_frames: Frames of the video.
        video_size: (H, W) of the video in pixels.
        resized_size: (H, W) after resizing, before cropping.
        views: The views.
    """

    source: str
    model: str
    num_video_frames: int
    video_size: tuple[int, int]
    resized_size: tuple[int, int]
    views: tuple[SampledView, ...]
    _shown: dict[int, Frames]

    def summary(self) -> str:
        """The number of views, and what they see, in one line."""
        first = self.views[0]
        height, width = first.box.height, first.box.width
        return (
            f"{len(self.views)} views of {len(first.frame_indices)} frames, {width}x{height} of "
            f"{self.resized_size[1]}x{self.resized_size[0]} pixels"
        )

    def __repr__(self) -> str:
        return f"SampledViews({self.source!r}, {self.summary()})"

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as JSON data."""
        return {
            "input": path_to_text(self.source),
            "model": path_to_text(self.model),
            "num_video_frames": self.num_video_frames,
            "video_size": list(self.video_size),
            "resized_size": list(self.resized_size),
            "views": [view.to_dict() for view in self.views],
        }

    def save_json(self, path: str | Path) -> Path:
        """Writes everything as a JSON file.

        Args:
            path: The file.

        Raises:
            OSError: The file cannot be written.
        """
        text = json.dumps(self.to_dict(), indent=1) + "\n"
        write_atomic(Path(path), text.encode("utf-8"))
        return Path(path)

    def save_sheet(self, path: str | Path, *, theme: str = "light") -> Path:
        """Writes a contact sheet: one row per view, what is outside of the crop is dark.

        Args:
            path: The PNG file.
            theme: "light" or "dark".

        Raises:
            MissingExtraError: matplotlib is not installed.
            UnknownNameError: There is no such theme.
            OSError: The file cannot be written.
        """
        images, captions, boxes = [], [], []
        shown_views = self.views[:_MAX_SHEET_VIEWS]
        for view in shown_views:
            for position in _sheet_positions(len(view.frame_indices)):
                index = int(view.frame_indices[position])
                image = self._shown[index]
                scale = image.shape[0] / self.video_size[0]
                box = FrameBox(*(side * scale for side in view.video_box))
                images.append(dimmed_outside(image, box))
                boxes.append(box)
                times = view.times_seconds
                time = "" if times is None else f", {times[position]:.3f} s"
                where = f"clip {view.clip}, crop {view.crop}\n" if not position else "\n"
                captions.append(f"{where}frame {index}{time}")
        per_view = len(images) // len(shown_views)
        num_frames = len(self.views[0].frame_indices)
        title = f"{Path(self.source).name}: {len(self.views)} views of {num_frames} frames"
        if len(shown_views) < len(self.views) or per_view < num_frames:
            title += f"\n{per_view} frames of {len(shown_views)} views; the JSON file has all"
        chart = sheet_chart(
            images, captions, title=title, columns=per_view, boxes=boxes, theme=theme
        )
        write_atomic(Path(path), figure_png(chart))
        return Path(path)


def _sheet_positions(num_frames: int) -> list[int]:
    """Frames of a view that the contact sheet shows, evenly spaced, the first and last included."""
    count = min(num_frames, _MAX_SHEET_FRAMES)
    positions: list[int] = np.linspace(0, num_frames - 1, count).round().astype(int).tolist()
    return positions


def sampled_views(predictor: Predictor, source: Source) -> SampledViews:
    """Returns exactly which frames, times and crops each view of a video sees.

    It reads the video and runs no network, so every runtime will do.

    Args:
        predictor: The model with its views.
        source: A video file, a folder of frames, or an array (T, H, W, 3) uint8 RGB.

    Raises:
        VideoDecodeError: The video cannot be read.
        ConfigError: The frames are too small for the crops.
    """
    bundle = predictor.bundle
    with VideoReader(source) as video:
        indices = clip_indices(video.num_frames, bundle.sampling, video.fps)
        positions = _sheet_positions(indices.shape[1])
        wanted = np.unique(indices[:, positions])
        frames = video.frames_at(wanted)
        video_size = (frames.shape[1], frames.shape[2])
        shown = {int(i): _thumbnail(frame) for i, frame in zip(wanted, frames, strict=True)}
        times = video.times_seconds
        num_frames = video.num_frames
    resized = resized_size(*video_size, bundle.preprocessing.short_side)
    boxes = crop_boxes(*resized, bundle.preprocessing)
    views = sampled_views_of(indices, times, boxes, resized, video_size)
    return SampledViews(
        source_name(source), predictor.name, num_frames, video_size, resized, views, shown
    )


def _thumbnail(frame: Frames) -> Frames:
    return np.asarray(readable_size(shown_frames(frame[None]))[0])
