"""videoswin classify: the labels of videos."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from ..file_names import one_line
from ..files import check_output
from .console import (
    describe_predictor,
    expand_inputs,
    print_json,
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
    Force,
    Model,
    Precision,
    ReceiptFile,
    RuntimeName,
    Threads,
    Verbose,
    Videos,
)
from .results import CsvTable, classification_data

EXAMPLES = (
    "videoswin classify clip.mp4 --topk 3",
    "videoswin classify clips --model swin-t-k400 --json > labels.jsonl",
    "videoswin classify clip.mp4 --receipt receipt.json",
)


def classify(
    context: typer.Context,
    videos: Videos,
    model: Model = None,
    config: ConfigFile = None,
    checkpoint: CheckpointFile = None,
    views: Annotated[
        str | None,
        typer.Option(
            metavar="KxC|auto",
            help="Clips x crops per video, such as 4x3; 4xfull uses the whole frame in one pass. "
            "auto adds views, up to 4x3, until the label is stable.",
            show_default="the model's",
        ),
    ] = None,
    topk: Annotated[int, typer.Option(min=1, help="Number of labels per video.")] = 5,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Label names to use instead of the model's: text, JSON or CSV."
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per video, one per line.")
    ] = False,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the results to this CSV file.")
    ] = None,
    receipt: ReceiptFile = None,
    force: Force = False,
    runtime: RuntimeName = "auto",
    precision: Precision = "f32",
    device: Device = "auto",
    threads: Threads = None,
    allow_truncated: AllowTruncated = False,
    verbose: Verbose = False,
) -> int:
    """Classify videos and print their labels."""
    from ..predictor import Predictor, parse_views
    from ..receipt import is_receipts, write_receipts

    if csv is None and receipt is None:
        refuse_without_effect(context, ["force"], "without --csv or --receipt")
    inputs = expand_inputs(videos)
    clips_and_crops = None if views in (None, "auto") else parse_views(views)
    predictor = Predictor.load(
        model,
        config=config,
        checkpoint=checkpoint,
        runtime=runtime,
        precision=precision,
        device=device,
        threads=threads,
        allow_truncated=allow_truncated,
    )
    if clips_and_crops is not None:
        predictor = predictor.with_views(*clips_and_crops)
    if views == "auto":
        predictor = predictor.with_adaptive_views()
    if labels is not None:
        predictor = predictor.with_labels(labels)
    if receipt is not None:
        check_output(receipt, "a list of receipts", is_receipts, force=force)
        predictor = predictor.with_receipts()
    if verbose:
        say(describe_predictor(predictor))
    receipts = []
    results = predictor.classify_many(inputs)
    num_failed = 0
    with CsvTable(csv, topk, force=force) if csv is not None else nullcontext() as table:
        if len(inputs) > 1:
            results = with_progress(results, len(inputs), "classifying")
        for result in results:
            if table is not None:
                table.add(result)
            if result.receipt is not None:
                receipts.append(result.receipt)
            if json:
                print_json(classification_data(result, topk))
            elif result.error is None:
                if not result.source.isprintable():
                    result = dataclasses.replace(result, source=one_line(result.source))
                print(result.summary(topk), flush=True)
                if views == "auto":
                    print(f"{result.num_views:8d}  of {result.max_views} views", flush=True)
            if result.error is not None:
                num_failed += 1
                say(f"error: {result.error}")
            elif verbose:
                times = (f"{stage} {took:.2f} s" for stage, took in result.timing_seconds.items())
                say(f"{result.source}: {result.num_views} views, {', '.join(times)}")
    if receipt is not None and receipts:
        write_receipts(receipts, receipt)
    return report_failures(num_failed, len(inputs))
