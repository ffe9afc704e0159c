"""videoswin evaluate: accuracy on labeled clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError, counted
from ..file_names import one_line
from ..files import check_folder, write_atomic
from .console import (
    describe_predictor,
    progress_bar,
    refuse_without_effect,
    say,
    text_table,
)
from .options import (
    AnnotationFps,
    Background,
    CheckpointFile,
    ConfigFile,
    DataFormat,
    Delimiter,
    Device,
    Model,
    Precision,
    QuarantineFile,
    Root,
    RuntimeName,
    Threads,
    Verbose,
    Views,
)

if TYPE_CHECKING:
    from ..evaluation import EvaluationResult
    from ..predictor import Predictor

EXAMPLES = (
    "videoswin evaluate val.txt --root videos --model swin-t-k400 --views 4x3",
    "videoswin evaluate --scores evaluation --average score",
    "videoswin evaluate annotations.json --segments segments.json",
)


# Options that have an effect only where videos are decoded.
_OF_VIDEOS = (
    "model",
    "config",
    "checkpoint",
    "views",
    "rule",
    "resume",
    "root",
    "format",
    "delimiter",
    "split",
    "segments",
    "background",
    "annotation_fps",
    "labels",
    "quarantine",
    "workers",
    "runtime",
    "precision",
    "device",
    "threads",
    "verbose",
)


_OF_SCORES = tuple(
    name
    for name in (*_OF_VIDEOS, "average", "mean_class_accuracy", "resume")
    if name not in ("segments", "root", "format", "split", "annotation_fps")
)


def evaluate(
    context: typer.Context,
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA", help="A folder of class folders, or a list file.", show_default=False
        ),
    ] = None,
    model: Model = None,
    config: ConfigFile = None,
    checkpoint: CheckpointFile = None,
    views: Views = None,
    rule: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Sampling rule: official, mmaction2 or uniform.",
            show_default="the model's",
        ),
    ] = None,
    average: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="prob: average the softmax scores; score: average the logits.",
            show_default="the model's",
        ),
    ] = None,
    mean_class_accuracy: Annotated[
        str,
        typer.Option(
            metavar="WHICH",
            help="present: classes in the data; official: also classes that are only predicted.",
        ),
    ] = "present",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the report and the scores.",
            show_default="evaluation",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted run in --out.")
    ] = False,
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Recompute metrics from the scores in an earlier --out, without the videos.",
        ),
    ] = None,
    segments: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Compare these predicted segments (`videoswin segments --out`) with the segments "
            "of DATA: mAP at tIoU 0.3 to 0.7.",
        ),
    ] = None,
    root: Root = None,
    format: DataFormat = None,
    delimiter: Delimiter = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Split to use from a folder or Kinetics list."),
    ] = None,
    background: Background = "ignore",
    annotation_fps: AnnotationFps = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Label names to use instead of the model's.")
    ] = None,
    quarantine: QuarantineFile = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of videos decoded in parallel.")] = 1,
    runtime: RuntimeName = "auto",
    precision: Precision = "f32",
    device: Device = "auto",
    threads: Threads = None,
    verbose: Verbose = False,
) -> int:
    """Measure overall and per-class accuracy with confidence intervals, and write a report.

    To use several processes, start it with torchrun or accelerate launch; --out is then a folder
    that all of them can access.
    """
    from ..evaluation import default_device, evaluate, evaluate_scores

    if (data is None) == (scores is None):
        raise ConfigError("Give DATA, or --scores FOLDER to use stored scores, and not both.")
    if scores is not None:
        refuse_without_effect(context, _OF_VIDEOS, "on stored --scores")
        stored = evaluate_scores(
            scores, out, average=average, mean_class_accuracy=mean_class_accuracy
        )
        _print_results(stored, out or scores)
        return 0
    assert data is not None
    if segments is not None:
        refuse_without_effect(context, _OF_SCORES, "with --segments")
        _compare_segments(data, segments, root, format, split, annotation_fps, out)
        return 0
    from ..predictor import Predictor, parse_views

    clips_and_crops = None if views is None else parse_views(views)
    predictor = Predictor.load(
        model,
        config=config,
        checkpoint=checkpoint,
        runtime=runtime,
        precision=precision,
        device=default_device() if device == "auto" else device,
        threads=threads,
    )
    if rule is not None:  # before the views: "uniform" allows one clip only
        predictor = predictor.with_rule(rule)
    if clips_and_crops is not None:
        predictor = predictor.with_views(*clips_and_crops)
    if labels is not None:
        predictor = predictor.with_labels(labels)
    if verbose:
        say(describe_predictor(predictor))
    out = out or Path("evaluation")
    if predictor.bundle.targets:
        refuse_without_effect(context, _OF_CLASSES, "for a model that predicts numbers")
        return _evaluate_numbers(predictor, data, out, root, split)
    try:
        with progress_bar("evaluating") as progress:
            result = evaluate(
                predictor,
                data,
                out,
                root=root,
                format=format,
                delimiter=delimiter,
                split=split,
                background=background,
                annotation_fps=annotation_fps,
                average=average,
                mean_class_accuracy=mean_class_accuracy,
                quarantine=quarantine,
                resume=resume,
                num_workers=workers,
                progress=progress,
            )
    except KeyboardInterrupt:
        say(f"Stopped. Finished clips are stored in {out}; continue with --resume.")
        return 130
    if result is None:  # not the first of several processes
        return 0
    _print_results(result, out)
    new = [failure for failure in result.failures if failure.kind != "quarantined"]
    for failure in new:
        named = failure.path in failure.reason
        say(f"error: {failure.reason}" if named else f"error: {failure.path}: {failure.reason}")
    if new:
        total = len(result.clips) + len(result.failures)
        say(f"{len(new)} of {counted(total, 'clip')} failed; all others were evaluated.")
    return 1 if new else 0


_OF_CLASSES = (
    "average", "mean_class_accuracy", "resume", "format", "delimiter", "background",
    "annotation_fps", "labels", "quarantine", "workers",
)  # fmt: skip


def _evaluate_numbers(
    predictor: Predictor, data: str, out: Path, root: Path | None, split: str | None
) -> int:
    from ..evaluation import evaluate_regression

    with progress_bar("evaluating") as progress:
        result = evaluate_regression(
            predictor, data, out, root=root, split=split, progress=progress
        )
    rows: list[tuple[str, ...]] = [("target", "SRCC", "PLCC", "MAE", "RMSE")]
    for one in result.targets:
        measures = (one.srcc, one.plcc, one.mae, one.rmse)
        cells = (f"{m.value:.4g} [{m.low:.4g}, {m.high:.4g}]" for m in measures)
        rows.append((one_line(one.name), *cells))
    print(f"{result.model} on {result.data}: {counted(len(result.paths), 'clip')}")
    print(text_table(rows))
    print(f"predictions: {one_line(str(out / 'predictions.csv'))}")
    for _, reason in result.failures:
        say(f"error: {reason}")
    return 1 if result.failures else 0


def _compare_segments(
    data: str,
    predictions: Path,
    root: Path | None,
    format: str | None,
    split: str | None,
    annotation_fps: float | None,
    out: Path | None,
) -> None:
    from ..evaluation import evaluate_segments

    result = evaluate_segments(
        data, predictions, root=root, format=format, split=split, annotation_fps=annotation_fps
    )
    rows = [("class", *(f"tIoU {tiou:g}" for tiou in result.tious), "mean")]
    for label, values in result.class_ap.items():
        rows.append((label, *(f"{v:.3f}" for v in values), f"{sum(values) / len(values):.3f}"))
    rows.append(("mAP", *(f"{v:.3f}" for v in result.map_at.values()), f"{result.average:.3f}"))
    print(text_table(rows))
    print(
        f"{counted(result.num_segments, 'segment')} of {counted(result.num_videos, 'video')}, "
        f"{counted(result.num_predictions, 'prediction')}"
    )
    if result.ignored_videos:
        say(f"{counted(len(result.ignored_videos), 'video')} without annotations do not count.")
    if out is not None:
        check_folder(out)
        text = json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n"
        write_atomic(out / "segments.json", text.encode("utf-8"))


def _print_results(result: EvaluationResult, out: Path) -> None:
    from ..evaluation import TITLES, percent, protocol

    clips = counted(len(result.clips), "clip")
    print(f"{result.settings['model']} on {result.settings['data']}: {clips}")
    print(protocol(result))
    print(text_table([(TITLES[key], percent(found)) for key, found in result.measures.items()]))
    if result.calibration is not None:
        print(f"calibration error {result.calibration.error:.3f}")
    print(f"report: {one_line(str(out / 'report.html'))}")
