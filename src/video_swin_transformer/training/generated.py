"""Clips that a program generates instead of reading them: a simulator, a custom reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ..data import Annotations, ClipRecord, Sample
from ..errors import ConfigError
from ..preprocess import Frames


class ClipSource(Protocol):
    """What `train(..., clips=...)` trains on instead of files.

    It is pickled for the data loading workers, so it should open what it needs on first use.

    Attributes:
        classes: Class names in the order of class numbers.
        clips_per_epoch: Length of an epoch. Its clips have the classes in turn, in random order.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def clips_per_epoch(self) -> int: ...

    def make(self, label: int, number: int) -> Frames:
        """Generates one clip; random crop and flip come after.

        Args:
            label: The class.
            number: Counts the clips of the whole training from 0. For a bit-exact resume, the same
                label and number must give the same clip in any process.

        Returns:
            (T, H, W, 3) uint8 RGB with `clip.num_frames` frames.
        """
        ...


def source_annotations(source: ClipSource) -> Annotations:
    """One epoch of generated clips as annotations; the paths are only names."""
    name = type(source).__name__
    num_classes = len(source.classes)
    items = tuple(
        ClipRecord(f"{name}:{index}", (index % num_classes,))
        for index in range(source.clips_per_epoch)
    )
    return Annotations(name, "generated", items, tuple(source.classes))


class GeneratedClips:
    """A dataset of generated clips with the keys of `TrainClips`: (epoch, index, position).

    Args:
        source: Generates the clips.
        num_frames: Frames per clip, for the check of what the source generates.
        transform: Augmentation: clips (1, T, H, W, 3) and a generator of random numbers.
        seed: Seed of the augmentation.
    """

    def __init__(
        self,
        source: ClipSource,
        num_frames: int,
        transform: Callable[[Frames, np.random.Generator], Any],
        seed: int,
    ) -> None:
        self._source = source
        self._num_frames = num_frames
        self._transform = transform
        self._seed = seed

    def __getitem__(self, key: tuple[int, ...]) -> Sample:
        epoch, index, position = key
        name = type(self._source).__name__
        label = index % len(self._source.classes)
        clip = self._source.make(label, epoch * self._source.clips_per_epoch + position)
        if clip.ndim != 4 or clip.shape[0] != self._num_frames or clip.shape[3] != 3:
            raise ConfigError(
                f"{name} generated a clip of shape {clip.shape}, but the recipe needs "
                f"(T, H, W, 3) with {self._num_frames} frames: set clip.num_frames, or change "
                "what is generated."
            )
        generator = np.random.default_rng((self._seed, epoch, index, position))
        return Sample(index, f"{name}:{index}", (label,), self._transform(clip[None], generator))
