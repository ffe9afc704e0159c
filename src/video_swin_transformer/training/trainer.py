"""A run from its first step to the finished model, or to the interruption it can go on from."""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import ConfigError
from .batches import Batch
from .checkpoints import Checkpoints
from .config import Recipe
from .console import Display, Progress
from .data import TrainingData
from .dataloader import BatchShards, EpochOrder, ReplacingClips, feed, first_label
from .distributed import StopSignal, deterministic, gather_objects, stop_signal
from .log import RunLog, val_columns
from .memory import used_bytes
from .recipe_files import recipe_text
from .setup import Start
from .train_step import StepResult, TrainStep
from .validation import ValidationResult, watch

if TYPE_CHECKING:
    from .distributed import Accelerator


class Interrupted(Exception):  # noqa: N818 (nothing went wrong)
    """The run was asked to stop and has written itself down."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}")
        self.number, self.step = number, step


@dataclass
class TrainState:
    """What a run has come to, apart from the network: numbers and texts only."""

    step: int = 0
    loss: float = 0.0  # sums over this epoch so far
    num_right: float = 0.0
    num_judged: float = 0.0
    num_clips: int = 0
    seconds: float = 0.0  # of training, without interruptions
    best_top1: float = -1.0  # mAP where clips have several labels; so last_top1
    best_loss: float = math.inf
    best_epoch: int = -1
    last_top1: float | None = None
    failures: dict[str, str] = field(default_factory=dict)  # reason by path
    num_replaced: int = 0


class Run:
    """One run in one of its processes."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        data: TrainingData,
        start: Start,
        clips: ReplacingClips,
        accelerator: Accelerator,
        micro_batch_size: int,
        num_workers: int,
        say: Callable[[str], None],
    ) -> None:
        self.recipe, self.data, self.start = recipe, data, start
        self._accelerator, self._clips = accelerator, clips
        self._micro_clips, self._num_workers = micro_batch_size, num_workers
        self._is_first = accelerator.is_main_process
        self.order = EpochOrder(
            tuple(first_label(item) for item in data.train.items),
            recipe.batch.clips,
            recipe.seed,
            recipe.data.class_balanced,
        )
        self._shares = BatchShards(
            accelerator.process_index, accelerator.num_processes, micro_batch_size
        )
        counts = [int(n) for n in data.train.class_counts()]
        counts += [0] * (data.num_classes - len(counts))
        steps = self.order.steps_per_epoch
        self.learner = TrainStep(recipe, start.model, accelerator, counts, steps)
        self.num_steps = recipe.schedule.epochs * steps
        self.checkpoints = Checkpoints(out, recipe.run.keep_checkpoints)
        self.done = TrainState()
        self._out = out
        self._display = Display(say, is_shown=self._is_first)
        self._log: RunLog | None = None
        self._saved_at = time.monotonic()
        self._passed_seconds = 1e-9  # since this process began, for the speed
        self._passed_clips = 0
        self._waited_seconds = 0.0

    def load(self, state: dict[str, Any]) -> None:
        """Takes up the state of a checkpoint."""
        self.learner.load(state)
        self.done = TrainState(**state["done"])
        if not self._is_first:
            self.done.num_replaced = 0  # the first one's count is of itself

    def go(self) -> TrainState:
        """Trains to the end. Raises Interrupted; DataError where no clip can be read."""
        if self._is_first:
            self._log = RunLog(self._out, self.done.step, self.data.train.is_multilabel)
        device = self._accelerator.device
        batches = feed(
            self._clips,
            self.order,
            self._shares,
            self.done.step,
            self.num_steps,
            self._num_workers,
            pin_memory=device.type == "cuda",
        )
        try:
            with deterministic(device), stop_signal() as stop, self._display:
                while self.done.step < self.num_steps:
                    self._one_step(_Timed(batches, self), stop)
        finally:
            batches.close()  # type: ignore[attr-defined]
            if self._log is not None:
                self._log.close()
        return self.done

    def _one_step(self, batches: _Timed, stop: StopSignal) -> None:
        began = time.monotonic()
        waited = self._waited_seconds
        step = self.done.step
        num_clips = self.order.num_clips_of(step)
        num_passes = len(self._shares.passes(num_clips))
        result = self.learner.train_step(step, num_clips, batches, num_passes, stop)
        if result is None:
            self._stop(stop)
        assert result is not None
        if not math.isfinite(result.loss):
            raise ConfigError(
                f"Training diverged: the loss of step {step} is {result.loss}. Lower "
                "optimizer.learning_rate, or set optimizer.grad_clip_norm=1 or run.precision=f32. "
                "The last checkpoint was written before that."
            )
        self.done.step += 1
        self.learner.update_average(self.done.step)
        seconds = time.monotonic() - began
        self._account(result, seconds)
        self._write_step(result, seconds, self._waited_seconds - waited)
        ends_epoch = self.done.step % self.order.steps_per_epoch == 0
        if ends_epoch:
            self._end_epoch()
        due = time.monotonic() - self._saved_at > 60 * self.recipe.run.checkpoint_minutes
        if ends_epoch or due:
            self.save()
        if result.wants_stop and self.done.step < self.num_steps:
            self._stop(stop)

    def _stop(self, stop: StopSignal) -> None:
        self.save()
        raise Interrupted(stop.number or signal.SIGTERM, self.done.step)

    def _account(self, result: StepResult, seconds: float) -> None:
        done = self.done
        done.loss += result.loss
        done.num_right += result.num_right
        done.num_judged += result.num_judged
        done.num_clips += result.num_clips
        done.seconds += seconds
        self._passed_seconds += seconds
        self._passed_clips += result.num_clips

    def _write_step(self, result: StepResult, seconds: float, waited: float) -> None:
        done = self.done
        device = self._accelerator.device
        epoch = (done.step - 1) // self.order.steps_per_epoch
        speed = self._passed_clips / self._passed_seconds
        epochs_left = self.recipe.schedule.epochs - epoch
        left = (epochs_left * len(self.order.labels) - done.num_clips) / speed
        if self._log is not None:
            self._log.step(
                {
                    "step": done.step,
                    "epoch": epoch,
                    "loss": result.loss / result.num_clips,
                    "accuracy": _ratio(result.num_right, result.num_judged),
                    "learning_rate": self.learner.rate(done.step - 1),
                    "clips": result.num_clips,
                    "clips_per_second": result.num_clips / seconds,
                    "data_wait_fraction": waited / seconds,
                    "memory_bytes": used_bytes(device),
                }
            )
        self._display.show(
            Progress(
                step=done.step,
                num_steps=self.num_steps,
                epoch=epoch,
                num_epochs=self.recipe.schedule.epochs,
                loss=done.loss / done.num_clips,
                accuracy=_ratio(done.num_right, done.num_judged),
                learning_rate=self.learner.rate(done.step - 1),
                clips_per_second=speed,
                data_wait_fraction=self._waited_seconds / self._passed_seconds,
                memory_bytes=used_bytes(device),
                seconds_left=left,
                watched=done.last_top1,
                is_multilabel=self.data.train.is_multilabel,
                num_bad_clips=len(done.failures),
            ),
            at_once=done.step % self.order.steps_per_epoch == 0,
        )

    # --- borders of epochs ----------------------------------------------------------------------

    def _end_epoch(self) -> None:
        done = self.done
        epoch = done.step // self.order.steps_per_epoch - 1
        self._share_failures()
        row: dict[str, float] = {
            "epoch": epoch,
            "step": done.step,
            "train_loss": done.loss / done.num_clips,
            "train_accuracy": _ratio(done.num_right, done.num_judged),
            "seconds": done.seconds,
        }
        is_due = (epoch + 1) % self.recipe.run.val_epochs == 0 or done.step == self.num_steps
        watched = self.validate_val() if is_due and self.data.val is not None else None
        if watched is not None:
            figures = {f"val_{name}": value for name, value in watched.figures.items()}
            row |= {"val_loss": watched.loss, **figures, "val_clips": watched.num_clips}
            figure = done.last_top1 = next(iter(figures.values()))
            what = "mAP on" if self.data.train.is_multilabel else "of"
            self._display.say(
                f"epoch {epoch + 1}: {figure:.1%} {what} the {watched.num_clips} watched clips"
            )
            # Of equal accuracies, which few clips make likely, the surer one.
            if (figure, -watched.loss) > (done.best_top1, -done.best_loss):
                done.best_top1, done.best_loss = figure, watched.loss
                done.best_epoch = epoch
                if self._is_first:
                    self.checkpoints.save_best({"model": self.learner.weights(), "epoch": epoch})
        if self._log is not None:
            names = (*row, *val_columns(self.data.train.is_multilabel))
            self._log.epoch({name: row.get(name, math.nan) for name in names})
        done.loss = done.num_right = done.num_judged = 0.0
        done.num_clips = 0

    def validate_val(self) -> ValidationResult:
        """The clips that are watched, looked at as the official code does."""
        assert self.data.val is not None
        return self._validate(self.data.val, self.start.val_sampling, self.start.val_preprocessing)

    def validate_test(self) -> ValidationResult:
        """The test clips, with all views of the finished model."""
        assert self.data.test is not None
        bundle = self.learner.model.bundle
        return self._validate(self.data.test, bundle.sampling, bundle.preprocessing)

    def _validate(self, annotations: Any, sampling: Any, preprocessing: Any) -> ValidationResult:
        accelerator = self._accelerator
        own = watch(
            self.learner.product,
            annotations,
            sampling,
            preprocessing,
            self.recipe.data.control,
            range(accelerator.process_index, len(annotations.items), accelerator.num_processes),
            max(self._num_workers, 1),
            accelerator.device,
            accelerator.autocast(),
        )
        joined = ValidationResult.joined(gather_objects(own, accelerator))
        self.note(joined.failures)
        return joined

    # --- clips that cannot be read --------------------------------------------------------------

    def note(self, failures: tuple[tuple[str, str], ...]) -> None:
        """Names each unusable clip once, and quarantines it for later runs."""
        new = [pair for pair in dict(failures).items() if pair[0] not in self.done.failures]
        for path, why in new:
            self.done.failures[path] = why
            self._display.say(f"error: {why}" if path in why else f"error: {path}: {why}")
        if new and self._is_first:
            self.data.quarantine.add(new)

    def replaced(self, batch: Batch) -> None:
        self.done.num_replaced += len(batch.failures)
        self.note(batch.failures)

    def _share_failures(self) -> None:
        """The first process learns what the others could not read."""
        if self._accelerator.num_processes == 1:
            return
        parts = gather_objects(dict(self.done.failures), self._accelerator)
        self.note(tuple(item for failures in parts for item in failures.items()))

    def num_replaced(self) -> int:
        """How often a clip had to be replaced, in all processes."""
        return sum(gather_objects(self.done.num_replaced, self._accelerator))

    def save(self) -> None:
        """Writes a checkpoint (the first process only; all have the same weights)."""
        self._saved_at = time.monotonic()
        if not self._is_first:
            return
        self.checkpoints.save(
            self.done.step,
            {
                **self.learner.state(),
                "done": dataclasses.asdict(self.done),
                "recipe": recipe_text(self.recipe),
                "bundle": self.learner.model.bundle.to_json(),
                "train_short_side": self.start.train_short_side,
                "fingerprint": self.data.fingerprint,
                "left_out": list(self.data.left_out),
                "micro_batch_size": self._micro_clips,
                "world": self._accelerator.num_processes,
                "threads": torch.get_num_threads(),
            },
        )


class _Timed:
    """Batches, with the time that the network waited for them."""

    def __init__(self, batches: Any, run: Run) -> None:
        self._batches, self._run = batches, run

    def __iter__(self) -> _Timed:
        return self

    def __next__(self) -> Batch:
        began = time.monotonic()
        batch: Batch = next(self._batches)
        self._run._waited_seconds += time.monotonic() - began
        if batch.failures:
            self._run.replaced(batch)
        return batch


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
