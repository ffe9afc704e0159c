"""One clip of a video: its frames, its views, and the way back from views to frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..config import BundleConfig
from ..preprocess import CropBox, Frames, Views, crop_boxes, resize_frames, views_from_frames
from ..preprocess import resized_size as size_after_resizing
from ..video import VideoReader

Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]
Seconds: TypeAlias = npt.NDArray[np.float64]

_MAX_SHOWN_SIDE = 360  # short side of the frames that pictures show, in pixels


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip as the network sees it.

    Attributes:
        frame_indices: (T,) int64, the frames in the video.
        times_seconds: (T,) presentation times; None if the video has none.
        shown: (T, H', W', 3) uint8 RGB, the whole frames for pictures, at most 360 on the short
            side.
        resized_size: (H, W) of the frames that are cropped.
        boxes: The crops of the views, in pixels of the resized frames.
        views: (crops, C, T, h, w) float32, normalized.
    """

    frame_indices: Ints
    times_seconds: Seconds | None
    shown: Frames
    resized_size: tuple[int, int]
    boxes: list[CropBox]
    views: Views

    def seen(self) -> npt.NDArray[np.bool_]:
        """(H, W), whether a pixel of the resized frame is in a view."""
        seen = np.zeros(self.resized_size, np.bool_)
        for box in self.boxes:
            seen[box.top : box.top + box.height, box.left : box.left + box.width] = True
        return seen

    def to_frames(self, view_maps: Floats) -> Floats:
        """Puts maps of the views to where the crops are; overlapping views are averaged.

        Args:
            view_maps: (crops, T, h, w). Values that are NaN do not count.

        Returns:
            (T, H, W) float32; 0 where no view is.
        """
        size = (len(self.frame_indices), *self.resized_size)
        total, count = np.zeros(size, np.float32), np.zeros(size, np.float32)
        for box, view_map in zip(self.boxes, view_maps, strict=True):
            rows = slice(box.top, box.top + box.height)
            columns = slice(box.left, box.left + box.width)
            placed = view_map[..., ::-1] if box.is_mirrored else view_map
            total[:, rows, columns] += np.nan_to_num(placed)
            count[:, rows, columns] += ~np.isnan(placed)
        return np.asarray(total / np.maximum(count, 1), np.float32)

    def position_in_view(self, row: int, column: int, crop: int) -> tuple[int, int] | None:
        """Converts a pixel of the resized frame to a pixel of a view; None if it is outside.

        Args:
            row: Row of the resized frame.
            column: Column of the resized frame.
            crop: Number of the crop.
        """
        box = self.boxes[crop]
        row, column = row - box.top, column - box.left
        if not (0 <= row < box.height and 0 <= column < box.width):
            return None
        return row, box.width - 1 - column if box.is_mirrored else column


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
    resized = size_after_resizing(frames.shape[1], frames.shape[2], preprocessing.short_side)
    return Clip(
        frame_indices=indices,
        times_seconds=None if video.times_seconds is None else video.times_seconds[indices],
        shown=shown_frames(frames),
        resized_size=resized,
        boxes=crop_boxes(*resized, preprocessing),
        views=views_from_frames(frames[None], preprocessing),
    )


def shown_frames(frames: Frames) -> Frames:
    """Shrinks frames for pictures to at most 360 pixels on the short side."""
    if min(frames.shape[1:3]) <= _MAX_SHOWN_SIDE:
        return frames
    return resize_frames(frames, _MAX_SHOWN_SIDE, "area")
