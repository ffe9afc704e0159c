"""`train`: from a recipe to a finished model folder."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..config import BundleConfig
from ..data import TrainClips
from ..errors import ConfigError, UnknownNameError, VideoSwinError, counted
from ..file_names import path_to_text, plain_text
from ..files import check_folder, read_text_file, write_atomic
from ..registry import find_card
from ..saving import write_folder
from .config import Recipe
from .data import TrainingData, read_training_data, uses_binary_loss
from .dataloader import ClipDataset, ReplacingClips
from .distributed import (
    device_memory_errors,
    log_on_main_process_only,
    num_dataloader_workers,
    open_accelerator,
    retain_freed_memory,
)
from .generated import ClipSource, GeneratedClips
from .io import Checkpoints, State
from .profiling import choose_micro_batch_size
from .randaugment import require_pillow
from .recipe_files import changed_keys, load_recipe, parse_recipe, recipe_text, write_recipe
from .setup import TrainSetup, build_setup, rebuild_setup
from .trainer import ProgressCallback, Trainer
from .transforms import ClipTransform
from .validation import ValidationResult

if TYPE_CHECKING:
    from .distributed import Accelerator

logger = logging.getLogger(__name__)

MODEL_FOLDER = "model"
RESULT_FILE = "result.json"
RECIPE_FILE = "recipe.yaml"


@dataclass(frozen=True)
class TrainResult:
    """The result of a finished training run.

    Attributes:
        model: The folder of the finished model.
        epochs: Epochs of the training.
        steps: Optimizer steps.
        seconds: Time spent training, without interruptions.
        kept_epoch: The epoch whose weights were kept, from 0.
        metric_name: The validation metric: "top1", "map" of multi-label clips, or "srcc" of a
            regression.
        val_metric: Its value in that epoch, None without validation.
        test: The result on the test clips, None without test clips.
        failures: (path, reason) of clips that could not be read.
        num_replaced: How many times another clip replaced one of these.
    """

    model: Path
    epochs: int
    steps: int
    seconds: float
    kept_epoch: int
    metric_name: str
    val_metric: float | None
    test: ValidationResult | None
    failures: tuple[tuple[str, str], ...]
    num_replaced: int


def train(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    clips: ClipSource | None = None,
    resume: bool = False,
    device: str = "auto",
    seed: int | None = None,
    progress: ProgressCallback | None = None,
) -> TrainResult:
    """Trains a network with a recipe.

    Notes and warnings go to the logger `video_swin_transformer.training`, in the main process only.

    Args:
        recipe: A recipe, a YAML file, or the name of a shipped recipe, such as "finetune".
        out: The folder that everything is written to.
        overrides: Settings that replace those of the recipe, such as "data.train=FOLDER".
        clips: Generates the training clips, instead of `data.train`. Validation clips are files.
        resume: Continue from the last checkpoint in `out`; bit-exact on a CPU. A run that ended
            before its first checkpoint starts over.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        seed: Replaces the seed of the recipe.
        progress: Called after each step, in the main process only.

    Returns:
        The result, in all processes.

    Raises:
        ConfigError: A setting is wrong, or `out` contains a run and `resume` is false.
        UnknownNameError: There is no such recipe, network or weights.
        DataError: The datasets cannot be used.
        CheckpointError: Weights or checkpoints cannot be read or written, or do not fit.
        TrainingDivergedError: The loss is no longer finite.
        DeviceMemoryError: A micro batch does not fit in memory.
        TrainingInterrupted: After SIGINT or SIGTERM, when a checkpoint is written.
    """
    recipe, out = load_recipe(recipe, overrides), Path(out)
    if seed is not None:
        recipe = load_recipe(recipe, [f"seed={seed}"])
    if plain_text(str(out)) != str(out):
        raise ConfigError(
            f"The output folder {str(out)!r} has bytes that are not UTF-8, which "
            "TensorBoard cannot write to; choose another name."
        )
    if not resume:
        _check_replaced(out)
    check_folder(out)
    accelerator = open_accelerator(recipe.run.precision, device)
    if accelerator.device.type == "cpu":
        retain_freed_memory()
    with log_on_main_process_only(accelerator.is_main_process):
        trainer = _open_trainer(recipe, out, accelerator, clips, resume, progress)
        if accelerator.is_main_process:
            write_recipe(out / RECIPE_FILE, recipe)
        trainer.fit()
        accelerator.wait_for_everyone()
        result = _finish(trainer, out, accelerator)
        accelerator.wait_for_everyone()
    return result


# --- before the first step ------------------------------------------------------------------------


def _open_trainer(
    recipe: Recipe,
    out: Path,
    accelerator: Accelerator,
    clip_source: ClipSource | None,
    resume: bool,
    progress: ProgressCallback | None,
) -> Trainer:
    checkpoints = Checkpoints(out, recipe.run.max_checkpoints)
    checkpoint = None
    if resume and not checkpoints.paths() and (out / RECIPE_FILE).is_file():
        # It was ended before its first checkpoint.
        logger.warning("The run in %r has no checkpoint yet; it starts over.", str(out))
    elif resume:
        checkpoint = _load_checkpoint(checkpoints, recipe)
    if checkpoint is None and checkpoints.paths():
        raise ConfigError(
            f"{str(out)!r} already contains a run. Pass resume=True (--resume) to continue "
            "it, or choose another output folder."
        )
    accelerator.wait_for_everyone()  # no process writes a checkpoint before all have looked

    excluded = None if checkpoint is None else checkpoint["excluded"]
    data = read_training_data(recipe.data, recipe.seed, excluded=excluded, clip_source=clip_source)
    setup = _open_setup(recipe, data, checkpoint)
    for note in (*data.notes, *setup.notes):
        logger.info("%s", note)
    for warning in (*data.warnings, *setup.warnings):
        logger.warning("%s", warning)

    micro_batch_size = _micro_batch_size(recipe, data, setup, accelerator, checkpoint)
    clips = ReplacingClips(_train_clips(recipe, data, setup, clip_source), data.train, recipe.seed)
    trainer = Trainer(
        recipe,
        out,
        data,
        setup,
        clips,
        accelerator,
        micro_batch_size,
        num_dataloader_workers(recipe.run.workers),
        progress,
    )
    if checkpoint is not None:
        trainer.load(checkpoint)
    return trainer


def _check_replaced(out: Path) -> None:
    """Raises ConfigError if a new run would replace files of `out` that no run has written."""
    is_own: dict[str, Callable[[Path], bool]] = {
        RECIPE_FILE: _is_own_recipe,
        "steps.csv": _is_own_log,
        "epochs.csv": _is_own_log,
        MODEL_FOLDER: lambda path: False,  # a run with a model has checkpoints
        RESULT_FILE: lambda path: False,
    }
    if Checkpoints(out, 1).paths():
        return  # refused where the checkpoints are read
    for name, check in is_own.items():
        if (out / name).exists() and not check(out / name):
            raise ConfigError(
                f"{str(out / name)!r} exists and is not from a training run, so it was not "
                "replaced; choose another output folder with --out."
            )


def _is_own_recipe(path: Path) -> bool:
    try:
        return read_text_file(path) == recipe_text(load_recipe(path))
    except VideoSwinError:
        return False


def _is_own_log(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline().startswith((b"step,epoch,", b"epoch,step,"))


def _load_checkpoint(checkpoints: Checkpoints, recipe: Recipe) -> State:
    checkpoint = checkpoints.load_last()
    before = parse_recipe(checkpoint["recipe"], "The recipe of the checkpoint")
    if changed := changed_keys(before, recipe):
        raise ConfigError(
            f"The run in {str(checkpoints.folder.parent)!r} has a different {', '.join(changed)}. "
            f"Resume it with its own recipe, {RECIPE_FILE} in that folder, or start a new run in "
            "another output folder."
        )
    logger.info("Resuming after step %d.", checkpoint["train_state"]["step"])
    return checkpoint


def _open_setup(recipe: Recipe, data: TrainingData, checkpoint: State | None) -> TrainSetup:
    if checkpoint is None:
        binary = uses_binary_loss(recipe.loss, data)
        return build_setup(
            recipe,
            data.num_classes,
            data.train.classes,
            multi_label=binary,
            targets=data.regression_targets() if data.train.targets else (),
        )
    if checkpoint["fingerprint"] != data.fingerprint:
        raise ConfigError(
            f"The clips of {data.train.source!r} are not those that the run began with: clips "
            "were added, removed or moved to another class. Start a new run in another output "
            "folder."
        )
    bundle = BundleConfig.from_json(checkpoint["bundle"])
    return rebuild_setup(recipe, bundle, checkpoint["train_short_side"])


def _micro_batch_size(
    recipe: Recipe,
    data: TrainingData,
    setup: TrainSetup,
    accelerator: Accelerator,
    checkpoint: State | None,
) -> int:
    """From the recipe, the checkpoint or the memory of this machine; reports the choice."""
    num_processes = accelerator.num_processes
    clips_per_process = -(-min(recipe.batch_size, len(data.train.items)) // num_processes)
    size: int | None = recipe.micro_batch_size
    if size is None and checkpoint is not None and checkpoint["world_size"] == num_processes:
        size = int(checkpoint["micro_batch_size"])
    if size is None:
        with device_memory_errors(1):
            size = choose_micro_batch_size(recipe, setup, accelerator.device, clips_per_process)
    size = min(size, clips_per_process)
    num_micro_batches = -(-clips_per_process // size)
    logger.info(
        "%d clips, %s; batch size %d = %d process%s x %d micro batch%s x %d clips on %s, %s.",
        len(data.train.items),
        counted(data.num_classes, "target")
        if data.train.targets
        else counted(data.num_classes, "class", "classes"),
        recipe.batch_size,
        num_processes,
        "es" if num_processes > 1 else "",
        num_micro_batches,
        "es" if num_micro_batches > 1 else "",
        size,
        accelerator.device.type,
        recipe.run.precision,
    )
    if size == 1 and (recipe.augment.mixup or recipe.augment.cutmix):
        logger.warning(
            "Clips are mixed within a micro batch, so micro batches of 1 clip are not mixed."
        )
    if checkpoint is not None:
        before = (checkpoint["world_size"], checkpoint["micro_batch_size"])
        if before != (num_processes, size):
            logger.info(
                "The batch is divided differently than before; results agree except for rounding."
            )
        elif checkpoint["num_threads"] != torch.get_num_threads():
            logger.info(
                "The number of threads is different than before; results agree except for rounding."
            )
    return size


def _train_clips(
    recipe: Recipe, data: TrainingData, setup: TrainSetup, clip_source: ClipSource | None
) -> ClipDataset:
    """The training clips, read or generated, and augmented."""
    if recipe.augment.randaugment_ops:
        require_pillow()  # in a worker it would look like an unreadable clip
    p = setup.model.bundle.preprocessing
    transform = ClipTransform(recipe.augment, p.crop_size, p.interpolation, recipe.data.frame_order)
    sampling = setup.train_sampling
    if clip_source is not None:
        return GeneratedClips(clip_source, sampling.num_frames, transform, recipe.seed)
    return TrainClips(
        data.train, sampling, setup.train_short_side, p.interpolation, transform, recipe.seed
    )


# --- after the last step --------------------------------------------------------------------------


def _finish(trainer: Trainer, out: Path, accelerator: Accelerator) -> TrainResult:
    """Selects the weights, tests them and writes the model folder."""
    state, recipe = trainer.state, trainer.recipe
    kept_epoch, val_metric = recipe.schedule.epochs - 1, state.last_metric
    keep_best = recipe.run.keep_checkpoint == "best" and state.best_epoch >= 0
    best = trainer.checkpoints.load_best() if keep_best else None
    if best is not None:
        trainer.eval_model.load_state_dict(best["model"])
        kept_epoch, val_metric = state.best_epoch, state.best_metric
    test = trainer.test() if trainer.data.test is not None else None
    result = TrainResult(
        model=out / MODEL_FOLDER,
        epochs=recipe.schedule.epochs,
        steps=state.step,
        seconds=state.seconds,
        kept_epoch=kept_epoch,
        metric_name=state.metric_name,
        val_metric=val_metric,
        test=test,
        failures=tuple(state.failures.items()),
        num_replaced=trainer.total_replaced(),
    )
    if accelerator.is_main_process:
        bundle = dataclasses.replace(trainer.model.bundle, name=_model_name(out))
        write_folder(result.model, bundle, trainer.weights())
        text = json.dumps(_result_json(result, trainer), indent=2) + "\n"
        write_atomic(out / RESULT_FILE, text.encode())
    return result


def _model_name(out: Path) -> str:
    """The name of the output folder; with a suffix if published weights have that name."""
    name = out.resolve().name or "trained"
    try:
        find_card(name)
    except UnknownNameError:
        return name
    return f"{name}-trained"


def _result_json(result: TrainResult, trainer: Trainer) -> dict[str, Any]:
    test: dict[str, Any] | None = None
    if result.test is not None:
        (name, value), (second_name, second_value) = result.test.metrics.items()
        interval = result.test.measure()
        test = {
            "data": path_to_text(trainer.data.test.source) if trainer.data.test else None,
            "clips": result.test.num_clips,
            name: value,
            f"{name}_interval": [interval.low, interval.high],
            second_name: second_value,
            "loss": result.test.loss,
        }
    return {
        "model": path_to_text(result.model),
        "epochs": result.epochs,
        "steps": result.steps,
        "minutes": result.seconds / 60,
        "kept_epoch": result.kept_epoch + 1,
        f"val_{result.metric_name}": result.val_metric,
        "test": test,
        "frame_order": trainer.recipe.data.frame_order,
        "train_clips": len(trainer.data.train.items),
        "unusable_clips": [
            {"path": path_to_text(path), "reason": plain_text(why)} for path, why in result.failures
        ],
        "num_replaced": result.num_replaced,
        "warnings": list(map(plain_text, (*trainer.data.warnings, *trainer.setup.warnings))),
    }
