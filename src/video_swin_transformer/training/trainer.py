"""The training loop: `Trainer.fit` and `Trainer.train_step`.

fit
  iterate_batches          dataloader.py: micro batches of this process, workers
  train_step               forward, backward, optimizer.step(), moving average
  _report_step             steps.csv, TensorBoard, the progress callback
  _end_epoch               validation, epochs.csv, the best weights so far
  save                     a checkpoint, after each epoch and every few minutes
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from ..config import ClipSampling, Preprocessing
from ..data import Annotations
from ..errors import CheckpointError, TrainingDivergedError
from ..file_names import one_line
from ..model import VideoSwinTransformer
from .config import Recipe
from .console import Progress, format_metric, metric_label
from .data import TrainingData
from .dataloader import (
    Batch,
    BatchShards,
    EpochOrder,
    ReplacingClips,
    iterate_batches,
    primary_label,
)
from .distributed import (
    StopSignal,
    deterministic,
    device_memory_errors,
    gather_objects,
    stop_signal,
    used_bytes,
)
from .io import Checkpoints, TrainLog, val_columns
from .losses import (
    build_targets,
    clip_losses,
    loss_weights,
    regression_losses,
    scaled_class_weights,
)
from .optim import averaged_model, learning_rate, parameter_groups
from .recipe_files import recipe_text
from .setup import TrainSetup, set_train_mode
from .transforms import Normalizer, erase, mix
from .validation import ValidationResult, metric_names, validate

if TYPE_CHECKING:
    from .distributed import Accelerator

logger = logging.getLogger(__name__)

ProgressCallback = Callable[[Progress], None]


class TrainingInterrupted(Exception):  # noqa: N818 (not an error)
    """The run was asked to stop and has written a checkpoint.

    Attributes:
        signal_number: The signal, SIGINT or SIGTERM.
        step: Steps so far.
    """

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name} after step {step}")
        self.signal_number, self.step = signal_number, step


@dataclass
class StepTotals:
    """Sums over the clips of one step.

    Attributes:
        loss: Sum of the weighted losses.
        num_correct: Clips whose label has the highest score.
        num_scored: Clips for which that is defined: not if clips are mixed or multi-label.
        num_stop_requests: Processes that were asked to stop.
    """

    loss: float = 0.0
    num_correct: float = 0.0
    num_scored: float = 0.0
    num_stop_requests: float = 0.0

    def reduce(self, accelerator: Accelerator) -> StepTotals:
        """The sums over all processes."""
        if accelerator.num_processes == 1:
            return self
        values = torch.tensor(dataclasses.astuple(self), dtype=torch.float64)
        return StepTotals(*accelerator.reduce(values.to(accelerator.device), "sum").tolist())


@dataclass
class TrainState:
    """The state of a run apart from network and optimizer: plain numbers and strings.

    Attributes:
        metric_name: The validation metric, "top1", "map" or "srcc".
        step: Steps so far.
        epoch_totals: Sums over the current epoch.
        epoch_clips: Clips of the current epoch so far.
        seconds: Time spent training, without interruptions.
        best_metric: Best validation metric, -1 before the first validation.
        best_loss: Validation loss of that epoch.
        best_epoch: That epoch, from 0; -1 before the first validation.
        last_metric: Last validation metric.
        failures: Reason by path of clips that could not be read.
        num_replaced: How many times a clip was replaced, in this process.
    """

    metric_name: str
    step: int = 0
    epoch_totals: StepTotals = field(default_factory=StepTotals)
    epoch_clips: int = 0
    seconds: float = 0.0
    best_metric: float = -1.0
    best_loss: float = math.inf
    best_epoch: int = -1
    last_metric: float | None = None
    failures: dict[str, str] = field(default_factory=dict)
    num_replaced: int = 0

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrainState:
        """The inverse of `dataclasses.asdict`."""
        return cls(**{**data, "epoch_totals": StepTotals(**data["epoch_totals"])})


class Trainer:
    """Trains one network, in one of the processes of a run.

    Args:
        recipe: The recipe.
        out: The folder of the run.
        data: The datasets.
        setup: The network.
        clips: The training clips, augmented.
        accelerator: Connects the processes.
        micro_batch_size: Clips per forward pass.
        num_workers: Data loading workers of this process.
        progress: Called after each step, in the main process only.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        data: TrainingData,
        setup: TrainSetup,
        clips: ReplacingClips,
        accelerator: Accelerator,
        micro_batch_size: int,
        num_workers: int,
        progress: ProgressCallback | None = None,
    ) -> None:
        self.recipe, self.data, self.setup = recipe, data, setup
        self.model = setup.model
        self._out, self._accelerator, self._clips = out, accelerator, clips
        self._num_workers, self._progress = num_workers, progress
        self._is_main = accelerator.is_main_process
        self._device: torch.device = accelerator.device

        self.order = EpochOrder(
            tuple(primary_label(item) for item in data.train.items),
            recipe.batch_size,
            recipe.seed,
            recipe.data.class_balanced,
        )
        self._shards = BatchShards(
            accelerator.process_index, accelerator.num_processes, micro_batch_size
        )
        self.num_steps = recipe.schedule.epochs * self.order.steps_per_epoch

        self.model.set_grad_checkpointing(recipe.run.grad_checkpointing)
        config = recipe.optimizer
        optimizer = torch.optim.AdamW(
            parameter_groups(self.model, self.model.config.depths, config),
            lr=config.learning_rate,
            betas=(config.betas[0], config.betas[1]),
        )
        self.ema = None
        if recipe.ema_decay is not None:
            self.ema = averaged_model(self.model, recipe.ema_decay, self._device)
        self._ddp_model: nn.Module = accelerator.prepare_model(self.model)
        self._optimizer: Any = accelerator.prepare_optimizer(optimizer)
        self._parameters = [p for p in self.model.parameters() if p.requires_grad]

        preprocessing = self.model.bundle.preprocessing
        self._normalize = Normalizer(preprocessing.mean, preprocessing.std, self._device)
        counts = [int(n) for n in data.train.class_counts()]
        counts += [0] * (data.num_classes - len(counts))
        weights = scaled_class_weights(counts, recipe.loss.class_weights)
        self._class_weights = None if weights is None else torch.tensor(weights)
        self._mixes = bool(recipe.augment.mixup or recipe.augment.cutmix)
        self._binary = self.model.bundle.multi_label
        scales = [(target.mean, target.std) for target in self.model.bundle.targets]
        self._scales = torch.tensor(scales).T.to(self._device) if scales else None  # (2, R)

        self.state = TrainState(metric_names(data.task)[0])
        self.checkpoints = Checkpoints(out, recipe.run.max_checkpoints)
        self._log: TrainLog | None = None
        self._saved_at = time.monotonic()
        # Since this process started, for the speed.
        self._train_seconds = 1e-9
        self._wait_seconds = 0.0
        self._num_clips = 0

    # --- the loop -------------------------------------------------------------------------------

    def fit(self) -> TrainState:
        """Trains to the end, from the first step or from the checkpoint that was loaded.

        Raises:
            TrainingInterrupted: After SIGINT or SIGTERM, when a checkpoint is written.
            TrainingDivergedError: The loss is no longer finite.
            DeviceMemoryError: A micro batch does not fit in memory.
            DataError: Many clips in a row cannot be read, or a worker died.
        """
        state = self.state
        if self._is_main:
            self._log = TrainLog(self._out, state.step, self.data.task)
        loader = iterate_batches(
            self._clips,
            self.order,
            self._shards,
            state.step,
            self.num_steps,
            self._num_workers,
            pin_memory=self._device.type == "cuda",
        )
        try:
            with deterministic(self._device), stop_signal() as stop:
                batches = self._time_loading(loader)
                while state.step < self.num_steps:
                    started, waited = time.monotonic(), self._wait_seconds
                    totals = self.train_step(batches, stop)
                    if totals is None:
                        self._save_and_interrupt(stop)
                    self._count_step(totals, time.monotonic() - started)
                    self._report_step(
                        totals, time.monotonic() - started, self._wait_seconds - waited
                    )
                    is_epoch_end = state.step % self.order.steps_per_epoch == 0
                    if is_epoch_end:
                        self._end_epoch()
                    if is_epoch_end or self._is_checkpoint_due():
                        self.save()
                    if totals.num_stop_requests and state.step < self.num_steps:
                        self._save_and_interrupt(stop)
        finally:
            loader.close()  # type: ignore[attr-defined]
            if self._log is not None:
                self._log.close()
        return state

    def train_step(self, batches: Iterator[Batch], stop: StopSignal) -> StepTotals | None:
        """One optimizer step: forward and backward of each micro batch, then the update.

        Each clip's loss has weight 1 / (clips of the step), in whichever process and micro batch it
        is, so the gradient is that of the mean over the whole batch.

        Args:
            batches: The micro batches of this process.
            stop: Checked before each micro batch if there is one process; several have to stop
                after the same step.

        Returns:
            The sums over all processes. None if stopped before the update: nothing has changed.

        Raises:
            TrainingDivergedError: The loss is not finite.
        """
        step, accelerator = self.state.step, self._accelerator
        num_clips, world_size = self.order.num_clips_in(step), accelerator.num_processes
        num_micro_batches = len(self._shards.micro_batches(num_clips))
        set_train_mode(self.model, self.recipe.model)
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate(step) * group["lr_scale"]

        totals = StepTotals()
        with device_memory_errors(self._shards.micro_batch_size):
            for index in range(num_micro_batches):
                if stop and world_size == 1:
                    self._optimizer.zero_grad()
                    return None
                batch = next(batches)
                torch.manual_seed(
                    micro_batch_seed(self.recipe.seed, step, accelerator.process_index, index)
                )
                is_last = index == num_micro_batches - 1
                with contextlib.nullcontext() if is_last else accelerator.no_sync(self._ddp_model):
                    losses = self._forward(batch, totals)
                    # DDP averages the gradients of the processes; here they have to be summed.
                    accelerator.backward(losses.sum() * (world_size / num_clips))
                totals.loss += float(losses.detach().sum())
            totals.num_stop_requests = float(bool(stop))
            totals = totals.reduce(accelerator)

            if (max_norm := self.recipe.optimizer.grad_clip_norm) is not None:
                accelerator.clip_grad_norm_(self._parameters, max_norm)
            self._optimizer.step()
            self._optimizer.zero_grad()
            if self.ema is not None:
                self.ema.update_parameters(self.model)

        if not math.isfinite(totals.loss):
            raise TrainingDivergedError(
                f"Training diverged: the loss of step {step} is {totals.loss}. Lower "
                "optimizer.learning_rate, or set optimizer.grad_clip_norm=1 or run.precision=f32. "
                "The last checkpoint was written before that."
            )
        return totals

    def _forward(self, batch: Batch, totals: StepTotals) -> Tensor:
        """The weighted loss of each clip, (B,); adds the number of correct clips to `totals`."""
        clips = self._normalize(batch.pixels)
        erase(clips, batch.erased)
        labels = batch.labels.to(self._device)
        loss = self.recipe.loss
        if self._scales is None:
            targets = build_targets(labels, self.model.num_classes, loss.label_smoothing)
        else:
            targets = (batch.targets.to(self._device) - self._scales[0]) / self._scales[1]
        if self._mixes:
            clips, targets = mix(clips, targets, batch.mixes)
        logits = self._ddp_model(clips)
        if self._scales is not None:
            losses = regression_losses(logits, targets, loss.distance, loss.huber_delta)
            return losses * batch.weights.to(self._device)
        losses = clip_losses(logits, targets, binary=self._binary)
        if not (self._mixes or self._binary):
            is_correct = (logits.argmax(-1) == labels[:, 0]).cpu()
            totals.num_correct += float((is_correct * batch.weights).sum())
            totals.num_scored += float(batch.weights.sum())
        return losses * loss_weights(batch, self._class_weights).to(self._device)

    def learning_rate(self, step: int) -> float:
        """The learning rate of the head in a step."""
        return learning_rate(
            step,
            self.order.steps_per_epoch,
            self.recipe.optimizer.learning_rate,
            self.recipe.schedule,
        )

    def _time_loading(self, loader: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; measures the wait for them and notes unreadable clips."""
        while True:
            started = time.monotonic()
            batch = next(loader, None)
            self._wait_seconds += time.monotonic() - started
            if batch is None:
                return
            self.state.num_replaced += len(batch.failures)
            self.note_failures(batch.failures)
            yield batch

    def _count_step(self, totals: StepTotals, seconds: float) -> None:
        state = self.state
        num_clips = self.order.num_clips_in(state.step)
        state.step += 1
        state.epoch_totals.loss += totals.loss
        state.epoch_totals.num_correct += totals.num_correct
        state.epoch_totals.num_scored += totals.num_scored
        state.epoch_clips += num_clips
        state.seconds += seconds
        self._train_seconds += seconds
        self._num_clips += num_clips

    def _report_step(self, totals: StepTotals, seconds: float, waited: float) -> None:
        if not self._is_main:
            return
        state = self.state
        step = state.step - 1
        epoch = step // self.order.steps_per_epoch
        num_epochs = self.recipe.schedule.epochs
        num_clips = self.order.num_clips_in(step)
        memory = used_bytes(self._device)
        speed = self._num_clips / self._train_seconds
        clips_left = (num_epochs - epoch) * len(self.order.labels) - state.epoch_clips
        if self._log is not None:
            self._log.write_step(
                {
                    "step": state.step,
                    "epoch": epoch,
                    "loss": totals.loss / num_clips,
                    "accuracy": _ratio(totals.num_correct, totals.num_scored),
                    "learning_rate": self.learning_rate(step),
                    "clips": num_clips,
                    "clips_per_second": num_clips / seconds,
                    "data_wait_fraction": waited / seconds,
                    "memory_bytes": memory,
                }
            )
        if self._progress is not None:
            self._progress(
                Progress(
                    step=state.step,
                    num_steps=self.num_steps,
                    epoch=epoch,
                    num_epochs=num_epochs,
                    loss=state.epoch_totals.loss / state.epoch_clips,
                    accuracy=_ratio(state.epoch_totals.num_correct, state.epoch_totals.num_scored),
                    learning_rate=self.learning_rate(step),
                    clips_per_second=speed,
                    data_wait_fraction=self._wait_seconds / self._train_seconds,
                    memory_bytes=memory,
                    seconds_left=clips_left / speed,
                    metric_name=state.metric_name,
                    val_metric=state.last_metric,
                    num_failures=len(state.failures),
                )
            )

    # --- end of an epoch ------------------------------------------------------------------------

    def _end_epoch(self) -> None:
        state = self.state
        epoch = state.step // self.order.steps_per_epoch - 1
        self._share_failures()
        row: dict[str, float] = {
            "epoch": epoch,
            "step": state.step,
            "train_loss": state.epoch_totals.loss / state.epoch_clips,
            "train_accuracy": _ratio(state.epoch_totals.num_correct, state.epoch_totals.num_scored),
            "seconds": state.seconds,
        }
        is_due = (epoch + 1) % self.recipe.run.val_epochs == 0 or state.step == self.num_steps
        if is_due and self.data.val is not None:
            result = self.validate()
            metrics = {f"val_{name}": value for name, value in result.metrics.items()}
            row |= {"val_loss": result.loss, **metrics, "val_clips": result.num_clips}
            self._update_best(epoch, result)
        if self._log is not None:
            columns = (*row, *val_columns(self.data.task))
            self._log.write_epoch({name: row.get(name, math.nan) for name in columns})
        state.epoch_totals = StepTotals()
        state.epoch_clips = 0

    def _update_best(self, epoch: int, result: ValidationResult) -> None:
        state = self.state
        metric = state.last_metric = result.metrics[state.metric_name]
        logger.info(
            "epoch %d: %s %s on %d validation clips",
            epoch + 1,
            metric_label(state.metric_name),
            format_metric(state.metric_name, metric),
            result.num_clips,
        )
        # With few clips, equal metrics are likely; then the lower loss decides.
        if (metric, -result.loss) > (state.best_metric, -state.best_loss):
            state.best_metric, state.best_loss = metric, result.loss
            state.best_epoch = epoch
            if self._is_main:
                self.checkpoints.save_best({"model": self.weights(), "epoch": epoch})

    @property
    def eval_model(self) -> VideoSwinTransformer:
        """The network that is validated and kept: the moving average if there is one."""
        if self.ema is None:
            return self.model
        module = self.ema.module
        assert isinstance(module, VideoSwinTransformer)
        return module

    def weights(self) -> dict[str, Tensor]:
        """The weights of `eval_model`, on the CPU."""
        return {k: v.detach().cpu().clone() for k, v in self.eval_model.state_dict().items()}

    def validate(self) -> ValidationResult:
        """Validates `eval_model` on the validation clips: one view per clip."""
        assert self.data.val is not None
        return self._validate(self.data.val, self.setup.val_sampling, self.setup.val_preprocessing)

    def test(self) -> ValidationResult:
        """Evaluates `eval_model` on the test clips, with all views of the finished model."""
        assert self.data.test is not None
        bundle = self.model.bundle
        return self._validate(self.data.test, bundle.sampling, bundle.preprocessing)

    def _validate(
        self, annotations: Annotations, sampling: ClipSampling, preprocessing: Preprocessing
    ) -> ValidationResult:
        accelerator = self._accelerator
        own = validate(
            self.eval_model,
            annotations,
            sampling,
            preprocessing,
            self.recipe.data.frame_order,
            range(accelerator.process_index, len(annotations.items), accelerator.num_processes),
            max(self._num_workers, 1),
            self._device,
            accelerator.autocast(),
        )
        result = ValidationResult.merge(gather_objects(own, accelerator))
        self.note_failures(result.failures)
        return result

    # --- unreadable clips -----------------------------------------------------------------------

    def note_failures(self, failures: Sequence[tuple[str, str]]) -> None:
        """Logs each unreadable clip once and adds it to the quarantine list for later runs."""
        new = {path: why for path, why in failures if path not in self.state.failures}
        for path, why in new.items():
            self.state.failures[path] = why
            is_named = path in why or repr(path) in why
            logger.error("%s", why if is_named else f"{one_line(path)}: {why}")
        if new and self._is_main:
            self.data.quarantine.add(new.items())

    def _share_failures(self) -> None:
        """Shares unreadable clips among all processes."""
        if self._accelerator.num_processes == 1:
            return
        for failures in gather_objects(dict(self.state.failures), self._accelerator):
            self.note_failures(tuple(failures.items()))

    def total_replaced(self) -> int:
        """How many times a clip was replaced, in all processes."""
        return sum(gather_objects(self.state.num_replaced, self._accelerator))

    # --- checkpoints ----------------------------------------------------------------------------

    def save(self) -> None:
        """Writes a checkpoint (the main process only; all have the same weights)."""
        self._saved_at = time.monotonic()
        if not self._is_main:
            return
        scaler = self._accelerator.scaler
        self.checkpoints.save(
            self.state.step,
            {
                "model": self.model.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "ema": None if self.ema is None else self.ema.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
                "train_state": dataclasses.asdict(self.state),
                "recipe": recipe_text(self.recipe),
                "bundle": self.model.bundle.to_json(),
                "train_short_side": self.setup.train_short_side,
                "fingerprint": self.data.fingerprint,
                "excluded": list(self.data.excluded),
                "micro_batch_size": self._shards.micro_batch_size,
                "world_size": self._accelerator.num_processes,
                "num_threads": torch.get_num_threads(),
            },
        )

    def load(self, checkpoint: dict[str, Any]) -> None:
        """Restores the state that `save` wrote.

        Raises:
            CheckpointError: It belongs to another network.
        """
        try:
            self.model.load_state_dict(checkpoint["model"])
            self._optimizer.load_state_dict(checkpoint["optimizer"])
            if self.ema is not None:
                self.ema.load_state_dict(checkpoint["ema"])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"The checkpoint belongs to another network or recipe: {error}"
            ) from error
        if checkpoint["scaler"] is not None and self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(checkpoint["scaler"])
        self.state = TrainState.from_dict(checkpoint["train_state"])
        if not self._is_main:
            self.state.num_replaced = 0  # the checkpoint has the count of the main process

    def _is_checkpoint_due(self) -> bool:
        return time.monotonic() - self._saved_at > 60 * self.recipe.run.checkpoint_minutes

    def _save_and_interrupt(self, stop: StopSignal) -> NoReturn:
        self.save()
        raise TrainingInterrupted(stop.number or signal.SIGTERM, self.state.step)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def micro_batch_seed(seed: int, step: int, rank: int, index: int) -> int:
    """Seed of dropout and stochastic depth in one micro batch."""
    return int(np.random.SeedSequence((seed, step, rank, index)).generate_state(1)[0])
