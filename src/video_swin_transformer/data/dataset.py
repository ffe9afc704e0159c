"""Datasets that read clips as arrays; only the frames that are needed are decoded.

The datasets are map-style (`len` and `[]`), so they work with torch's DataLoader, but they do not
import torch. They are picklable, so they work with spawned worker processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import ClipSampling, Preprocessing
from ..errors import VideoSwinError
from ..preprocess import Frames, Views, require_resized_size, resize_frames, views_from_frames
from ..sampling import Indices, at_fps, clip_indices, train_clip_indices
from ..video import FrameFolder, VideoReader
from .annotations import Annotations, ClipRecord


@dataclass(frozen=True)
class Sample:
    """One clip of a dataset.

    Attributes:
        index: Index in the dataset.
        path: Path of the clip.
        labels: Class indices.
        views: Output of the transform; (V, C, T, H, W) float32 in `EvalClips`. None on error.
        error: Why the clip cannot be read, or None.
    """

    index: int
    path: str
    labels: tuple[int, ...]
    views: Any
    error: str | None = None


class TrainClips:
    """Map-style dataset of randomly sampled training clips.

    `dataset[index]` and `dataset[epoch, index]` are deterministic: sampling and augmentation are
    seeded with (seed, epoch, index), independent of the worker and of interruptions.
    `dataset[epoch, index, position]` gives a different sample per position, for datasets that
    repeat a clip within an epoch.

    Args:
        annotations: The clips.
        sampling: Which frames to read.
        short_side: Size in pixels that the shorter side of every frame is resized to.
        interpolation: Resize interpolation; see `Preprocessing`.
        transform: Called as `transform(clips, generator)` with (num_clips, T, H, W, 3) uint8 RGB
            frames; crops, flips and normalizes them. None returns the frames unchanged.
        seed: Base seed.
    """

    def __init__(
        self,
        annotations: Annotations,
        sampling: ClipSampling,
        short_side: int = 256,
        interpolation: str = "bilinear",
        transform: Callable[[Frames, np.random.Generator], Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.items = annotations.items
        self._sampling = sampling
        self._short_side, self._interpolation = short_side, interpolation
        self._transform = transform
        self._seed = seed

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: int | tuple[int, ...]) -> Sample:
        epoch, index, *position = key if isinstance(key, tuple) else (0, key)
        item = _item_at(self.items, index)
        generator = np.random.default_rng((self._seed, epoch, index, *position))
        try:
            clips = read_clips(
                item,
                lambda num_frames, sampling: train_clip_indices(num_frames, sampling, generator),
                self._sampling,
                self._short_side,
                self._interpolation,
            )
            views = clips if self._transform is None else self._transform(clips, generator)
        except VideoSwinError as error:
            return Sample(index, item.path, item.labels, None, str(error))
        return Sample(index, item.path, item.labels, views)


class EvalClips:
    """Map-style dataset of evaluation views, (V, C, T, H, W) float32, normalized, crop-major.

    Args:
        annotations: The clips.
        sampling: Which frames to read.
        preprocessing: Resize, crops and normalization.
    """

    __test__ = False  # not a pytest class

    def __init__(
        self, annotations: Annotations, sampling: ClipSampling, preprocessing: Preprocessing
    ) -> None:
        self.items = annotations.items
        self._sampling, self._preprocessing = sampling, preprocessing

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        item = _item_at(self.items, index)
        p = self._preprocessing
        try:
            clips = read_clips(item, clip_indices, self._sampling, p.short_side, p.interpolation)
            views: Views = views_from_frames(clips, p)  # the frames are already resized
        except VideoSwinError as error:
            return Sample(index, item.path, item.labels, None, str(error))
        return Sample(index, item.path, item.labels, views)


def read_clips(
    item: ClipRecord,
    choose: Callable[[int, ClipSampling], Indices],
    sampling: ClipSampling,
    short_side: int,
    interpolation: str = "bilinear",
) -> Frames:
    """Reads (num_clips, T, H, W, 3) uint8 RGB frames with min(H, W) = short_side.

    `choose(num_video_frames, sampling)` returns the frame indices; only these are decoded, and
    each is resized once. Raises VideoDecodeError.
    """
    with VideoReader(clip_source(item)) as video:
        indices = choose(video.num_frames, at_fps(sampling, video.fps))
        needed, inverse = np.unique(indices, return_inverse=True)
        require_resized_size(len(needed), video.height, video.width, short_side)
        frames = video.frames_at(
            needed, lambda frame: resize_frames(frame[None], short_side, interpolation)[0]
        )
    inverse = inverse.reshape(indices.shape)
    if np.array_equal(inverse.ravel(), np.arange(len(needed))):
        return frames.reshape(*indices.shape, *frames.shape[1:])  # already in order: no copy
    clips: Frames = frames[inverse]
    return clips


def clip_source(item: ClipRecord) -> str | FrameFolder:
    """Returns the source of a clip for `VideoReader`.

    Args:
        item: The clip.
    """
    return item.path if item.num_frames is None else FrameFolder(item.path, item.num_frames)


def _item_at(items: tuple[ClipRecord, ...], index: int) -> ClipRecord:
    if not 0 <= index < len(items):
        raise IndexError(f"clip {index} of {len(items)}")  # ends a for loop over the dataset
    return items[index]
