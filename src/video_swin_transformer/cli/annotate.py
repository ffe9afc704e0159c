"""videoswin annotate: predicted segments as a start for annotators."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UnknownNameError
from ..file_names import one_line
from ..files import check_output
from .console import describe_predictor, expand_inputs, report_failures, say, with_progress
from .options import (
    CheckpointFile,
    ConfigFile,
    Device,
    Force,
    Model,
    Precision,
    RuntimeName,
    Threads,
    Verbose,
    Videos,
)
from .segments import is_segment_file, read_class_thresholds

EXAMPLES = (
    "videoswin annotate videos --to labelstudio --out tasks.json "
    "--media-prefix '/data/local-files/?d=videos/'",
    "videoswin annotate videos --to fiftyone --out labels.json",
)


def annotate(
    videos: Videos,
    to: Annotated[
        str,
        typer.Option(metavar="NAME", help="labelstudio, fiftyone, activitynet, csv or jsonl."),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to import.")],
    model: Model = None,
    config: ConfigFile = None,
    checkpoint: CheckpointFile = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Thresholds of each class, which `videoswin segments --fit` wrote."
        ),
    ] = None,
    media_prefix: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="For labelstudio: what precedes the names of the files in its URLs.",
        ),
    ] = "",
    force: Force = False,
    runtime: RuntimeName = "auto",
    precision: Precision = "f32",
    device: Device = "auto",
    threads: Threads = None,
    verbose: Verbose = False,
) -> int:
    """Write predicted segments for an annotation tool, to be corrected there.

    For labelstudio, the labeling configuration of the project is written beside the tasks (.xml).
    `videoswin train` and `videoswin evaluate` read what the tools export.
    """
    from ..data import SEGMENT_FILE_FORMATS, write_segment_annotations
    from ..predictor import Predictor
    from ..segments import SegmentDetector, SegmentRules

    if to not in SEGMENT_FILE_FORMATS:
        raise UnknownNameError("format of segments", to, SEGMENT_FILE_FORMATS)
    inputs = expand_inputs(videos)
    check_output(out, "a file of segments", is_segment_file, force=force)
    rules = SegmentRules(class_thresholds=read_class_thresholds(thresholds))
    predictor = Predictor.load(
        model,
        config=config,
        checkpoint=checkpoint,
        runtime=runtime,
        precision=precision,
        device=device,
        threads=threads,
    )
    if verbose:
        say(describe_predictor(predictor))
    results = SegmentDetector(predictor, rules).detect_many(inputs)
    found, num_failed = [], 0
    for result in with_progress(results, len(inputs), "annotating"):
        if result.error is None:
            found.append(result.as_annotation())
        else:
            num_failed += 1
            say(f"error: {result.error}")
    if found:
        paths = write_segment_annotations(
            found, out, format=to, media_prefix=media_prefix, classes=predictor.bundle.labels
        )
        for path in paths:
            print(one_line(str(path)), flush=True)
    return report_failures(num_failed, len(inputs))
