"""videoswin predict: the numbers of a regression model."""

from __future__ import annotations

from ..file_names import one_line, path_to_text, plain_text
from .console import (
    describe_predictor,
    expand_inputs,
    print_json,
    report_failures,
    say,
    with_progress,
)
from .options import (
    AllowTruncated,
    Device,
    JsonLines,
    Model,
    Precision,
    RuntimeName,
    Threads,
    Verbose,
    Videos,
)

EXAMPLES = (
    "videoswin predict clip.mp4 --model runs/quality/model",
    "videoswin predict clips --model runs/quality/model --json > values.jsonl",
)


def predict(
    videos: Videos,
    model: Model = None,
    json: JsonLines = False,
    runtime: RuntimeName = "auto",
    precision: Precision = "f32",
    device: Device = "auto",
    threads: Threads = None,
    allow_truncated: AllowTruncated = False,
    verbose: Verbose = False,
) -> int:
    """Predict numbers with a model that was trained with loss.kind=regression."""
    from ..predictor import Predictor

    inputs = expand_inputs(videos)
    predictor = Predictor.load(
        model,
        runtime=runtime,
        precision=precision,
        device=device,
        threads=threads,
        allow_truncated=allow_truncated,
    )
    if verbose:
        say(describe_predictor(predictor))
    num_failed = 0
    for result in with_progress(predictor.predict_many(inputs), len(inputs), "predicting"):
        error = None
        if result.error is not None:
            num_failed += 1
            say(f"error: {result.error}")
            error = {
                "type": type(result.error).__name__,
                "message": plain_text(str(result.error)),
            }
        if json:
            print_json(
                {
                    "input": path_to_text(result.source),
                    "model": path_to_text(result.model),
                    "values": result.to_dict(),
                    "error": error,
                }
            )
        elif result.error is None:
            print(one_line(result.source))
            for name, value in result.to_dict().items():
                print(f"{value:12.5g}  {one_line(name)}", flush=True)
    return report_failures(num_failed, len(inputs))
