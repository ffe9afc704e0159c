"""videoswin train: from labeled clips to a model, by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError
from .console import say, text_table

if TYPE_CHECKING:
    from ..training import Interrupted, Plan, Recipe, Result


EXAMPLES = (
    "videoswin train finetune data=clips --out runs/mine",
    "videoswin train swin-t-k400 data=train.txt data.val=val.txt --resume",
)


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A YAML file, or the name of a recipe that ships, such as finetune.",
            show_default=False,
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Settings of the recipe: data=FOLDER, from=WEIGHTS, schedule.epochs=10.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where everything goes.",
            show_default="runs/ and the recipe's name",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run in --out, exactly.")
    ] = False,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Measure one step: memory, time, and how to cut the batch."),
    ] = False,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto or cpu.")] = "auto",
) -> int:
    """Train a network on labeled clips; the result is a folder for classify --model.

    Starts in several processes or on several machines with accelerate launch or torchrun, without
    another recipe; --out is then a folder that all of them see.
    """
    from ..training import Interrupted, find_recipe, load_recipe
    from ..training import train as run_training

    path, note = find_recipe(recipe)
    checked = load_recipe(path, settings or ())
    if plan and resume:
        raise ConfigError("--plan begins nothing, so there is nothing to --resume; give one.")
    is_first = _is_first()
    if note and is_first:
        say(note)
    if plan:
        return _plan(checked, device)
    out = out or Path("runs") / path.stem
    try:
        result = run_training(
            checked, out, resume=resume, device=device, say=say if is_first else _quiet
        )
    except Interrupted as stopped:
        return _say_stopped(stopped, recipe, settings or [], out, is_first)
    if result is None:
        return 0
    _report(result, checked)
    return 1 if result.failures else 0


def _is_first() -> bool:
    """Whether this is the one of several processes that talks."""
    import os

    return os.environ.get("RANK", "0") == "0"


def _quiet(message: str) -> None:
    pass


def _say_stopped(
    stopped: Interrupted, recipe: str, settings: list[str], out: Path, is_first: bool
) -> int:
    import shlex

    if is_first:
        command = shlex.join(["videoswin", "train", recipe, *settings, "--out", str(out)])
        say(f"Stopped after step {stopped.step}; nothing is lost. Go on with: {command} --resume")
    return 128 + stopped.number


def _report(result: Result, recipe: Recipe) -> None:
    from ..training.console import duration

    if result.failures:
        say(
            f"{len(result.failures)} clips could not be used (named above) and were replaced "
            f"{result.num_replaced} times; they are in the quarantine list now, which later runs "
            "honor."
        )
    print(f"{result.epochs} epochs, {result.steps} steps, {duration(result.seconds)}")
    if result.val_top1 is not None:
        print(f"watched clips: {result.val_top1:.1%} (epoch {result.kept_epoch + 1}, kept)")
    if result.val_map is not None:
        print(f"watched clips: mAP {result.val_map:.1%} (epoch {result.kept_epoch + 1}, kept)")
    if result.test is not None:
        found = result.test.measure()
        control = "" if recipe.data.control == "none" else f", control {recipe.data.control}"
        what = "of" if result.test.truth is None else "mAP on"
        print(
            f"test clips: {found.value:.1%} {what} {result.test.num_clips}, 95 % interval "
            f"{found.low:.1%} to {found.high:.1%}{control}"
        )
    print(f"model: {result.model}")


def _plan(recipe: Recipe, device: str) -> int:
    from ..training import profile_training

    found = profile_training(recipe, device, lambda what: say(f"measuring {what}"))
    for note in found.notes:
        say(note)
    print(_plan_text(found))
    return 0


def _plan_text(plan: Plan) -> str:
    from ..training.console import duration

    def gigabytes(count: int) -> str:
        return f"{count / 2**30:.2f} GB"

    rows = [("clips at once", "checkpointing", "seconds", "clips/s", "memory", "")]
    for one in plan.measured:
        mark = "suggested" if one is plan.suggested else ""
        mark = mark or ("too large" if one.peak_bytes > plan.usable_bytes else "")
        rows.append(
            (
                str(one.micro_batch_size),
                "yes" if one.checkpointing else "no",
                f"{one.seconds:.2f}",
                f"{one.clips_per_second:.2f}",
                gigabytes(one.peak_bytes),
                mark,
            )
        )
    lines = [
        f"{plan.num_params / 1e6:.1f} M parameters on {plan.device}, {plan.num_processes} "
        f"process{'es' if plan.num_processes > 1 else ''}; weights and optimizer "
        f"{gigabytes(plan.state_bytes)}, each clip {gigabytes(plan.bytes_per_clip)}, usable "
        f"{gigabytes(plan.usable_bytes)}",
        text_table(rows),
    ]
    best = plan.suggested
    if best is None:
        lines.append("Nothing fits: take a smaller network, fewer frames or smaller pictures.")
        return "\n".join(lines)
    share = -(-plan.batch_size // plan.num_processes)
    lines.append(
        f"a step of {plan.batch_size} clips: {-(-share // best.micro_batch_size)} passes, "
        f"{duration(share / best.clips_per_second)}"
    )
    if plan.epoch_seconds is None:
        hour = 3600 * best.clips_per_second * plan.num_processes
        lines.append(f"about {hour:.0f} clips an hour; give data=FOLDER for the time of an epoch")
    else:
        lines.append(
            f"an epoch of {plan.num_clips} clips: {duration(plan.epoch_seconds)}; all "
            f"{plan.epochs}: {duration(plan.epoch_seconds * plan.epochs)}"
        )
    if plan.seconds_to_read is not None:
        supply = max(plan.num_readers, 1) / plan.seconds_to_read
        verdict = "enough" if supply > best.clips_per_second else "the network will wait for them"
        lines.append(
            f"reading: {plan.seconds_to_read:.3f} s a clip, {plan.num_readers} readers give "
            f"{supply:.1f} clips/s: {verdict}"
        )
    lines.append(
        f"suggested: batch.micro={best.micro_batch_size} "
        f"run.checkpointing={'true' if best.checkpointing else 'false'}"
    )
    return "\n".join(lines)
