"""videoswin classify: what do these videos show?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
from .output import CsvTable, classification_json, say, with_progress


def classify(
    videos: Videos,
    model: Model = None,
    config: ConfigFile = None,
    checkpoint: CheckpointFile = None,
    views: Views = None,
    topk: Annotated[int, typer.Option(min=1, help="How many labels to print for a video.")] = 5,
    labels: Annotated[
        Path | None, typer.Option(help="Label file instead of the model's: text, JSON or CSV.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line for each video.")
    ] = False,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a table to this file.")
    ] = None,
    runtime: RuntimeName = "auto",
    precision: Precision = "f32",
    device: Device = "auto",
    threads: Threads = None,
    verbose: Verbose = False,
) -> int:
    """Print the labels of videos, frame folders or whole folders of videos."""
    from .opening import open_predictor

    predictor = open_predictor(
        model, config, checkpoint, views, runtime, precision, device, verbose, threads
    )
    if labels is not None:
        predictor = predictor.with_labels(labels)
    inputs = expand_inputs(videos)
    with CsvTable(csv, topk) as table:
        for result in with_progress(predictor.classify_many(inputs), len(inputs), "classifying"):
            table.add(result)
            if json:
                print(classification_json(result, topk), flush=True)
            elif result.error is None:
                print(result.summary(topk), flush=True)
            if result.error is not None:
                say(f"error: {result.error}")
            elif verbose:
                times = (f"{stage} {took:.2f} s" for stage, took in result.timing_seconds.items())
                say(f"{result.source}: {', '.join(times)}")
    return report_failures(table.num_failed, len(inputs))


def report_failures(num_failed: int, num_inputs: int) -> int:
    """The exit code; says how many inputs failed where there were several."""
    if num_failed and num_inputs > 1:
        say(f"{num_failed} of {num_inputs} inputs could not be read; the others are done.")
    return 1 if num_failed else 0
