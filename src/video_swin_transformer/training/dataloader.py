"""From clips to batches: the order of each epoch, micro batches, workers.

Everything follows from (seed, epoch, position): the order of an epoch, the frames and the
augmentation of a clip, and which clip replaces one that cannot be read. So the result does not
depend on the number of workers or processes, nor on where a run was interrupted.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from ..data import Annotations, ClipRecord, Sample
from ..errors import DataError
from ..file_names import one_line
from .transforms import AugmentedClip, Mix

# Keys of random numbers. They are the fifth part of a key; the keys of clips have four.
_ORDER_KEY, _REPLACEMENT_KEY = 1, 2
_MAX_REPLACEMENTS = 20
_TIMEOUT_SECONDS = 600.0


class ClipKey(NamedTuple):
    """Which clip to load.

    Attributes:
        epoch: From 0.
        clip: Index in the dataset.
        position: Position in the order of the epoch.
        weight: 0 for a padding clip, else 1.
    """

    epoch: int
    clip: int
    position: int
    weight: float


@dataclass(frozen=True)
class Batch:
    """The input of one forward pass.

    Attributes:
        pixels: (B, T, S, S, 3) uint8 RGB.
        labels: (B, L) int64, the classes of each clip, padded with -1.
        weights: (B,) float32, 0 for a padding clip.
        erased: (B, 4) int64, boxes (top, left, height, width).
        mixes: How each clip is mixed with another one.
        failures: (path, reason) of clips that could not be read and were replaced.
        targets: (B, R) float32, the numbers of a regression; R = 0 for classes.
    """

    pixels: Tensor
    labels: Tensor
    weights: Tensor
    erased: Tensor
    mixes: tuple[Mix, ...]
    failures: tuple[tuple[str, str], ...] = ()
    targets: Tensor = field(default_factory=lambda: torch.empty(0))


# --- which clips make up a step -------------------------------------------------------------------


@dataclass(frozen=True)
class EpochOrder:
    """The order of clips in each epoch, and its steps.

    Attributes:
        labels: The primary label of each clip.
        batch_size: Clips per optimizer step, over all processes.
        seed: Seed of the order.
        class_balanced: Draw clips with replacement, so that each class is equally likely.
    """

    labels: tuple[int, ...]
    batch_size: int
    seed: int
    class_balanced: bool

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimizer steps per epoch."""
        return -(-len(self.labels) // self.batch_size)

    def epoch(self, epoch: int) -> npt.NDArray[np.int64]:
        """The clip index at each position of an epoch, (N,) int64."""
        generator = np.random.default_rng((self.seed, epoch, 0, 0, _ORDER_KEY))
        num_clips = len(self.labels)
        if not self.class_balanced:
            return generator.permutation(num_clips)
        counts = np.bincount(self.labels)
        probabilities = 1 / counts[list(self.labels)]
        return generator.choice(num_clips, num_clips, p=probabilities / probabilities.sum())

    def num_clips_in(self, step: int) -> int:
        """Clips in a step; the last step of an epoch may have fewer than `batch_size`."""
        begin = step % self.steps_per_epoch * self.batch_size
        return min(self.batch_size, len(self.labels) - begin)


@dataclass(frozen=True)
class BatchShards:
    """How a step is divided among processes and micro batches.

    Each process takes every `world_size`-th clip of the step. All processes have the same number
    of micro batches, because they synchronize in the last one. A process without a clip for a micro
    batch repeats its first clip with weight 0.
    """

    rank: int
    world_size: int
    micro_batch_size: int

    def micro_batches(self, num_clips: int) -> list[list[tuple[int, float]]]:
        """The (position in the step, weight) of the clips of each micro batch of this process."""
        own = list(range(self.rank, num_clips, self.world_size))
        padding = [(own[0] if own else 0, 0.0)]
        longest = -(-num_clips // self.world_size)
        micro_batches = []
        for begin in range(0, longest, self.micro_batch_size):
            positions = own[begin : begin + self.micro_batch_size]
            micro_batches.append([(position, 1.0) for position in positions] or padding)
        return micro_batches


class MicroBatchSampler(Sampler[list[ClipKey]]):
    """The keys of each micro batch, from `first_step` to the end of training."""

    def __init__(
        self, order: EpochOrder, shards: BatchShards, first_step: int, num_steps: int
    ) -> None:
        self._order, self._shards = order, shards
        self._first_step, self._num_steps = first_step, num_steps

    def __len__(self) -> int:
        return sum(
            len(self._shards.micro_batches(self._order.num_clips_in(step)))
            for step in range(self._first_step, self._num_steps)
        )

    def __iter__(self) -> Iterator[list[ClipKey]]:
        clips_epoch = -1
        for step in range(self._first_step, self._num_steps):
            epoch, step_in_epoch = divmod(step, self._order.steps_per_epoch)
            if epoch != clips_epoch:
                clips, clips_epoch = self._order.epoch(epoch), epoch
            begin = step_in_epoch * self._order.batch_size
            for micro_batch in self._shards.micro_batches(self._order.num_clips_in(step)):
                positions = [(begin + position, weight) for position, weight in micro_batch]
                yield [ClipKey(epoch, int(clips[at]), at, weight) for at, weight in positions]


# --- reading clips --------------------------------------------------------------------------------


def primary_label(item: ClipRecord) -> int:
    """The class that a clip is counted as; -1 if it shows none."""
    return item.labels[0] if item.labels else -1


class LoadedClip(NamedTuple):
    """A clip or its replacement; `clip` is None if no replacement can be read either."""

    clip: AugmentedClip | None
    labels: tuple[int, ...]
    weight: float
    failures: list[tuple[str, str]]
    targets: tuple[float, ...] = ()


class ClipDataset(Protocol):
    """Clips by (epoch, index, position); all randomness is derived from this key."""

    def __getitem__(self, key: tuple[int, ...], /) -> Sample: ...


class ReplacingClips:
    """A dataset that replaces unreadable clips, by another clip of the same class if possible."""

    def __init__(self, clips: ClipDataset, annotations: Annotations, seed: int) -> None:
        self._clips = clips
        self._labels = np.array([primary_label(item) for item in annotations.items])
        self._seed = seed

    def __getitem__(self, key: ClipKey) -> LoadedClip:
        failures: list[tuple[str, str]] = []
        for candidate in self._candidates(key):
            sample = self._clips[key.epoch, int(candidate), key.position]
            if sample.error is None:
                return LoadedClip(sample.views, sample.labels, key.weight, failures, sample.targets)
            failures.append((sample.path, sample.error))
        return LoadedClip(None, (), key.weight, failures)

    def _candidates(self, key: ClipKey) -> Iterator[int]:
        yield key.clip
        seed = (self._seed, key.epoch, key.position, 0, _REPLACEMENT_KEY)
        generator = np.random.default_rng(seed)
        same_class = np.flatnonzero(self._labels == self._labels[key.clip])
        same_class = same_class[same_class != key.clip]
        count = min(_MAX_REPLACEMENTS, len(same_class))
        yield from generator.choice(same_class, count, replace=False)
        yield from generator.choice(len(self._labels), _MAX_REPLACEMENTS)


def collate(loaded: list[LoadedClip]) -> Batch:
    """One batch; an empty one if a clip and all of its replacements are unreadable."""
    clips = [one.clip for one in loaded if one.clip is not None]
    if len(clips) < len(loaded):
        failures = tuple(failure for one in loaded if one.clip is None for failure in one.failures)
        empty = torch.empty(0)
        return Batch(empty, empty, empty, empty, (), failures)
    return Batch(
        pixels=torch.from_numpy(np.stack([clip.pixels for clip in clips])),
        labels=_pad_labels([one.labels for one in loaded]),
        weights=torch.tensor([one.weight for one in loaded]),
        erased=torch.tensor([clip.erased for clip in clips]),
        mixes=tuple(clip.mix for clip in clips),
        failures=tuple(failure for one in loaded for failure in one.failures),
        targets=torch.tensor([one.targets for one in loaded]),
    )


def _pad_labels(labels: list[tuple[int, ...]]) -> Tensor:
    """(B, L) int64, padded with -1."""
    length = max(1, *map(len, labels))
    return torch.tensor([[*one, *[-1] * (length - len(one))] for one in labels])


# --- workers --------------------------------------------------------------------------------------


def iterate_batches(
    clips: ReplacingClips,
    order: EpochOrder,
    shards: BatchShards,
    first_step: int,
    num_steps: int,
    num_workers: int,
    pin_memory: bool,
) -> Iterator[Batch]:
    """Yields the micro batches of this process, from `first_step` to the end of training.

    One stream for all epochs: workers start once and prefetch across epochs.

    Raises:
        DataError: Many clips in a row cannot be read, or a worker died.
    """
    loader: DataLoader[Any] = DataLoader(
        clips,  # type: ignore[arg-type]
        batch_sampler=MicroBatchSampler(order, shards, first_step, num_steps),
        num_workers=num_workers,
        collate_fn=collate,
        multiprocessing_context="spawn" if num_workers else None,
        prefetch_factor=4 if num_workers else None,
        worker_init_fn=_start_worker if num_workers else None,
        timeout=_TIMEOUT_SECONDS if num_workers else 0,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # so that it draws nothing from the network's generator
    )
    batches = iter(loader)
    try:
        for batch in batches:
            if not len(batch.pixels):
                path, reason = batch.failures[0]
                raise DataError(
                    f"{len(batch.failures)} clips in a row cannot be read, the first of them "
                    f"{one_line(path)}: {reason} Check the dataset with videoswin check-data."
                )
            yield batch
    except RuntimeError as error:
        if "DataLoader" not in str(error):
            raise
        raise DataError(
            "A data loading worker died or hangs: a corrupt file may have crashed its decoder, or "
            "memory ran out. Find the file with videoswin check-data, which survives such files, "
            f"then resume the run. ({str(error).splitlines()[0]})"
        ) from error
    finally:
        _stop_workers(batches)


def _start_worker(worker_id: int) -> None:
    cv2.setNumThreads(1)
    # Terminals and schedulers signal the whole process group; the trainer decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_trainer, daemon=True).start()


def _end_with_trainer() -> None:
    """Ends this process when the trainer is killed.

    torch looks for the trainer as well, but not if it was killed while this process started.
    """
    trainer = multiprocessing.parent_process()
    if trainer is not None:
        trainer.join()
        os._exit(1)


def _stop_workers(batches: Any) -> None:
    """Stops the workers; one that hangs in a decoder would keep the program alive."""
    workers = list(getattr(batches, "_workers", ()))
    if workers:
        batches._shutdown_workers()
    for worker in workers:
        if worker.is_alive():
            worker.kill()
