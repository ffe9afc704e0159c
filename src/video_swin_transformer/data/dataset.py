"""Annotations -> arrays a network can be fed with; reads only the frames that are needed.

A dataset here is what torch's DataLoader calls map-style (`len` and `[]`), and imports no torch:
it is as well a plain sequence. It is picklable, so workers may be spawned processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import ClipSampling, Preprocessing
from ..errors import VideoSwinError
from ..preprocess import Frames, Views, resize_frames, views_from_frames
from ..sampling import Indices, at_fps, clip_indices, train_clip_indices
from ..video import VideoReader
from .annotations import Annotations, ClipRecord


@dataclass(frozen=True)
class Sample:
    """One clip. `views` is None where `error` says why the clip cannot be read.

    views: what the transform made of the frames; for testing (V, C, T, H, W) float32.
    """

    index: int
    path: str
    labels: tuple[int, ...]
    views: Any
    error: str | None = None


class TrainClips:
    """Random clips for training.

    `dataset[index]` or `dataset[epoch, index]` draws from numbers that belong to (seed, epoch,
    index) alone: whichever worker reads a clip, and after whatever interruption, it gives the same
    frames and the same augmentation. `dataset[epoch, index, position]` draws for one of several
    places that a clip has in an epoch.

    Frames are resized to `short_side` as they come, each once however often a short video repeats
    it, and handed on as (num_clips, T, H, W, 3) uint8 RGB. `transform(clips, generator)` crops,
    flips and normalizes; None leaves them so.
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
    """The views of the test protocol, (V, C, T, H, W) float32 normalized, crop-major."""

    __test__ = False  # for pytest: this is no test

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
            views: Views = views_from_frames(clips, p)  # finds them resized already
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
    """(num_clips, T, H, W, 3) uint8 RGB with min(H, W) = short_side.

    choose(num_video_frames, sampling) says which frames; only these are decoded, and each is
    resized once. Raises VideoDecodeError.
    """
    with VideoReader(item.path) as video:
        indices = choose(video.num_frames, at_fps(sampling, video.fps))
        needed, place = np.unique(indices, return_inverse=True)
        frames = resize_frames(video.frames_at(needed), short_side, interpolation)
    place = place.reshape(indices.shape)
    if np.array_equal(place.ravel(), np.arange(len(needed))):
        return frames.reshape(*indices.shape, *frames.shape[1:])  # in order already: no copy
    clips: Frames = frames[place]
    return clips


def _item_at(items: tuple[ClipRecord, ...], index: int) -> ClipRecord:
    if not 0 <= index < len(items):
        raise IndexError(f"clip {index} of {len(items)}")  # ends a for loop over the dataset
    return items[index]
