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
from ..video import FrameFolder, VideoReader, VideoSegment
from .annotations import Annotations, ClipRecord

_MAX_OPEN_FILES = 4


@dataclass(frozen=True)
class Sample:
    """One clip of a dataset.

    Attributes:
        index: Index in the dataset.
        path: Name of the clip: its path, for a segment with its times.
        labels: Class indices.
        views: Output of the transform; (V, C, T, H, W) float32 in `EvalClips`. None on error.
        error: Why the clip cannot be read, or None.
        targets: The numbers of a regression; empty for classes.
    """

    index: int
    path: str
    labels: tuple[int, ...]
    views: Any
    error: str | None = None
    targets: tuple[float, ...] = ()


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
        self._files = _OpenFiles()

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
                self._files,
            )
            views = clips if self._transform is None else self._transform(clips, generator)
        except VideoSwinError as error:
            return Sample(index, item.name, item.labels, None, str(error))
        return Sample(index, item.name, item.labels, views, targets=item.targets)


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
        self._files = _OpenFiles()

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        item = _item_at(self.items, index)
        p = self._preprocessing
        try:
            clips = read_clips(
                item, clip_indices, self._sampling, p.short_side, p.interpolation, self._files
            )
            views: Views = views_from_frames(clips, p)  # the frames are already resized
        except VideoSwinError as error:
            return Sample(index, item.name, item.labels, None, str(error))
        return Sample(index, item.name, item.labels, views, targets=item.targets)


class _OpenFiles:
    """The last files of which segments were read.

    Opening a file of 20 minutes takes ten times as long as reading a clip from it.
    """

    def __init__(self) -> None:
        self._readers: dict[str, VideoReader] = {}

    def open(self, item: ClipRecord) -> VideoReader:
        """Returns a reader of the clip, which the caller closes."""
        if item.segment is None:
            return VideoReader(clip_source(item))
        reader = self._readers.pop(item.path, None) or VideoReader(item.path)
        self._readers[item.path] = reader  # the last one in the dictionary was used last
        if len(self._readers) > _MAX_OPEN_FILES:
            self._readers.pop(next(iter(self._readers))).close()
        return reader.segment(item.segment.start, item.segment.end)

    def forget(self, item: ClipRecord) -> None:
        """Closes the file of a clip that could not be read."""
        reader = self._readers.pop(item.path, None)
        if reader is not None:
            reader.close()

    def __getstate__(self) -> dict[str, object]:
        return {"_readers": {}}  # readers stay in their process


def read_clips(
    item: ClipRecord,
    choose: Callable[[int, ClipSampling], Indices],
    sampling: ClipSampling,
    short_side: int,
    interpolation: str = "bilinear",
    files: _OpenFiles | None = None,
) -> Frames:
    """Reads (num_clips, T, H, W, 3) uint8 RGB frames with min(H, W) = short_side.

    `choose(num_video_frames, sampling)` returns the frame indices; only these are decoded, and
    each is resized once. `files` keeps files of segments open. Raises VideoDecodeError.
    """
    files = files or _OpenFiles()
    try:
        with files.open(item) as video:
            indices = choose(video.num_frames, at_fps(sampling, video.fps))
            needed, inverse = np.unique(indices, return_inverse=True)
            require_resized_size(len(needed), video.height, video.width, short_side)
            frames = video.frames_at(
                needed, lambda frame: resize_frames(frame[None], short_side, interpolation)[0]
            )
    except VideoSwinError:
        files.forget(item)
        raise
    inverse = inverse.reshape(indices.shape)
    if np.array_equal(inverse.ravel(), np.arange(len(needed))):
        return frames.reshape(*indices.shape, *frames.shape[1:])  # already in order: no copy
    clips: Frames = frames[inverse]
    return clips


def clip_source(item: ClipRecord) -> str | FrameFolder | VideoSegment:
    """Returns the source of a clip for `VideoReader`.

    Args:
        item: The clip.
    """
    if item.segment is not None:
        return VideoSegment(item.path, item.segment.start, item.segment.end)
    return item.path if item.num_frames is None else FrameFolder(item.path, item.num_frames)


def _item_at(items: tuple[ClipRecord, ...], index: int) -> ClipRecord:
    if not 0 <= index < len(items):
        raise IndexError(f"clip {index} of {len(items)}")  # ends a for loop over the dataset
    return items[index]
