"""Memory and time of a training run: an estimate, and the measurement of --dry-run."""

from __future__ import annotations

import gc
import logging
import threading
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import TrainClips
from ..errors import DataError
from .config import Recipe
from .data import TrainingData, read_training_data, uses_binary_loss
from .distributed import (
    activation_bytes,
    max_micro_batch_size,
    num_dataloader_workers,
    open_accelerator,
    state_bytes,
    usable_bytes,
    used_bytes,
)
from .losses import build_targets, clip_losses
from .optim import parameter_groups
from .setup import TrainSetup, build_setup, set_train_mode
from .transforms import ClipTransform

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 20.0  # after a pass this long, no larger size is measured
_SECONDS_PER_SIZE = 2.0
_MAX_PASSES = 5
_NUM_CLIPS_READ = 3
_CLASSES_WITHOUT_DATA = 400
# Memory with gradient checkpointing, relative to without: the inputs of all blocks, and one block.
_GRAD_CHECKPOINTING_MEMORY_RATIO = 0.35

# --- the estimate before each run -----------------------------------------------------------------


def choose_micro_batch_size(
    recipe: Recipe, setup: TrainSetup, device: torch.device, limit: int
) -> int:
    """How many clips fit in the memory of a process, at most `limit`."""
    if limit == 1:
        return 1
    per_clip = bytes_per_clip(setup, device, recipe.run.precision)
    if recipe.run.grad_checkpointing:
        per_clip = int(per_clip * _GRAD_CHECKPOINTING_MEMORY_RATIO)
    return max_micro_batch_size(per_clip, state_bytes(setup.model), usable_bytes(device), limit)


def bytes_per_clip(setup: TrainSetup, device: torch.device, precision: str) -> int:
    """Bytes per clip between forward and backward pass, measured with one forward pass."""
    model = setup.model.to(device)
    clip = random_input(setup, 1, device)
    dtype = _autocast_dtype(precision)
    with torch.random.fork_rng(), torch.autocast(device.type, dtype, enabled=dtype is not None):
        return activation_bytes(lambda: model(clip), model) + clip.nbytes


def random_input(setup: TrainSetup, num_clips: int, device: torch.device) -> Tensor:
    """(num_clips, C, T, S, S) float32 noise of the network's input shape."""
    bundle = setup.model.bundle
    size = bundle.preprocessing.crop_size
    generator = torch.Generator().manual_seed(0)
    shape = (num_clips, bundle.model.in_chans, bundle.sampling.num_frames, size, size)
    return torch.randn(shape, generator=generator).to(device)


def _autocast_dtype(precision: str) -> torch.dtype | None:
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)


# --- the measurement of a dry run -----------------------------------------------------------------


@dataclass(frozen=True)
class MicroBatchProfile:
    """A measured training step with one micro batch.

    Attributes:
        micro_batch_size: Clips of the micro batch.
        grad_checkpointing: Whether blocks were recomputed in the backward pass.
        seconds: Time of forward, backward and optimizer.
        peak_bytes: Peak memory of the whole process.
    """

    micro_batch_size: int
    grad_checkpointing: bool
    seconds: float
    peak_bytes: int

    @property
    def clips_per_second(self) -> float:
        """Training speed of one process."""
        return self.micro_batch_size / self.seconds


@dataclass(frozen=True)
class TrainingProfile:
    """What a training run needs on this machine.

    Attributes:
        device: The device.
        num_processes: Training processes.
        num_params: Parameters of the network.
        state_bytes: Memory of weights, gradients and optimizer.
        bytes_per_clip: Memory of one clip between forward and backward pass.
        usable_bytes: Memory that a process may use.
        measured: The measured micro batches.
        suggested: The fastest one that fits in memory, None if none does.
        batch_size: Clips per step, from the recipe.
        num_clips: Training clips, None without data.
        epochs: Epochs of the recipe.
        read_seconds: Time to read one clip in one worker, None without data.
        num_workers: Data loading workers per process.
    """

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
    read_seconds: float | None
    num_workers: int

    @property
    def epoch_seconds(self) -> float | None:
        """Time of an epoch if reading keeps up; None without data or if nothing fits."""
        if self.num_clips is None or self.suggested is None:
            return None
        return self.num_clips / self.suggested.clips_per_second / self.num_processes


