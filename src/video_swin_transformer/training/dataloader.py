"""Which clips make up which step, and how they get to the network.

Everything follows from (seed, epoch, position): the order of an epoch, the frames and the
augmentation of a clip, and what replaces one that cannot be read. So it does not matter how many
processes read or train, nor where a run was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..data import Annotations, ClipRecord, Sample
from ..errors import DataError
from .batches import Batch
from .transforms import AugmentedClip

_ORDER, _REPLACEMENT = 1, 2  # kinds of draws: a fifth number, which those of a clip do not have
_NUM_REPLACEMENTS = 20
_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True)
class EpochOrder:
    """Which clip stands at which position of an epoch, and which positions make up a step."""

    labels: tuple[int, ...]  # of all clips
    batch_size: int
    seed: int
    class_balanced: bool

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def epoch(self, epoch: int) -> npt.NDArray[np.int64]:
        """(N,) clip numbers: each once, or drawn so that every class comes equally often."""
        generator = np.random.default_rng((self.seed, epoch, 0, 0, _ORDER))
        num_clips = len(self.labels)
        if not self.class_balanced:
            return generator.permutation(num_clips)
        counts = np.bincount(self.labels)
        chances = 1 / counts[list(self.labels)]
        return generator.choice(num_clips, num_clips, p=chances / chances.sum())

    def num_clips_of(self, step: int) -> int:
        """Clips in a step: the last of an epoch may have fewer."""
        begin = step % self.steps_per_epoch * self.batch_size
        return min(self.batch_size, len(self.labels) - begin)


@dataclass(frozen=True)
class BatchShards:
    """How a step is cut up among processes and passes.

    Each process takes every `world`-th clip of the step, `micro_batch_size` at a time. All make the
    same number of passes, because they meet in the last one; one that has no clip left looks at
    its first again with weight 0.
    """

    rank: int
    world: int
    micro_batch_size: int

    def passes(self, num_clips: int) -> list[list[tuple[int, float]]]:
        """For each pass (place in the step, weight) of this process's clips."""
        own = list(range(self.rank, num_clips, self.world))
        longest = -(-num_clips // self.world)
        passes = []
        for begin in range(0, longest, self.micro_batch_size):
            places = own[begin : begin + self.micro_batch_size]
            filling = [(own[0] if own else 0, 0.0)]
            passes.append([(place, 1.0) for place in places] or filling)
        return passes


def first_label(item: ClipRecord) -> int:
    """The class that a clip is counted to; -1 where it shows none."""
    return item.labels[0] if item.labels else -1


class LoadedClip(NamedTuple):
    """clip is None where neither the wanted clip nor any replacement can be read."""

    clip: AugmentedClip | None
    labels: tuple[int, ...]
    weight: float
    failures: list[tuple[str, str]]


class ClipDataset(Protocol):
    """Clips by (epoch, index, position), drawn from these numbers alone."""

    def __getitem__(self, key: tuple[int, ...], /) -> Sample: ...


class ReplacingClips:
    """(epoch, position, clip number, weight) -> that clip, or its replacement."""

    def __init__(self, clips: ClipDataset, annotations: Annotations, seed: int) -> None:
        self._clips = clips
        self._labels = np.array([first_label(item) for item in annotations.items])
        self._seed = seed

    def __getitem__(self, key: tuple[int, int, int, float]) -> LoadedClip:
        """A replacement is of the same class if it can be."""
        epoch, position, index, weight = key
        failures: list[tuple[str, str]] = []
        for candidate in self._candidates(epoch, position, index):
            sample = self._clips[epoch, int(candidate), position]
            if sample.error is None:
                return LoadedClip(sample.views, sample.labels, weight, failures)
            failures.append((sample.path, sample.error))
        return LoadedClip(None, (), weight, failures)

    def _candidates(self, epoch: int, position: int, index: int) -> Iterator[int]:
        yield index
        generator = np.random.default_rng((self._seed, epoch, position, 0, _REPLACEMENT))
        alike = np.flatnonzero(self._labels == self._labels[index])
        alike = alike[alike != index]
        yield from generator.choice(alike, min(_NUM_REPLACEMENTS, len(alike)), replace=False)
        yield from generator.choice(len(self._labels), _NUM_REPLACEMENTS)


class _Keys:
    """What each pass needs, from a step to the end of the training: a batch sampler."""

    def __init__(
        self, order: EpochOrder, shares: BatchShards, first_step: int, num_steps: int
    ) -> None:
        self._order, self._shares = order, shares
        self._first_step, self._num_steps = first_step, num_steps

    def __len__(self) -> int:
        return sum(
            len(self._shares.passes(self._order.num_clips_of(step)))
            for step in range(self._first_step, self._num_steps)
        )

    def __iter__(self) -> Iterator[list[tuple[int, int, int, float]]]:
        drawn_epoch = -1
        for step in range(self._first_step, self._num_steps):
            epoch, number = divmod(step, self._order.steps_per_epoch)
            if epoch != drawn_epoch:
                clips, drawn_epoch = self._order.epoch(epoch), epoch
            begin = number * self._order.batch_size
            for one_pass in self._shares.passes(self._order.num_clips_of(step)):
                positions = [(begin + place, weight) for place, weight in one_pass]
                yield [(epoch, at, int(clips[at]), weight) for at, weight in positions]


def feed(
    clips: ReplacingClips,
    order: EpochOrder,
    shares: BatchShards,
    first_step: int,
    num_steps: int,
    num_workers: int,
    pin_memory: bool,
) -> Iterator[Batch]:
    """The batches of this process, pass by pass, from `first_step` to the end.

    One stream over all epochs: workers start once and read ahead across their borders. Raises
    DataError where nothing can be read or a worker dies.
    """
    loader: DataLoader[Any] = DataLoader(
        clips,  # type: ignore[arg-type]
        batch_sampler=_Keys(order, shares, first_step, num_steps),
        num_workers=num_workers,
        collate_fn=collate,
        multiprocessing_context="spawn" if num_workers else None,
        prefetch_factor=4 if num_workers else None,
        worker_init_fn=_start_worker if num_workers else None,
        timeout=_TIMEOUT_SECONDS if num_workers else 0,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # its draws must not be taken from the network's
    )
    batches = iter(loader)
    try:
        for batch in batches:
            if not len(batch.pixels):
                path, reason = batch.failures[0]
                raise DataError(
                    f"{len(batch.failures)} clips in a row cannot be read, the first of them "
                    f"{path}: {reason} Look at the dataset with videoswin check-data."
                )
            yield batch
    except RuntimeError as error:
        if "DataLoader" not in str(error):
            raise
        raise DataError(
            "A process that reads clips has died or hangs; a broken file may have crashed its "
            "decoder, or memory has run out. Find the file with videoswin check-data, which "
            f"survives such files, then go on with --resume. ({str(error).splitlines()[0]})"
        ) from error
    finally:
        _end(batches)


def _end(batches: Any) -> None:
    """Ends the processes that read; one that hangs in a decoder would keep the program alive."""
    workers = list(getattr(batches, "_workers", ()))
    if workers:
        batches._shutdown_workers()
    for worker in workers:
        if worker.is_alive():
            worker.kill()


def _start_worker(number: int) -> None:
    import signal

    cv2.setNumThreads(1)
    # The trainer gets them, too, and decides; schedulers and terminals signal whole groups.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def collate(loaded: list[LoadedClip]) -> Batch:
    """One batch; empty where one of its clips cannot be had."""
    failures = tuple(failure for one in loaded for failure in one.failures)
    clips = [one.clip for one in loaded if one.clip is not None]
    if len(clips) < len(loaded):
        failures = tuple(failure for one in loaded if one.clip is None for failure in one.failures)
        nothing = torch.empty(0)
        return Batch(nothing, nothing, nothing, nothing, (), failures)
    return Batch(
        pixels=torch.from_numpy(np.stack([clip.pixels for clip in clips])),
        labels=_filled_up([one.labels for one in loaded]),
        weights=torch.tensor([one.weight for one in loaded]),
        erased=torch.tensor([clip.erased for clip in clips]),
        mixes=tuple(clip.mix for clip in clips),
        failures=failures,
    )


def _filled_up(labels: list[tuple[int, ...]]) -> Tensor:
    """(B, L) int64: L as many as the clip with the most has, and -1 where a clip has fewer."""
    most = max(1, *map(len, labels))
    return torch.tensor([[*some, *[-1] * (most - len(some))] for some in labels])


def pass_seed(seed: int, step: int, rank: int, number: int) -> int:
    """Seed of what the network draws (dropout, drop path) in one pass."""
    return int(np.random.SeedSequence((seed, step, rank, number)).generate_state(1)[0])


def scale_of(batch: Batch, weights: Tensor | None) -> Tensor:
    """(B,) what each clip's loss counts: 0 for filling, else the weight of its class."""
    return batch.weights if weights is None else batch.weights * weights[batch.labels[:, 0]]
