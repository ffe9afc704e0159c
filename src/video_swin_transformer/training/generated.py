"""Training on generated clips, for example from a simulator or a custom reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ..data import Annotations, ClipRecord, Sample
from ..errors import ConfigError
from ..preprocess import Frames


class ClipSource(Protocol):
    """A source of generated training clips, for `train(..., clips=...)`.

    It is pickled for the data loading workers, so it should open its resources on first use.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by class index."""
        ...

    @property
    def clips_per_epoch(self) -> int:
        """Number of clips per epoch, evenly distributed over the classes, in random order."""
        ...

    def make(self, label: int, number: int) -> Frames:
        """Generates one clip, before random crop and flip.

        Args:
            label: Class index.
            number: Index of the clip in the whole training run. To resume bit-exactly, the same
                label and number must yield the same clip in every process.

        Returns:
            (T, H, W, 3) uint8 RGB with `clip.num_frames` frames.
        """
        ...


def source_annotations(source: ClipSource) -> Annotations:
    """Returns one epoch of generated clips as annotations; the paths are names only.

    Args:
        source: The source of the clips.
    """
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
        source: The source of the clips.
        num_frames: Expected number of frames per clip.
        transform: Augmentation of clips (1, T, H, W, 3) with a random number generator.
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
                "the source."
            )
        generator = np.random.default_rng((self._seed, epoch, index, position))
        return Sample(index, f"{name}:{index}", (label,), self._transform(clip[None], generator))
