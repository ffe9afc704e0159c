"""videoswin features: vectors for search, clustering and training of other models."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated

import typer

from ..errors import DataError
from ..files import write_atomic
from .classify import report_failures
from .inputs import expand_inputs
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
from .output import say, with_progress


def features(
    videos: Videos,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the .npy files go.")],
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
    """Write one .npy file for each video: float32 (clips, channels), one vector for each clip."""
    import numpy as np

    from .opening import open_predictor

    inputs = expand_inputs(videos)
    targets = _targets(inputs, out)
    predictor = open_predictor(
        model, config, checkpoint, views, runtime, precision, device, verbose, threads
    )
    num_failed = 0
    results = zip(inputs, predictor.features_many(inputs), strict=True)
    for name, result in with_progress(results, len(inputs), "features"):
        if result.error is not None:
            say(f"error: {result.error}")
            num_failed += 1
            continue
        data = io.BytesIO()
        np.save(data, result.features)
        write_atomic(targets[name], data.getvalue())
        print(f"{targets[name]}  {result.features.shape[0]}x{result.features.shape[1]}", flush=True)
    return report_failures(num_failed, len(inputs))


def _targets(inputs: list[str], out: Path) -> dict[str, Path]:
    """The file for each input, named after it. Raises DataError where two would be the same."""
    targets: dict[str, Path] = {}
    taken: dict[Path, str] = {}
    for name in inputs:
        target = out / f"{Path(name).stem or 'features'}.npy"
        if target in taken:
            raise DataError(
                f"{taken[target]!r} and {name!r} would both be written to {str(target)!r}; "
                "run them into different folders."
            )
        taken[target] = name
        targets[name] = target
    return targets
