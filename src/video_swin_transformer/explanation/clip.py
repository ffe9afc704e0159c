"""One clip of a video: its frames, its views, and the way back from views to frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..config import BundleConfig
from ..preprocess import CropBox, Frames, Views, crop_boxes, resize_frames, views_from_frames
from ..video import VideoReader

Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]
Seconds: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip as the network sees it.

    Attributes:
        frame_indices: (T,) int64, the frames in the video.
        times_seconds: (T,) presentation times; None if the video has none.
        frames: (T, H, W, 3) uint8 RGB, resized as for the network, not cropped.
        boxes: The crops of the views, in pixels of `frames`.
        views: (crops, C, T, h, w) float32, normalized.
    """

    frame_indices: Ints
    times_seconds: Seconds | None
    frames: Frames
    boxes: list[CropBox]
    views: Views

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """(H, W), whether a pixel is in a view."""
        seen = np.zeros(self.frames.shape[1:3], np.bool_)
        for box in self.boxes:
            seen[box.top : box.top + box.height, box.left : box.left + box.width] = True
        return seen

    def to_frames(self, view_maps: Floats) -> Floats:
        """Puts maps of the views to where the crops are; overlapping views are averaged.

        Args:
            view_maps: (crops, T, h, w).

        Returns:
            (T, H, W) float32; 0 where no view is.
        """
        total = np.zeros(self.frames.shape[:3], np.float32)
        count = np.zeros(self.frames.shape[1:3], np.float32)
        for box, view_map in zip(self.boxes, view_maps, strict=True):
            rows = slice(box.top, box.top + box.height)
            columns = slice(box.left, box.left + box.width)
            total[:, rows, columns] += view_map[..., ::-1] if box.is_mirrored else view_map
            count[rows, columns] += 1
        averaged: Floats = total / np.maximum(count, 1)
        return averaged

    def position_in_view(
        self, position: tuple[int, int, int], crop: int
    ) -> tuple[int, int, int] | None:
        """Converts (frame, row, column) of `frames` to a view; None if it is outside.

        Args:
            position: Index of the frame in the clip, and pixel.
            crop: Number of the view.
        """
        box = self.boxes[crop]
        frame, row, column = position[0], position[1] - box.top, position[2] - box.left
        if not (0 <= row < box.height and 0 <= column < box.width):
            return None
        return frame, row, box.width - 1 - column if box.is_mirrored else column


def read_clip(video: VideoReader, indices: Ints, bundle: BundleConfig) -> Clip:
    """Reads one clip.

    Args:
        video: The open video.
        indices: (T,) frame indices, from `clip_indices`.
        bundle: Configuration of the model.

    Raises:
        VideoDecodeError: A frame is damaged.
    """
    preprocessing = bundle.preprocessing
    frames = video.frames_at(indices)
    resized = resize_frames(frames, preprocessing.short_side, preprocessing.interpolation)
    return Clip(
        frame_indices=indices,
        times_seconds=times_at(video, indices),
        frames=resized,
        boxes=crop_boxes(*resized.shape[1:3], preprocessing),
        views=views_from_frames(frames[None], preprocessing),
    )


def times_at(video: VideoReader, indices: Ints) -> Seconds | None:
    """Returns the times of frames; None if the video has no times."""
    return None if video.times_seconds is None else video.times_seconds[indices]


def to_seconds(times: Seconds | None) -> Sequence[float] | None:
    """Rounds times to microseconds for JSON."""
    return None if times is None else [round(float(time), 6) for time in times]
