"""videoswin train: from labeled clips to a model, with a recipe."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigError, counted
from ..file_names import one_line
from ..terminal import stderr_console
from .console import log_to_stderr, refuse_without_effect, say, text_table

if TYPE_CHECKING:
    from ..training import Recipe, TrainingInterrupted, TrainingProfile, TrainResult


EXAMPLES = (
    "videoswin train finetune data=clips --out runs/mine",
    "videoswin train swin-t-k400 data=train.txt data.val=val.txt --dry-run",
)


def train(
    context: typer.Context,
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="A YAML file, or the name of a shipped recipe, such as finetune.",
            show_default=False,
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Recipe settings, such as data=FOLDER, init_from=WEIGHTS, schedule.epochs=10.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Output folder.",
            show_default="runs/RECIPE",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the interrupted run in --out; bit-exact on a CPU."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Measure the memory and time of a step and suggest a micro batch size.",
        ),
    ] = False,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Override the recipe's random seed.")
    ] = None,
    list_recipes: Annotated[bool, typer.Option("--list", help="List the shipped recipes.")] = False,
    keys: Annotated[
        bool, typer.Option("--keys", help="Print all recipe settings as KEY=VALUE.")
    ] = False,
) -> int:
    """Train a network on labeled clips; the result can be used with classify --model.

    To use several processes or machines, start the same command with torchrun or accelerate launch;
    --out is then a folder that all of them can access.
    """
    if list_recipes:
        names = ("recipe", "overrides", "out", "resume", "dry_run", "device", "seed", "keys")
        refuse_without_effect(context, names, "with --list")
        return _print_recipes()
    if recipe is None:
        raise ConfigError(
            "RECIPE is missing: give a YAML file or the name of a shipped recipe, such as "
            "finetune. videoswin train --list lists them."
        )
    if keys:
        unused = ("out", "resume", "dry_run", "device", "seed")
        refuse_without_effect(context, unused, "with --keys, which starts no run")
    if dry_run:
        unused_too = ("out", "resume", "seed")
        refuse_without_effect(context, unused_too, "with --dry-run, which starts no run")
    from ..training import ProgressDisplay, TrainingInterrupted, load_recipe
    from ..training import train as run_training

    is_main = os.environ.get("RANK", "0") == "0"  # of several processes, one prints
    console = stderr_console() if is_main else None
    with log_to_stderr(console, is_on=is_main):
        if keys:
            return _print_keys(load_recipe(recipe, overrides or ()))
        if dry_run:
            return _dry_run(load_recipe(recipe, overrides or ()), device)
        out = out or Path("runs") / Path(recipe).stem
        display = ProgressDisplay(console)
        try:
            with display:
                result = run_training(
                    recipe,
                    out,
                    overrides=overrides or (),
                    resume=resume,
                    device=device,
                    seed=seed,
                    progress=display,
                )
        except TrainingInterrupted as stopped:
            if is_main:
                _print_interrupted(stopped, recipe, overrides or [], out, device, seed)
            return 128 + stopped.signal_number
    if not is_main:
        return 0
    _print_result(result, out)
    return 1 if result.failures else 0


def _print_recipes() -> int:
    from ..training import shipped_recipes

    print(text_table([("recipe", "what it does"), *shipped_recipes().items()]))
    return 0


def _print_keys(recipe: Recipe) -> int:
    from ..training import recipe_keys

    defaults = recipe_keys(type(recipe)())
    for key, value in recipe_keys(recipe).items():
        line = f"{key}={_as_yaml(value)}"
        if key in defaults and value != defaults[key]:
            line = f"{line}  # default: {_as_yaml(defaults[key])}"
        print(line)
    return 0


def _as_yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _print_interrupted(
    stopped: TrainingInterrupted,
    recipe: str,
    overrides: list[str],
    out: Path,
    device: str,
    seed: int | None,
) -> None:
    command = ["videoswin", "train", recipe, *overrides, "--out", str(out)]
    command += [] if device == "auto" else ["--device", device]
    command += [] if seed is None else ["--seed", str(seed)]
    say(
        f"Stopped after step {stopped.step}; a checkpoint is saved. Continue with: "
        f"{shlex.join([*command, '--resume'])}"
    )


def _print_result(result: TrainResult, out: Path) -> None:
    from ..training.api import RESULT_FILE
    from ..training.console import format_duration, format_metric, metric_label

    if result.failures:
        say(
            f"{counted(len(result.failures), 'clip')} could not be read (named above); other clips "
            f"took their place {counted(result.num_replaced, 'time')}. The quarantine list, which "
            "later runs skip, has them; "
            f"{out / RESULT_FILE} lists them."
        )
    metric = metric_label(result.metric_name)
    epochs, steps = counted(result.epochs, "epoch"), counted(result.steps, "step")
    print(f"{epochs}, {steps}, {format_duration(result.seconds)}")
    if result.val_metric is not None:
        value = format_metric(result.metric_name, result.val_metric)
        print(f"validation: {metric} {value} (epoch {result.kept_epoch + 1}, kept)")
    if result.test is not None:
        found = result.test.measure()
        print(
            "test: {} {} on {}, 95% interval {} to {}".format(
                metric,
                format_metric(result.metric_name, found.value),
                counted(result.test.num_clips, "clip"),
                format_metric(result.metric_name, found.low),
                format_metric(result.metric_name, found.high),
            )
        )
    print(f"model: {one_line(str(result.model))}")


def _dry_run(recipe: Recipe, device: str) -> int:
    from ..training import profile_training

    print(_profile_text(profile_training(recipe, device)))
    return 0


def _profile_text(profile: TrainingProfile) -> str:
    from ..training.console import format_duration

    def gigabytes(count: int) -> str:
        return f"{count / 2**30:.2f} GB"

    rows = [("micro batch", "grad checkpointing", "seconds", "clips/s", "memory", "")]
    for one in profile.measured:
        mark = "suggested" if one is profile.suggested else ""
        mark = mark or ("too large" if one.peak_bytes > profile.usable_bytes else "")
        rows.append(
            (
                str(one.micro_batch_size),
                "yes" if one.grad_checkpointing else "no",
                f"{one.seconds:.2f}",
                f"{one.clips_per_second:.2f}",
                gigabytes(one.peak_bytes),
                mark,
            )
        )
    lines = [
        f"{profile.num_params / 1e6:.1f} M parameters on {profile.device}, "
        f"{profile.num_processes} process{'es' if profile.num_processes > 1 else ''}; weights and "
        f"optimizer {gigabytes(profile.state_bytes)}, each clip "
        f"{gigabytes(profile.bytes_per_clip)}, usable {gigabytes(profile.usable_bytes)}",
        text_table(rows),
    ]
    best = profile.suggested
    if best is None:
        lines.append(
            "Nothing fits in memory: use a smaller network, fewer frames or smaller crops."
        )
        return "\n".join(lines)
    clips_per_process = -(-profile.batch_size // profile.num_processes)
    num_micro_batches = -(-clips_per_process // best.micro_batch_size)
    lines.append(
        f"a step of {counted(profile.batch_size, 'clip')}: "
        f"{counted(num_micro_batches, 'micro batch', 'micro batches')}, "
        f"{format_duration(clips_per_process / best.clips_per_second)}"
    )
    if profile.epoch_seconds is None:
        per_hour = 3600 * best.clips_per_second * profile.num_processes
        lines.append(
            f"about {per_hour:.0f} clips per hour; give data=FOLDER for the time of an epoch"
        )
    else:
        lines.append(
            f"an epoch of {counted(profile.num_clips or 0, 'clip')}: "
            f"{format_duration(profile.epoch_seconds)}; {counted(profile.epochs, 'epoch')}: "
            f"{format_duration(profile.epoch_seconds * profile.epochs)}"
        )
    if profile.read_seconds is not None:
        supply = max(profile.num_workers, 1) / profile.read_seconds
        verdict = "fast enough" if supply > best.clips_per_second else "the network will wait"
        lines.append(
            f"reading: {profile.read_seconds:.3f} s per clip; {profile.num_workers} workers read "
            f"{supply:.1f} clips/s: {verdict}"
        )
    lines.append(
        f"suggested: micro_batch_size={best.micro_batch_size} "
        f"run.grad_checkpointing={'true' if best.grad_checkpointing else 'false'}"
    )
    return "\n".join(lines)
