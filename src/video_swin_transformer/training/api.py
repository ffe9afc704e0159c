"""From a recipe and a folder to a finished model: joins what the other files do."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..config import BundleConfig
from ..data import TrainClips
from ..errors import ConfigError, UnknownNameError
from ..files import write_atomic
from ..registry import find_card
from ..saving import write_folder
from .checkpoints import Checkpoints, State
from .config import Recipe
from .data import TrainingData, is_multi_label, read_training_data
from .dataloader import ClipDataset, ReplacingClips
from .distributed import local_processes, num_readers, open_accelerator, retain_freed_memory
from .generated import ClipSource, GeneratedClips
from .memory import clips_that_fit, saved_bytes, state_bytes, usable_bytes
from .recipe_files import differences, parse_recipe, write_recipe
from .setup import Start, build_setup, rebuild_setup
from .trainer import Run
from .transforms import ClipTransform
from .validation import ValidationResult

if TYPE_CHECKING:
    from .distributed import Accelerator

MODEL_FOLDER = "model"
RESULT_FILE = "result.json"
RECIPE_FILE = "recipe.yaml"
# What a network keeps that computes its blocks again, of what it keeps otherwise: the inputs of
# all blocks, and one block at a time.
_CHECKPOINTING_MEMORY_RATIO = 0.35


@dataclass(frozen=True)
class Result:
    """What came out of a run. best_epoch, from 0: of the weights that are kept, where they are
    not the last. failures: (path, reason) of clips that could not be read."""

    model: Path
    epochs: int
    steps: int
    seconds: float
    kept_epoch: int
    val_top1: float | None  # None as well where clips have several labels
    val_map: float | None  # there
    test: ValidationResult | None
    failures: tuple[tuple[str, str], ...]
    num_replaced: int


def train(
    recipe: Recipe,
    out: Path,
    *,
    clips: ClipSource | None = None,
    resume: bool = False,
    device: str = "auto",
    say: Callable[[str], None] = lambda message: None,
) -> Result | None:
    """Trains by the recipe; everything is written below `out`. None in all processes but the first.

    clips: made by a program, to learn from instead of files; what is watched still comes from
    files. resume: goes on from the last checkpoint in `out`, exactly. Raises VideoSwinError for
    what a user can cause, and Interrupted after Ctrl-C or SIGTERM, when the run has written itself
    down.
    """
    accelerator = open_accelerator(recipe.run.precision, device)
    if accelerator.device.type == "cpu":
        retain_freed_memory()
    if not accelerator.is_main_process:
        say = _say_nothing
    checkpoints = Checkpoints(out, recipe.run.keep_checkpoints)
    state = _state_to_resume(checkpoints, recipe, say) if resume else None
    if state is None and checkpoints.steps():
        raise ConfigError(
            f"{str(out)!r} holds a run already. Add --resume to go on with it, or name another "
            "--out."
        )
    accelerator.wait_for_everyone()  # nobody writes a checkpoint before all have looked
    data = read_training_data(
        recipe.data, recipe.seed, None if state is None else state["left_out"], clips
    )
    for note in data.notes:
        say(note)
    start = _start(recipe, data, state)
    for note in start.notes:
        say(note)
    run = _open_run(recipe, out, data, start, accelerator, state, say, clips)
    if accelerator.is_main_process:
        write_recipe(out / RECIPE_FILE, recipe)
    done = run.go()
    accelerator.wait_for_everyone()
    return _finish(run, checkpoints, accelerator, out) if done else None


def _say_nothing(message: str) -> None:
    pass


def _state_to_resume(checkpoints: Checkpoints, recipe: Recipe, say: Callable[[str], None]) -> State:
    state = checkpoints.load_last(say)
    changed = differences(parse_recipe(state["recipe"], "The recipe of the checkpoint"), recipe)
    if changed:
        raise ConfigError(
            f"The run in {str(checkpoints.folder.parent)!r} had another {', '.join(changed)}. Go "
            f"on with its own recipe, {RECIPE_FILE} in that folder, or begin anew with another "
            "--out."
        )
    say(f"Going on after step {state['done']['step']}.")
    return state


def _start(recipe: Recipe, data: TrainingData, state: State | None) -> Start:
    if state is None:
        multi_label = is_multi_label(recipe.loss, data)
        return build_setup(recipe, data.num_classes, data.train.classes, multi_label=multi_label)
    if state["fingerprint"] != data.fingerprint:
        raise ConfigError(
            f"The clips of {data.train.source!r} are not those that the run began with: clips "
            "have come, gone or changed their class. Begin anew with another --out."
        )
    bundle = BundleConfig.from_json(state["bundle"])
    return rebuild_setup(recipe, bundle, state["train_short_side"])


def _open_run(
    recipe: Recipe,
    out: Path,
    data: TrainingData,
    start: Start,
    accelerator: Accelerator,
    state: State | None,
    say: Callable[[str], None],
    maker: ClipSource | None,
) -> Run:
    processes = accelerator.num_processes
    micro = recipe.batch.micro
    if micro is None and state is not None and state["world"] == processes:
        micro = int(state["micro_batch_size"])
    share = -(-min(recipe.batch.clips, len(data.train.items)) // processes)
    if micro is None:
        micro = _micro_clips(recipe, start, accelerator.device, share)
    micro = min(micro, share)
    passes = -(-share // micro)
    say(
        f"{len(data.train.items)} clips, {data.num_classes} classes; a step is "
        f"{recipe.batch.clips} clips: {processes} process{'es' if processes > 1 else ''} x "
        f"{passes} pass{'es' if passes > 1 else ''} x {micro} clips on {accelerator.device.type}, "
        f"{recipe.run.precision}."
    )
    if micro == 1 and (recipe.augment.mixup or recipe.augment.cutmix):
        say("warning: clips are mixed within a pass, and a pass of 1 clip has no other to mix.")
    if state is not None and (state["world"], state["micro_batch_size"]) != (processes, micro):
        say("The batch is cut up in another way than before; results agree to rounding only.")
    elif state is not None and state["threads"] != torch.get_num_threads():
        say("There are more or fewer threads than before; results agree to rounding only.")
    _require_pillow(recipe)
    run = Run(
        recipe,
        out,
        data,
        start,
        ReplacingClips(_drawn_clips(recipe, data, start, maker), data.train, recipe.seed),
        accelerator,
        micro,
        num_readers(recipe.run.workers, local_processes()),
        say,
    )
    if state is not None:
        run.load(state)
    return run


def _drawn_clips(
    recipe: Recipe, data: TrainingData, start: Start, maker: ClipSource | None
) -> ClipDataset:
    """The clips to learn from, read or made, and augmented."""
    preprocessing = start.model.bundle.preprocessing
    size, interpolation = preprocessing.crop_size, preprocessing.interpolation
    transform = ClipTransform(recipe.augment, size, interpolation, recipe.data.control)
    if maker is not None:
        return GeneratedClips(maker, start.train_sampling.num_frames, transform, recipe.seed)
    sampling, side = start.train_sampling, start.train_short_side
    return TrainClips(data.train, sampling, side, interpolation, transform, recipe.seed)


def _require_pillow(recipe: Recipe) -> None:
    """Found missing before the work; in a reader it would look like a broken clip."""
    if recipe.augment.randaugment_ops:
        from .randaugment import require_pillow

        require_pillow()


def _micro_clips(recipe: Recipe, start: Start, device: torch.device, most: int) -> int:
    """How many clips of this network fit into the memory of a process."""
    if most == 1:
        return 1
    per_clip = bytes_per_clip(start, device, recipe.run.precision)
    if recipe.run.checkpointing:
        per_clip = int(per_clip * _CHECKPOINTING_MEMORY_RATIO)
    usable = usable_bytes(device, local_processes())
    return clips_that_fit(per_clip, state_bytes(start.model), usable, most)


def bytes_per_clip(start: Start, device: torch.device, precision: str) -> int:
    """Memory that one clip takes between a forward and a backward pass, measured with one."""
    model = start.model.to(device)
    clip = dummy_clips(start, 1, device)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    with torch.random.fork_rng(), torch.autocast(device.type, dtype, enabled=dtype is not None):
        return saved_bytes(lambda: model(clip), model) + clip.nbytes


def dummy_clips(start: Start, num_clips: int, device: torch.device) -> torch.Tensor:
    """(num_clips, C, T, S, S) float32 noise of the right shape."""
    bundle = start.model.bundle
    size = bundle.preprocessing.crop_size
    frames = bundle.sampling.num_frames
    generator = torch.Generator().manual_seed(0)
    shape = (num_clips, bundle.model.in_chans, frames, size, size)
    return torch.randn(shape, generator=generator).to(device)


# --- the end --------------------------------------------------------------------------------------


def _finish(
    run: Run, checkpoints: Checkpoints, accelerator: Accelerator, out: Path
) -> Result | None:
    done, learner = run.done, run.learner
    kept_epoch = run.recipe.schedule.epochs - 1
    watched = done.last_top1
    best = checkpoints.load_best() if run.recipe.run.product == "best" else None
    if best is not None and done.best_epoch >= 0:
        learner.product.load_state_dict(best["model"])
        kept_epoch, watched = done.best_epoch, done.best_top1
    test = run.validate_test() if run.data.test is not None else None
    num_replaced = run.num_replaced()
    if not accelerator.is_main_process:
        return None
    bundle = dataclasses.replace(learner.model.bundle, name=_new_name(out))
    write_folder(out / MODEL_FOLDER, bundle, learner.weights())
    result = Result(
        model=out / MODEL_FOLDER,
        epochs=run.recipe.schedule.epochs,
        steps=done.step,
        seconds=done.seconds,
        kept_epoch=kept_epoch,
        val_top1=None if run.data.train.is_multilabel else watched,
        val_map=watched if run.data.train.is_multilabel else None,
        test=test,
        failures=tuple(done.failures.items()),
        num_replaced=num_replaced,
    )
    text = json.dumps(_as_data(result, run), indent=2) + "\n"
    write_atomic(out / RESULT_FILE, text.encode())
    return result


def _new_name(out: Path) -> str:
    """The out folder's name, unless weights are published under it: these are others."""
    name = out.resolve().name or "trained"
    try:
        find_card(name)
    except UnknownNameError:
        return name
    return f"{name}-trained"


def _as_data(result: Result, run: Run) -> dict[str, Any]:
    test: dict[str, Any] | None = None
    if result.test is not None:
        found = result.test
        (first, value), (second, other) = found.figures.items()
        interval = found.measure()
        test = {
            "data": run.data.test.source if run.data.test else None,
            "clips": found.num_clips,
            first: value,
            f"{first}_interval": [interval.low, interval.high],
            second: other,
            "loss": found.loss,
        }
    return {
        "model": str(result.model),
        "epochs": result.epochs,
        "steps": result.steps,
        "minutes": result.seconds / 60,
        "kept_epoch": result.kept_epoch + 1,
        **(
            {"val_map": result.val_map}
            if run.data.train.is_multilabel
            else {"val_top1": result.val_top1}
        ),
        "test": test,
        "control": run.recipe.data.control,
        "train_clips": len(run.data.train.items),
        "unusable_clips": [{"path": path, "reason": why} for path, why in result.failures],
        "num_replaced": result.num_replaced,
        "warnings": [note for note in run.data.notes if note.startswith("warning")],
    }