def profile_training(recipe: Recipe, device: str = "auto") -> TrainingProfile:
    """Measures time and memory of training steps at several batch sizes, without writing files.

    Args:
        recipe: The recipe. Without `data.train`, the time per epoch is not estimated.
        device: See `train`.

    Returns:
        The measurements.

    Raises:
        VideoSwinError: See `train`.
    """
    accelerator = open_accelerator(recipe.run.precision, device)
    data = None if recipe.data.train is None else read_training_data(recipe.data, recipe.seed)
    if data is not None:
        for note in data.notes:
            logger.info("%s", note)
        for warning in data.warnings:
            logger.warning("%s", warning)
    setup = _setup_for_profile(recipe, data)
    setup.model.to(accelerator.device)
    usable = usable_bytes(accelerator.device)
    limit = recipe.micro_batch_size or -(-recipe.batch_size // accelerator.num_processes)
    per_clip = bytes_per_clip(setup, accelerator.device, recipe.run.precision)
    measured = _measure_sizes(recipe, setup, accelerator.device, limit, per_clip, usable)
    fitting = [one for one in measured if one.peak_bytes <= usable]
    return TrainingProfile(
        device=str(accelerator.device),
        num_processes=accelerator.num_processes,
        num_params=sum(p.numel() for p in setup.model.parameters()),
        state_bytes=state_bytes(setup.model),
        bytes_per_clip=per_clip,
        usable_bytes=usable,
        measured=tuple(measured),
        suggested=max(fitting, key=lambda one: one.clips_per_second, default=None),
        batch_size=recipe.batch_size,
        num_clips=None if data is None else len(data.train.items),
        epochs=recipe.schedule.epochs,
        read_seconds=None if data is None else _read_seconds(recipe, data, setup),
        num_workers=num_dataloader_workers(recipe.run.workers),
    )


def _setup_for_profile(recipe: Recipe, data: TrainingData | None) -> TrainSetup:
    """The network, with random weights if the recipe describes it: times are the same."""
    if recipe.model.architecture or recipe.model.sizes:
        scratch = {"init_from": "scratch", "pretrained": "optional"}
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update=scratch)})
    if data is None:
        return build_setup(recipe, recipe.data.num_classes or _CLASSES_WITHOUT_DATA, ())
    binary = uses_binary_loss(recipe.loss, data)
    return build_setup(recipe, data.num_classes, (), multi_label=binary)


def _measure_sizes(
    recipe: Recipe,
    setup: TrainSetup,
    device: torch.device,
    limit: int,
    per_clip: int,
    usable: int,
) -> list[MicroBatchProfile]:
    """1, 2, 4, ... clips without and with gradient checkpointing, as long as speed improves."""
    measured: list[MicroBatchProfile] = []
    set_train_mode(setup.model, recipe.model)
    config = recipe.optimizer
    groups = parameter_groups(setup.model, setup.model.config.depths, config)
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
    for grad_checkpointing in (False, True):
        setup.model.set_grad_checkpointing(grad_checkpointing)
        size, last_speed = 1, 0.0
        while size <= limit:
            if not grad_checkpointing and size > 1 and size * per_clip > 1.5 * usable:
                break  # cannot fit
            logger.info(
                "measuring %d clips%s",
                size,
                " with gradient checkpointing" if grad_checkpointing else "",
            )
            try:
                one = _measure_size(recipe, setup, optimizer, size, grad_checkpointing, device)
            except torch.OutOfMemoryError:
                break
            measured.append(one)
            is_slower = one.clips_per_second < 0.9 * last_speed
            if one.seconds > _TIMEOUT_SECONDS or one.peak_bytes > usable or is_slower:
                break
            last_speed = one.clips_per_second
            size *= 2
    return measured


def _measure_size(
    recipe: Recipe,
    setup: TrainSetup,
    optimizer: torch.optim.Optimizer,
    size: int,
    grad_checkpointing: bool,
    device: torch.device,
) -> MicroBatchProfile:
    """The fastest of a few passes after a first one, which warms up."""
    model = setup.model
    clips = random_input(setup, size, device)
    labels = torch.arange(size, device=device)[:, None] % model.num_classes
    targets = build_targets(labels, model.num_classes, recipe.loss.label_smoothing)
    dtype = _autocast_dtype(recipe.run.precision)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times: list[float] = []
    with _PeakMemory(device) as peak:
        for _ in range(_MAX_PASSES):
            started = time.monotonic()
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                logits = model(clips)
            losses = clip_losses(logits, targets, binary=model.bundle.multi_label)
            losses.mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.monotonic() - started)
            is_enough = len(times) > 1 and sum(times) > _SECONDS_PER_SIZE
            if is_enough or times[0] > _TIMEOUT_SECONDS / 2:
                break
    return MicroBatchProfile(size, grad_checkpointing, min(times[1:] or times), peak.num_bytes)


class _PeakMemory:
    """Peak memory of this process inside the block, sampled every few milliseconds."""

    _SAMPLE_SECONDS = 0.005

    def __init__(self, device: torch.device) -> None:
        self.num_bytes = 0
        self._device = device
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> _PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_done.set()
        self._thread.join()
        self.num_bytes = max(self.num_bytes, used_bytes(self._device))

    def _sample(self) -> None:
        while not self._is_done.wait(self._SAMPLE_SECONDS):
            self.num_bytes = max(self.num_bytes, used_bytes(self._device))


def _read_seconds(recipe: Recipe, data: TrainingData, setup: TrainSetup) -> float:
    """Time to read and augment one clip: the fastest of the first few that can be read."""
    p = setup.model.bundle.preprocessing
    clips = TrainClips(
        data.train,
        setup.train_sampling,
        setup.train_short_side,
        p.interpolation,
        ClipTransform(recipe.augment, p.crop_size, p.interpolation, recipe.data.frame_order),
        recipe.seed,
    )
    times: list[float] = []
    for index in range(min(4 * _NUM_CLIPS_READ, len(clips))):
        started = time.monotonic()
        if clips[0, index].error is None:
            times.append(time.monotonic() - started)
        if len(times) == _NUM_CLIPS_READ:
            break
    if not times:
        raise DataError(
            f"None of the first clips of {data.train.source!r} can be read; check them with "
            "videoswin check-data."
        )
    return min(times)
