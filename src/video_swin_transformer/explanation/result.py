"""`Explanation`: heat maps over the frames of a video, and the files that show them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..file_names import path_to_text
from ..files import sibling_path, write_atomic
from ..plotting import (
    captioned,
    curve_chart,
    encode_mp4,
    figure_png,
    frames_html,
    overlay_heat,
    readable_size,
    resized_maps,
    sheet_chart,
    sheet_pair,
    theme_named,
)
from ..preprocess import Frames
from ..sampled_view import SampledView
from .clip import Floats, Ints, Seconds

_SHEET_FRAMES = 8
_HTML_FRAMES = 6
_MAX_FPS, _MIN_FPS, _DEFAULT_FPS = 15.0, 2.0, 8.0


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where and when a model found what it used.

    Attributes:
        source: The video.
        model: Name of the model.
        method: "grad-cam", "eigen-cam", "attention", "rollout" or "occlusion".
        layer: What the method looked at, such as "stage 1, block 1, norm2"; "" for occlusion.
        unit: What the values of `maps` are.
        class_index: The class that was explained; None if the model has no classifier.
        label: Its name; "" if the model has no classifier.
        scores: (K,) float32, the scores of the video; empty without a classifier.
        frame_indices: (N,) int64, the frames of the video that the views saw, ascending.
        times_seconds: (N,) float64, their presentation times; None if the video has none.
        frames: (N, H', W', 3) uint8 RGB, the whole frames, at most 360 pixels on the short side.
        maps: (N, H, W) float32 over the whole frames, resized as for the network; 0 where no view
            is. Views that overlap in time or space are averaged.
        seen: (N, H, W) bool, whether a view covers the pixel.
        views: The views.
        video_size: (H, W) of the video in pixels.
        padding_share: Share of attention that went to padding tokens, which belong to no place of
            the video; None for other methods.
        settings: The arguments that determined the maps.
        library_version: Version of this package.
    """

    source: str
    model: str
    method: str
    layer: str
    unit: str
    class_index: int | None
    label: str
    scores: Floats
    frame_indices: Ints
    times_seconds: Seconds | None
    frames: Frames
    maps: Floats
    seen: npt.NDArray[np.bool_]
    views: tuple[SampledView, ...]
    video_size: tuple[int, int]
    padding_share: float | None
    settings: dict[str, Any]
    library_version: str

    @property
    def score(self) -> float | None:
        """The score of the explained class; None if the model has no classifier."""
        return None if self.class_index is None else float(self.scores[self.class_index])

    @property
    def curve(self) -> Floats:
        """(N,) float32, the mean of the map of each frame where it was seen."""
        counts = self.seen.sum(axis=(1, 2))
        return np.asarray((self.maps * self.seen).sum(axis=(1, 2)) / counts, np.float32)

    def maps_in_video(self) -> Floats:
        """Returns the maps in pixels of the video, (N, height, width) float32."""
        return resized_maps(self.maps, *self.video_size)

    def overlay(self) -> Frames:
        """Draws the maps over the frames.

        Returns:
            (N, H', W', 3) uint8 RGB. The brightest color is the maximum of all maps. Values of 0
            and below are not colored. What no view saw is dark.
        """
        height, width = self.frames.shape[1:3]
        seen = resized_maps(self.seen, height, width) >= 0.5
        maps = resized_maps(self.maps, height, width)
        top = float(self.maps.max(initial=0.0))
        drawn = [
            overlay_heat(frame[None], each[None], where, top)[0]
            for frame, each, where in zip(self.frames, maps, seen, strict=True)
        ]
        return np.stack(drawn)

    def summary(self) -> str:
        """The class, its score, the method and the layer, in one line."""
        where = f", {self.layer}" if self.layer else ""
        score = "" if self.score is None else f"{self.label} {self.score:.1%}: "
        return f"{score}{self.method}{where}"

    def __repr__(self) -> str:
        frames, height, width = self.maps.shape
        return f"Explanation({self.source!r}, {self.summary()}, {frames} maps of {width}x{height})"

    def _repr_html_(self) -> str:
        chosen = _evenly(len(self.frames), _HTML_FRAMES)
        drawn = self.overlay()[chosen]
        captions = [self._frame_caption(index) for index in chosen]
        scores = [] if self.score is None else [(self.label, self.score)]
        heading = f"{Path(self.source).name} \u2013 {self.summary()}"
        return frames_html(list(drawn), captions, heading, scores, height=112)

    def _frame_caption(self, index: int) -> str:
        frame = f"frame {self.frame_indices[index]}"
        if self.times_seconds is None:
            return frame
        return f"{frame}, {self.times_seconds[index]:.3f} s"

    def to_dict(self) -> dict[str, Any]:
        """Returns everything but the maps as JSON data."""
        times = self.times_seconds
        return {
            "input": path_to_text(self.source),
            "model": path_to_text(self.model),
            "method": self.method,
            "layer": self.layer,
            "unit": self.unit,
            "class_index": self.class_index,
            "label": self.label,
            "score": None if self.score is None else round(self.score, 6),
            "padding_share": None if self.padding_share is None else round(self.padding_share, 6),
            "settings": self.settings,
            "video_size": list(self.video_size),
            "map_size": list(self.maps.shape[1:]),
            "frames": [
                {
                    "frame": int(frame),
                    "time_seconds": None if times is None else round(float(times[index]), 6),
                    "mean": _rounded(self.curve[index]),
                    "min": _rounded(self.maps[index].min()),
                    "max": _rounded(self.maps[index].max()),
                }
                for index, frame in enumerate(self.frame_indices)
            ],
            "views": [view.to_dict() for view in self.views],
            "library_version": self.library_version,
        }

    def save(
        self, folder: str | Path, stem: str | None = None, *, theme: str = "light"
    ) -> list[Path]:
        """Writes all files: NAME.mp4, NAME.png, NAME-curve.png, NAME.json and NAME.npz.

        Args:
            folder: The folder; it is created.
            stem: NAME; None for the name of the video without its suffix.
            theme: "light" or "dark", for the pictures.

        Returns:
            The files.

        Raises:
            MissingExtraError: matplotlib is not installed.
            UnknownNameError: There is no such theme.
            OSError: A file cannot be written.
        """
        base = Path(folder) / "x"
        stem = Path(self.source).stem if stem is None else stem
        return [
            self.save_video(sibling_path(base, ".mp4", stem), theme=theme),
            self.save_sheet(sibling_path(base, ".png", stem), theme=theme),
            self.save_curve(sibling_path(base, "-curve.png", stem), theme=theme),
            self.save_json(sibling_path(base, ".json", stem)),
            self.save_npz(sibling_path(base, ".npz", stem)),
        ]

    def save_video(self, path: str | Path, *, theme: str = "light") -> Path:
        """Writes the overlay as an H.264 video with captions, in slow motion.

        It shows the frames that the views saw, at half of their speed, 2 to 15 frames per second.

        Args:
            path: The MP4 file.
            theme: "light" or "dark".

        Raises:
            MissingExtraError: matplotlib is not installed.
            UnknownNameError: There is no such theme.
            OSError: The file cannot be written.
        """
        theme_named(theme)
        write_atomic(Path(path), encode_mp4(self._captioned_frames(theme), self._slow_fps()))
        return Path(path)

    def _captioned_frames(self, theme: str) -> Iterator[Frames]:
        for index, image in enumerate(self.overlay()):
            (image,) = readable_size(image[None])
            lines = [*self.summary().split(": ", 1), self._frame_caption(index)]
            yield captioned(image, lines, theme)

    def _slow_fps(self) -> Fraction:
        times = self.times_seconds
        if times is None or len(times) < 2:
            return Fraction(_DEFAULT_FPS)
        step = max(float(np.median(np.diff(times))), 1e-3)
        return Fraction(round(min(_MAX_FPS, max(_MIN_FPS, 0.5 / step)) * 100), 100)

    def save_sheet(self, path: str | Path, *, theme: str = "light") -> Path:
        """Writes a contact sheet of up to 8 frames, each above the same frame with its map.

        Args:
            path: The PNG file.
            theme: "light" or "dark".

        Raises:
            MissingExtraError: matplotlib is not installed.
            UnknownNameError: There is no such theme.
            OSError: The file cannot be written.
        """
        chosen = _evenly(len(self.frames), _SHEET_FRAMES)
        pairs = [
            sheet_pair(self.frames[index], drawn, theme)
            for index, drawn in zip(chosen, self.overlay()[chosen], strict=True)
        ]
        title = f"{Path(self.source).name}\n{self.summary()}\nbrightest: {self._top_text()}"
        captions = [self._frame_caption(index) for index in chosen]
        chart = sheet_chart(pairs, captions, title=title, theme=theme)
        write_atomic(Path(path), figure_png(chart))
        return Path(path)

    def _top_text(self) -> str:
        return f"{self.maps.max(initial=0.0):.3g} {self.unit}"

    def save_curve(self, path: str | Path, *, theme: str = "light") -> Path:
        """Writes a chart of the mean of each map over time.

        Args:
            path: The PNG file.
            theme: "light" or "dark".

        Raises:
            MissingExtraError: matplotlib is not installed.
            UnknownNameError: There is no such theme.
            OSError: The file cannot be written.
        """
        times = self.times_seconds
        chart = curve_chart(
            self.frame_indices if times is None else times,
            {"mean of the map": self.curve},
            xlabel="frame" if times is None else "time (s)",
            ylabel=self.unit.replace(" (", "\n("),
            title=f"{Path(self.source).name}\n{self.summary()}",
            theme=theme,
        )
        write_atomic(Path(path), figure_png(chart))
        return Path(path)

    def save_json(self, path: str | Path) -> Path:
        """Writes everything but the maps as a JSON file; see `to_dict`.

        Args:
            path: The file.

        Raises:
            OSError: The file cannot be written.
        """
        text = json.dumps(self.to_dict(), indent=1) + "\n"
        write_atomic(Path(path), text.encode("utf-8"))
        return Path(path)

    def save_npz(self, path: str | Path) -> Path:
        """Writes maps, seen, frame_indices, times_seconds (NaN if unknown), scores and `info`.

        `info` is the text of the JSON file.

        Args:
            path: The NumPy file.

        Raises:
            OSError: The file cannot be written.
        """
        times = self.times_seconds
        data = io.BytesIO()
        np.savez_compressed(
            data,
            maps=self.maps,
            seen=self.seen,
            frame_indices=self.frame_indices,
            times_seconds=np.full(len(self.maps), np.nan) if times is None else times,
            scores=self.scores,
            info=np.array(json.dumps(self.to_dict())),
        )
        write_atomic(Path(path), data.getvalue())
        return Path(path)


def _evenly(total: int, count: int) -> list[int]:
    """Up to `count` of `total` positions, evenly spaced."""
    count = min(total, count)
    positions: list[int] = np.linspace(0, total - 1, count).round().astype(int).tolist()
    return positions


def _rounded(value: np.floating[Any]) -> float:
    return float(f"{float(value):.6g}")
