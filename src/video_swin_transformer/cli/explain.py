"""videoswin explain: heat maps of what a model used, and what each view was shown."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigError, VideoDecodeError
from ..file_names import one_line, path_to_text, plain_text
from ..files import check_folder, output_paths, require_inputs_kept, sibling_path
from .console import (
    describe_predictor,
    expand_inputs,
    print_json,
    progress_bar,
    report_failures,
    say,
    with_progress,
)
from .options import (
    CheckpointFile,
    ConfigFile,
    Device,
    Model,
    Precision,
    RuntimeName,
    Threads,
    Verbose,
    Videos,
    Views,
)

if TYPE_CHECKING:
    from ..predictor import Predictor

EXAMPLES = (
    "videoswin explain clip.mp4 --model swin-t-k400",
    "videoswin explain clip.mp4 --method attention --stage 0 --block 1 --query 30,120,200",
    "videoswin explain clip.mp4 --method occlusion --fill freeze --views 1x1",
    "videoswin explain clip.mp4 --sampling",
)


def explain(
    videos: Videos,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the files.")] = Path(
        "explanations"
    ),
    model: Model = None,
    config: ConfigFile = None,
    checkpoint: CheckpointFile = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="grad-cam, eigen-cam (without gradients), attention (of one block), rollout "
            "(attention through all blocks) or occlusion (hides parts; on any runtime).",
        ),
    ] = "grad-cam",
    label: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|N", help="The class to explain.", show_default="the highest score"
        ),
    ] = None,
    views: Views = None,
    stage: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Stage from 0, for grad-cam, eigen-cam and attention; -1 is the last.",
            show_default="the last",
        ),
    ] = None,
    block: Annotated[
        int | None,
        typer.Option(metavar="N", help="Block of the stage, likewise.", show_default="the last"),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="norm1, norm2 or output of the block, for grad-cam and eigen-cam.",
            show_default="norm2",
        ),
    ] = None,
    head: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Head from 0, for attention.", show_default="the mean of all"
        ),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(
            metavar="FRAME,ROW,COLUMN",
            help="For attention: what the token at this pixel of the video pays, instead of what "
            "each token receives.",
        ),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="FRAMES,ROWS,COLUMNS",
            help="Part of a view that occlusion hides at once.",
            show_default="a quarter of each axis",
        ),
    ] = None,
    stride: Annotated[
        str | None,
        typer.Option(
            metavar="FRAMES,ROWS,COLUMNS",
            help="Steps of the window.",
            show_default="the window in time, half of it in space",
        ),
    ] = None,
    fill: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What hidden parts show: mean color, or freeze, the middle frame.",
            show_default="mean",
        ),
    ] = None,
    sampling: Annotated[
        bool,
        typer.Option(
            "--sampling",
            help="Write which frames, times and crops each view sees, as a contact sheet and JSON, "
            "instead of heat maps.",
        ),
    ] = False,
    theme: Annotated[
        str, typer.Option(metavar="NAME", help="light or dark, for the pictures.")
    ] = "light",
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per video, one per line.")
    ] = False,
    runtime: RuntimeName = "auto",
    precision: Precision = "f32",
    device: Device = "auto",
    threads: Threads = None,
    verbose: Verbose = False,
) -> int:
    """Show where and when a model found what it used.

    For each video: an overlay video (NAME.mp4), a contact sheet (NAME.png), a curve over time
    (NAME-curve.png), numbers (NAME.json) and the maps (NAME.npz).
    """
    from ..plotting import require_matplotlib, theme_named
    from ..predictor import Predictor, parse_views

    require_matplotlib()
    theme_named(theme)
    inputs = expand_inputs(videos)
    targets = output_paths(inputs, out, ".mp4")
    suffixes = (".mp4", ".png", "-curve.png", ".json", ".npz", "-sampling.png", "-sampling.json")
    stems = [target.with_suffix("") for target in targets.values()]
    require_inputs_kept(inputs, [Path(f"{stem}{end}") for stem in stems for end in suffixes])
    check_folder(out)
    options = {
        "method": method,
        "label": label,
        "stage": stage,
        "block": block,
        "layer": layer,
        "head": head,
        "query": _triple("--query", query),
        "window": _triple("--window", window),
        "stride": _triple("--stride", stride),
        "fill": fill,
    }
    clips_and_crops = None if views is None else parse_views(views)
    # Heat maps need the network itself, which other runtimes do not give.
    needs_torch = runtime == "auto" and not sampling and method != "occlusion"
    predictor = Predictor.load(
        model,
        config=config,
        checkpoint=checkpoint,
        runtime="torch" if needs_torch else runtime,
        precision=precision,
        device=device,
        threads=threads,
    )
    if clips_and_crops is not None:
        predictor = predictor.with_views(*clips_and_crops)
    if verbose:
        say(describe_predictor(predictor))
    num_failed = 0
    # One bar: of the steps of the only video, or of the videos.
    with progress_bar("explaining") if len(inputs) == 1 else nullcontext() as progress:
        for source in inputs if progress else with_progress(inputs, len(inputs), "explaining"):
            try:
                if sampling:
                    result = _write_sampling(predictor, source, targets[source], theme)
                else:
                    result = _write_maps(
                        predictor, source, targets[source], theme, options, progress
                    )
            except VideoDecodeError as error:
                num_failed += 1
                say(f"error: {error}")
                result = {"input": path_to_text(source), "files": [], "error": _failure(error)}
            if json:
                print_json(result)
            elif not result["error"]:
                print(f"{one_line(result['files'][0])}  {result['summary']}", flush=True)
    return report_failures(num_failed, len(inputs))


def _write_maps(
    predictor: Predictor,
    source: str,
    target: Path,
    theme: str,
    options: dict[str, Any],
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    from ..explanation import explain

    found = explain(predictor, source, **options, progress=progress or (lambda done, total: None))
    files = found.save(target.parent, target.stem, theme=theme)
    return {
        "input": path_to_text(source),
        "label": found.label,
        "score": None if found.score is None else round(found.score, 6),
        "summary": found.summary(),
        "files": [path_to_text(file) for file in files],
        "error": None,
    }


def _write_sampling(predictor: Predictor, source: str, target: Path, theme: str) -> dict[str, Any]:
    from ..explanation import sampled_views

    found = sampled_views(predictor, source)
    sheet = sibling_path(target, "-sampling.png", target.stem)
    data = sibling_path(target, "-sampling.json", target.stem)
    found.save_sheet(sheet, theme=theme)
    found.save_json(data)
    return {
        "input": path_to_text(source),
        "summary": found.summary(),
        "files": [path_to_text(sheet), path_to_text(data)],
        "error": None,
    }


def _failure(error: VideoDecodeError) -> dict[str, str]:
    return {"type": type(error).__name__, "message": plain_text(str(error))}


def _triple(name: str, text: str | None) -> tuple[int, ...] | None:
    """Parses three numbers; the library checks them."""
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
        raise ConfigError(
            f"{name} is {text!r}, but must be three numbers (frames, rows, columns) with commas, "
            "such as 8,56,56."
        )
    return tuple(int(part) for part in parts)
