"""videoswin features: vectors for search, clustering, localization and training other models."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigError
from ..file_names import one_line, path_to_text, plain_text
from ..files import check_output
from .console import (
    describe_predictor,
    expand_inputs,
    print_json,
    progress_bar,
    refuse_without_effect,
    report_failures,
    say,
    with_progress,
)
from .options import (
    AllowTruncated,
    CheckpointFile,
    ConfigFile,
    Device,
    HopSeconds,
    Model,
    NumCrops,
    Precision,
    ReceiptFile,
    ResampleFps,
    RuntimeName,
    Threads,
    Verbose,
    Videos,
    Window,
    WindowStride,
    parse_crops,
)

if TYPE_CHECKING:
    from ..features import WrittenFeatures

EXAMPLES = (
    "videoswin features clip.mp4 --out features",
    "videoswin features clips --out features --window 32 --stride 2 --hop-seconds 0.5 --resume",
    "videoswin features long.mp4 --out features --mode stream --stride 2",
    "videoswin features clips --out thumos --layout actionformer --fps 30 --hop-frames 16",
)


def features(
    context: typer.Context,
    videos: Videos,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the files.")],
    model: Model = None,
    config: ConfigFile = None,
    checkpoint: CheckpointFile = None,
    mode: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="clip computes each window of frames alone; stream computes one pass over the "
            "whole video, whose rows trail the input.",
        ),
    ] = "clip",
    window: Window = None,
    stride: WindowStride = None,
    hop_frames: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Frames between the starts of windows; in a stream, frames per row.",
            show_default="one window after the other",
        ),
    ] = None,
    hop_seconds: HopSeconds = None,
    num_windows: Annotated[
        int | None,
        typer.Option(metavar="K", help="Windows per video, placed by the rule of the model."),
    ] = None,
    segments: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV with the columns video, start_seconds and end_seconds; one window in each.",
        ),
    ] = None,
    fps: ResampleFps = None,
    pooling: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="vector (mean over time and space), tokens (one per time step), map or logits.",
        ),
    ] = "vector",
    stage: Annotated[
        int | None,
        typer.Option(metavar="N", help="Stage of the network from 0.", show_default="the last"),
    ] = None,
    num_crops: NumCrops = None,
    average_crops: Annotated[
        bool,
        typer.Option("--average-crops/--keep-crops", help="Average over crops, or keep an axis."),
    ] = True,
    project: Annotated[
        str | None,
        typer.Option(
            metavar="K|FILE", help="Random projection to K channels, or a matrix in a .npy file."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the random projection.")] = 0,
    format: Annotated[
        str, typer.Option(metavar="NAME", help="npz, npy (with a .json), safetensors or parquet.")
    ] = "npz",
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Write what another project loads, with its settings: actionformer, opentad, "
            "tencrop or crop-files.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep complete files of the same request.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per video, one per line.")
    ] = False,
    receipt: ReceiptFile = None,
    runtime: RuntimeName = "auto",
    precision: Precision = "f32",
    device: Device = "auto",
    threads: Threads = None,
    allow_truncated: AllowTruncated = False,
    verbose: Verbose = False,
) -> int:
    """Write features of videos, with the frames and seconds that each row covers."""
    from ..features import FeatureOptions, read_segments, write_features
    from ..predictor import Predictor
    from ..receipt import is_receipts, write_receipts

    if receipt is not None:
        if resume:
            raise ConfigError(
                "--resume keeps files without computing them, so they have no receipt; leave out "
                "--resume or --receipt."
            )
        check_output(receipt, "a list of receipts", is_receipts, force=False)
    if project is None or not project.isdecimal():
        refuse_without_effect(context, ["seed"], "without a random projection, --project K")
    if layout is not None:
        refuse_without_effect(context, ["format"], "with --layout")
    inputs = expand_inputs(videos)
    options = FeatureOptions(
        mode=mode,  # type: ignore[arg-type] # checked there
        window=window,
        stride=stride,
        hop_frames=hop_frames,
        hop_seconds=hop_seconds,
        num_windows=num_windows,
        fps=fps,
        pooling=pooling,  # type: ignore[arg-type]
        stage=stage,
        num_crops=parse_crops(num_crops),
        average_crops=average_crops,
        project=int(project) if project is not None and project.isdecimal() else project,
        seed=seed,
    )
    chosen = None if segments is None else read_segments(segments)
    predictor = Predictor.load(
        model,
        config=config,
        checkpoint=checkpoint,
        # Other runtimes give pooled features only.
        runtime="torch" if runtime == "auto" and options.needs_maps else runtime,
        precision=precision,
        device=device,
        threads=threads,
        allow_truncated=allow_truncated,
    )
    if receipt is not None:
        predictor = predictor.with_receipts()
    if verbose:
        say(describe_predictor(predictor))
    receipts = []
    num_failed, lag_frames = 0, None
    # One bar: of the rows of the only video, or of the videos.
    with progress_bar("features") if len(inputs) == 1 else nullcontext() as progress:
        results = write_features(
            predictor,
            inputs,
            out,
            options,
            segments=chosen,
            format=format,
            layout=layout,
            resume=resume,
            progress=progress or (lambda done, total: None),
        )
        found = list(results) if progress else with_progress(results, len(inputs), "features")
    for result in found:
        if result.receipt is not None:
            receipts.append(result.receipt)
        if json:
            print_json(_json_data(result))
        if result.error is not None:
            say(f"error: {result.error}")
            num_failed += 1
            continue
        if result.lag_frames not in (None, lag_frames):
            lag_frames = result.lag_frames
            say("Rows trail the input by {} to {} frames.".format(*lag_frames))
        if not json:
            shape = "x".join(map(str, result.shape))
            kept = "  (kept)" if result.is_kept else ""
            print(f"{one_line(str(result.path))}  {shape}{kept}", flush=True)
    if receipt is not None and receipts:
        write_receipts(receipts, receipt)
    return report_failures(num_failed, len(inputs))


def _json_data(result: WrittenFeatures) -> dict[str, Any]:
    error = None
    if result.error is not None:
        error = {"type": type(result.error).__name__, "message": plain_text(str(result.error))}
    return {
        "input": path_to_text(result.source),
        "path": None if result.path is None else path_to_text(str(result.path)),
        "shape": result.shape,
        "is_kept": result.is_kept,
        "lag_frames": result.lag_frames,
        "error": error,
    }
