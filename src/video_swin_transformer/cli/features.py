"""videoswin features: vectors for search, clustering and training other models."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated

import typer

from ..files import one_line, output_paths, write_atomic
from .console import describe_predictor, expand_inputs, report_failures, say, with_progress
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

EXAMPLES = (
    "videoswin features clip.mp4 --out features",
    "videoswin features clips --out features --model swin-b-k600 --views 10x1",
)


def features(
    videos: Videos,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the .npy files.")],
    model: Model = None,
    config: ConfigFile = None,
    checkpoint: CheckpointFile = None,
    views: Views = None,
    runtime: RuntimeName = "auto",
    precision: Precision = "f32",
    device: Device = "auto",
    threads: Threads = None,
    verbose: Verbose = False,
) -> int:
    """Write the features of each video to a .npy file: float32 (clips, channels)."""
    import numpy as np

    from ..predictor import Predictor, parse_views

    inputs = expand_inputs(videos)
    targets = output_paths(inputs, out, ".npy")
    clips_and_crops = None if views is None else parse_views(views)
    predictor = Predictor.load(
        model,
        config=config,
        checkpoint=checkpoint,
        runtime=runtime,
        precision=precision,
        device=device,
        threads=threads,
    )
    if clips_and_crops is not None:
        predictor = predictor.with_views(*clips_and_crops)
    if verbose:
        say(describe_predictor(predictor))
    num_failed = 0
    results = zip(inputs, predictor.features_many(inputs), strict=True)
    for name, result in with_progress(results, len(inputs), "features"):
        if result.error is not None:
            say(f"error: {result.error}")
            num_failed += 1
            continue
        data = io.BytesIO()
        np.save(data, result.features)
        try:
            write_atomic(targets[name], data.getvalue())
        except OSError as error:
            say(f"error: Cannot write {str(targets[name])!r} ({error.strerror or error}).")
            num_failed += 1
            continue
        shape = "x".join(map(str, result.features.shape))
        print(f"{one_line(str(targets[name]))}  {shape}", flush=True)
    return report_failures(num_failed, len(inputs))
