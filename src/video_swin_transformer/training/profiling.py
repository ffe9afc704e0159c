"""What a training will cost on this machine, by one real step at a few sizes."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..data import TrainClips
from ..errors import DataError
from .api import bytes_per_clip, dummy_clips
from .batches import clip_losses, targets_of
from .config import Recipe
from .data import TrainingData, is_multi_label, read_training_data
from .distributed import local_processes, num_readers, open_accelerator
from .memory import state_bytes, usable_bytes, used_bytes
from .param_groups import parameter_groups
from .setup import Start, build_setup, set_training
from .transforms import ClipTransform

_TIMEOUT_SECONDS = 20.0  # no larger size is tried after so long
_SECONDS_PER_SIZE = 2.0
_MAX_PASSES = 5
_NUM_CLIPS_READ = 3
_CLASSES_WITHOUT_DATA = 400


@dataclass(frozen=True)
class MicroBatchProfile:
    """One pass of so many clips. peak_bytes: of the whole process."""

    micro_batch_size: int
    checkpointing: bool
    seconds: float
    peak_bytes: int

    @property
    def clips_per_second(self) -> float:
        return self.micro_batch_size / self.seconds


@dataclass(frozen=True)
class Plan:
    """seconds_to_read: one clip in one reader, None where none could be tried. suggested: the
    fastest that fits, None where none does."""

    device: str
    num_processes: int
    num_params: int
    state_bytes: int
    bytes_per_clip: int
    usable_bytes: int
    measured: tuple[MicroBatchProfile, ...]
    suggested: MicroBatchProfile | None
    batch_size: int
    num_clips: int | None
    epochs: int
    seconds_to_read: float | None
    num_readers: int
    notes: tuple[str, ...]

    @property
    def epoch_seconds(self) -> float | None:
        """One epoch of the clips, if the network need not wait for them."""
        if self.num_clips is None or self.suggested is None:
            return None
        return self.num_clips / self.suggested.clips_per_second / self.num_processes


def profile_training(
    recipe: Recipe, device: str = "auto", advance: Callable[[str], None] = lambda what: None
) -> Plan:
    """Measures forward, backward and step of the optimizer; nothing is written.

    Without clips in the recipe the time of an epoch stays open. advance: told what is tried.
    """
    accelerator = open_accelerator(recipe.run.precision, device)
    where = accelerator.device
    data = None if recipe.data.train is None else read_training_data(recipe.data, recipe.seed)
    num_classes = data.num_classes if data else recipe.data.num_classes or _CLASSES_WITHOUT_DATA
    # The numbers do not depend on what the weights are, so none have to be fetched.
    blank = recipe.model.model_copy(
        update={"start": "scratch", "pretrained": "optional"}
        if recipe.model.architecture or recipe.model.sizes
        else {}
    )
    multi_label = data is not None and is_multi_label(recipe.loss, data)
    start = build_setup(
        recipe.model_copy(update={"model": blank}), num_classes, (), multi_label=multi_label
    )
    start.model.to(where)
    per_clip = bytes_per_clip(start, where, recipe.run.precision)
    usable = usable_bytes(where, local_processes())
    most = recipe.batch.micro or -(-recipe.batch.clips // accelerator.num_processes)
    measured = _measure(recipe, start, where, most, per_clip, usable, advance)
    fitting = [one for one in measured if one.peak_bytes <= usable]
    return Plan(
        device=str(where),
        num_processes=accelerator.num_processes,
        num_params=sum(p.numel() for p in start.model.parameters()),
        state_bytes=state_bytes(start.model),
        bytes_per_clip=per_clip,
        usable_bytes=usable,
        measured=tuple(measured),
        suggested=max(fitting, key=lambda one: one.clips_per_second, default=None),
        batch_size=recipe.batch.clips,
        num_clips=None if data is None else len(data.train.items),
        epochs=recipe.schedule.epochs,
        seconds_to_read=None if data is None else _seconds_to_read(recipe, data, start),
        num_readers=num_readers(recipe.run.workers, local_processes()),
        notes=() if data is None else data.notes,
    )


def _measure(
    recipe: Recipe,
    start: Start,
    device: torch.device,
    most: int,
    per_clip: int,
    usable: int,
    advance: Callable[[str], None],
) -> list[MicroBatchProfile]:
    """1, 2, 4, ... clips, without and with checkpointing, as long as it is worth it."""
    measured: list[MicroBatchProfile] = []
    set_training(start.model, recipe.model)
    plan = recipe.optimizer
    groups = parameter_groups(start.model, start.model.config.depths, plan)
    optimizer = torch.optim.AdamW(groups, lr=plan.learning_rate)
    for checkpointing in (False, True):
        start.model.set_grad_checkpointing(checkpointing)
        micro, last_speed = 1, 0.0
        while micro <= most:
            # A first guess spares the machine a size that cannot fit.
            if not checkpointing and micro > 1 and micro * per_clip > 1.5 * usable:
                break
            advance(f"{micro} clips{' with checkpointing' if checkpointing else ''}")
            try:
                one = _one_size(recipe, start, optimizer, micro, checkpointing, device)
            except torch.OutOfMemoryError:
                break
            measured.append(one)
            slower = one.clips_per_second < 0.9 * last_speed
            if one.seconds > _TIMEOUT_SECONDS or one.peak_bytes > usable or slower:
                break
            last_speed = one.clips_per_second
            micro *= 2
    return measured


def _one_size(
    recipe: Recipe,
    start: Start,
    optimizer: torch.optim.Optimizer,
    micro: int,
    checkpointing: bool,
    device: torch.device,
) -> MicroBatchProfile:
    """The fastest of a few passes after the first, which also warms up; others use the machine."""
    model = start.model
    clips = dummy_clips(start, micro, device)
    labels = torch.arange(micro, device=device)[:, None] % model.num_classes
    targets = targets_of(labels, model.num_classes, recipe.loss.label_smoothing)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(recipe.run.precision)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    spent: list[float] = []
    with _PeakMemory(device) as peak:
        for _ in range(_MAX_PASSES):
            began = time.monotonic()
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                logits = model(clips)
            losses = clip_losses(logits, targets, multi_label=model.bundle.multi_label)
            losses.mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            spent.append(time.monotonic() - began)
            is_enough = len(spent) > 1 and sum(spent) > _SECONDS_PER_SIZE
            if is_enough or spent[0] > _TIMEOUT_SECONDS / 2:
                break
    return MicroBatchProfile(micro, checkpointing, min(spent[1:] or spent), peak.most_bytes)


class _PeakMemory:
    """The most this process held while the block ran, looked at every few milliseconds."""

    _SECONDS_BETWEEN_LOOKS = 0.005

    def __init__(self, device: torch.device) -> None:
        self.most_bytes = 0
        self._device = device
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self.most_bytes = max(self.most_bytes, used_bytes(self._device))

    def _look(self) -> None:
        while not self._is_over.wait(self._SECONDS_BETWEEN_LOOKS):
            self.most_bytes = max(self.most_bytes, used_bytes(self._device))


def _seconds_to_read(recipe: Recipe, data: TrainingData, start: Start) -> float | None:
    """Reading and augmenting one clip in this process; the first few that can be read."""
    p = start.model.bundle.preprocessing
    transform = ClipTransform(recipe.augment, p.crop_size, p.interpolation, recipe.data.control)
    clips = TrainClips(
        data.train,
        start.train_sampling,
        start.train_short_side,
        p.interpolation,
        transform,
        recipe.seed,
    )
    spent = []
    for index in range(min(4 * _NUM_CLIPS_READ, len(clips))):
        began = time.monotonic()
        if clips[0, index].error is None:
            spent.append(time.monotonic() - began)
        if len(spent) == _NUM_CLIPS_READ:
            break
    if not spent:
        raise DataError(
            f"None of the first clips of {data.train.source!r} can be read; look at them with "
            "videoswin check-data."
        )
    return min(spent)
