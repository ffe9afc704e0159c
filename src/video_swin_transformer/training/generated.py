"""Clips that a program makes instead of reading them: a generator, a simulator, a reader of one's
own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ..data import Annotations, ClipRecord, Sample
from ..errors import ConfigError
from ..preprocess import Frames


class ClipSource(Protocol):
    """What `train(recipe, out, clips=...)` learns from instead of files.

    It is pickled for the processes that make clips, so it should open what it needs when it is
    first asked. classes: their names, in the order of their numbers. clips_per_epoch: an epoch is
    only a measure here; its clips have the classes in turn, in random order.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def clips_per_epoch(self) -> int: ...

    def make(self, label: int, number: int) -> Frames:
        """(T, H, W, 3) uint8 RGB with T frames as in the recipe; crop and flip come after.

        number: counts the clips of the whole training from 0. For a run to be resumed exactly, the
        same label and number must give the same clip in any process.
        """
        ...


def annotations_of(maker: ClipSource) -> Annotations:
    """An epoch of the maker's clips as a list; the paths are names only."""
    name = type(maker).__name__
    num_classes = len(maker.classes)
    items = tuple(
        ClipRecord(f"{name}:{index}", (index % num_classes,))
        for index in range(maker.clips_per_epoch)
    )
    return Annotations(name, "made", items, tuple(maker.classes))


class GeneratedClips:
    """`clips[epoch, index, position]` as TrainClips has it: made, then handed to the transform."""

    def __init__(
        self,
        maker: ClipSource,
        num_frames: int,
        transform: Callable[[Frames, np.random.Generator], Any],
        seed: int,
    ) -> None:
        self._maker = maker
        self._num_frames = num_frames
        self._transform = transform
        self._seed = seed

    def __getitem__(self, key: tuple[int, ...]) -> Sample:
        epoch, index, position = key
        label = index % len(self._maker.classes)
        clip = self._maker.make(label, epoch * self._maker.clips_per_epoch + position)
        if clip.ndim != 4 or clip.shape[0] != self._num_frames or clip.shape[3] != 3:
            raise ConfigError(
                f"{type(self._maker).__name__} made a clip of shape {clip.shape}, but the recipe "
                f"wants (T, H, W, 3) with {self._num_frames} frames: set clip.num_frames, or make "
                "other clips."
            )
        generator = np.random.default_rng((self._seed, epoch, index, position))
        views = self._transform(clip[None], generator)
        return Sample(index, f"{type(self._maker).__name__}:{index}", (label,), views)
