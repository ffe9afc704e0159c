"""One step of the optimizer: the network, what changes it, and what of it must be kept."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..model import VideoSwinTransformer
from .batches import Batch, Normalizer, class_weights, clip_losses, erase, mix, targets_of
from .config import Recipe
from .dataloader import pass_seed, scale_of
from .param_groups import parameter_groups
from .schedule import learning_rate
from .setup import set_training

if TYPE_CHECKING:
    from .distributed import Accelerator


@dataclass
class StepResult:
    """Sums over the clips of a step, of all processes; num_judged: clips with one right class, so
    none where they are mixed or may have several."""

    loss: float
    num_right: float
    num_judged: float
    num_clips: int
    wants_stop: bool = False


class TrainStep:
    """The network in training, its optimizer and its average."""

    def __init__(
        self,
        recipe: Recipe,
        model: VideoSwinTransformer,
        accelerator: Accelerator,
        counts: Sequence[int],
        steps_per_epoch: int,
    ) -> None:
        self._recipe, self._accelerator = recipe, accelerator
        self._steps_per_epoch = steps_per_epoch
        self.model = model
        model.set_grad_checkpointing(recipe.run.checkpointing)
        plan = recipe.optimizer
        optimizer = torch.optim.AdamW(
            parameter_groups(model, model.config.depths, plan),
            lr=plan.learning_rate,
            betas=(plan.betas[0], plan.betas[1]),
        )
        self.average = None
        if recipe.ema_decay is not None:
            self.average = copy.deepcopy(model).requires_grad_(False).to(accelerator.device)
        self._wrapped: nn.Module = accelerator.prepare_model(model)
        self._optimizer: Any = accelerator.prepare_optimizer(optimizer)
        self._trained = [p for p in model.parameters() if p.requires_grad]
        p = model.bundle.preprocessing
        self.normalize = Normalizer(p.mean, p.std, accelerator.device)
        weights = class_weights(counts, recipe.loss.class_weights)
        self._weights = None if weights is None else torch.tensor(weights)
        self._is_mixing = bool(recipe.augment.mixup or recipe.augment.cutmix)
        self._multi_label = model.bundle.multi_label

    @property
    def product(self) -> VideoSwinTransformer:
        """What is watched and kept: the average where there is one."""
        return self.model if self.average is None else self.average

    def rate(self, step: int) -> float:
        plan = self._recipe.optimizer
        return learning_rate(step, self._steps_per_epoch, plan.learning_rate, self._recipe.schedule)

    def train_step(
        self, step: int, num_clips: int, passes: Iterator[Batch], num_passes: int, stop: object
    ) -> StepResult | None:
        """Step number `step` over `num_clips` clips of all processes; None if truncated by `stop`,
        which one process alone may do: then nothing has changed.

        Each clip's loss counts 1 / num_clips, whoever looks at it and in whichever pass, so the
        gradient is that of the mean over the whole batch.
        """
        set_training(self.model, self._recipe.model)
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate(step) * group["lr_scale"]
        world = self._accelerator.num_processes
        sums = torch.zeros(4, dtype=torch.float64)
        for number in range(num_passes):
            if stop and world == 1:
                self._optimizer.zero_grad()
                return None
            batch = next(passes)
            torch.manual_seed(
                pass_seed(self._recipe.seed, step, self._accelerator.process_index, number)
            )
            is_last = number == num_passes - 1
            meeting = (
                contextlib.nullcontext() if is_last else self._accelerator.no_sync(self._wrapped)
            )
            with meeting:
                losses, right = self._losses(batch)
                # The processes' gradients are averaged, ours are to be added up.
                self._accelerator.backward(losses.sum() * (world / num_clips))
            is_judged = not (self._is_mixing or self._multi_label)
            judged = batch.weights.sum() if is_judged else torch.zeros(())
            sums += torch.stack(
                [
                    losses.detach().sum().double().cpu(),
                    right if is_judged else torch.zeros(()),
                    judged.double(),
                    torch.zeros(()),
                ]
            )
        sums[3] = float(bool(stop))
        if world > 1:
            sums = self._accelerator.reduce(sums.to(self._accelerator.device), "sum").cpu()
        self._change()
        loss, num_right, num_judged, wants_stop = sums.tolist()
        return StepResult(loss, num_right, num_judged, num_clips, wants_stop > 0)

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B,) weighted losses with their graph, and how many clips were right."""
        device = self._accelerator.device
        clips = self.normalize(batch.pixels)
        erase(clips, batch.erased)
        labels = batch.labels.to(device)
        smoothing = self._recipe.loss.label_smoothing
        targets = targets_of(labels, self.model.num_classes, smoothing)
        if self._is_mixing:
            clips, targets = mix(clips, targets, batch.mixes)
        logits = self._wrapped(clips)
        losses = clip_losses(logits, targets, multi_label=self._multi_label)
        right = ((logits.argmax(-1) == labels[:, 0]).cpu() * batch.weights).sum().double()
        return losses * scale_of(batch, self._weights).to(device), right

    def _change(self) -> None:
        if (most := self._recipe.optimizer.grad_clip_norm) is not None:
            self._accelerator.clip_grad_norm_(self._trained, most)
        self._optimizer.step()
        self._optimizer.zero_grad()

    def update_average(self, step: int) -> None:
        """Near the start the average forgets the first weights faster."""
        if self.average is None or self._recipe.ema_decay is None:
            return
        decay = min(self._recipe.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, new in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(new, 1 - decay)

    def weights(self) -> dict[str, Tensor]:
        """Of the product, on the CPU."""
        return {k: v.detach().cpu().clone() for k, v in self.product.state_dict().items()}

    def state(self) -> dict[str, Any]:
        scaler = self._accelerator.scaler
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Raises ConfigError for the state of another network."""
        try:
            self.model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"The checkpoint belongs to another network or recipe: {error}"
            ) from error
        if state["scaler"] is not None and self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])
