"""videoswin segments: when something happens in long videos."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigError, DataError, UnknownNameError, VideoSwinError, counted
from ..file_names import one_line, path_to_text, plain_text
from ..files import check_folder, check_output, output_paths, require_inputs_kept
from .console import (
    describe_predictor,
    expand_inputs,
    print_json,
    progress_bar,
    refuse_without_effect,
    report_failures,
    say,
    text_table,
    with_progress,
)
from .options import (
    AllowTruncated,
    AnnotationFps,
    CheckpointFile,
    ConfigFile,
    Device,
    Force,
    HopFrames,
    HopSeconds,
    Model,
    NumCrops,
    Precision,
    ReceiptFile,
    ResampleFps,
    Root,
    RuntimeName,
    Threads,
    Verbose,
    Window,
    WindowStride,
    parse_crops,
)

if TYPE_CHECKING:
    from ..predictor import Predictor
    from ..segments import DetectedSegments, LabeledShots, SegmentRules, Thresholds

EXAMPLES = (
    "videoswin segments match.mp4",
    "videoswin segments videos --out segments.json --pictures timelines",
    "videoswin segments --fit annotations.json --out thresholds.json",
    "videoswin segments videos --thresholds thresholds.json --out segments.csv --format csv",
    "videoswin segments film.mp4 --per-shot --out shots.parquet --format parquet",
)

_OF_WINDOWS = (
    "hop_frames", "hop_seconds", "window", "stride", "fps", "threshold", "thresholds",
    "smooth_seconds", "min_seconds", "merge_seconds", "soft_nms_sigma", "pictures",
)  # fmt: skip


def segments(
    context: typer.Context,
    videos: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VIDEO",
            help="Video files, folders of videos, or glob patterns such as 'clips/*.mp4'.",
            show_default=False,
        ),
    ] = None,
    model: Model = None,
    config: ConfigFile = None,
    checkpoint: CheckpointFile = None,
    window: Window = None,
    stride: WindowStride = None,
    hop_frames: HopFrames = None,
    hop_seconds: HopSeconds = None,
    fps: ResampleFps = None,
    num_crops: NumCrops = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            metavar="HIGH[,LOW]",
            help="A segment reaches the score HIGH somewhere and LOW everywhere.",
            show_default="0.5,0.3",
        ),
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Thresholds of each class, which --fit wrote."),
    ] = None,
    smooth_seconds: Annotated[
        float,
        typer.Option(metavar="S", help="Smooth the scores with a Gaussian of this deviation."),
    ] = 0.0,
    min_seconds: Annotated[
        float, typer.Option(metavar="S", help="Leave out shorter segments.")
    ] = 0.5,
    merge_seconds: Annotated[
        float,
        typer.Option(metavar="S", help="Merge segments of a class with a gap up to this."),
    ] = 0.5,
    soft_nms_sigma: Annotated[
        float | None,
        typer.Option(
            metavar="SIGMA",
            help="Keep candidates that overlap, ranked by soft-NMS, as for mAP.",
            show_default="no overlaps within a class",
        ),
    ] = None,
    per_shot: Annotated[
        bool, typer.Option("--per-shot", help="One answer for each shot, found by its cuts.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write all segments to this file.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Format of --out: activitynet, csv, jsonl, labelstudio or fiftyone; with "
            "--per-shot csv, json, jsonl or parquet.",
            show_default="by suffix: .json, .csv, .jsonl, .parquet",
        ),
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Draw a timeline of each video.")
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            metavar="ANNOTATIONS",
            help="Fit the thresholds to these annotated videos, and write them to --out.",
        ),
    ] = None,
    root: Root = None,
    annotation_fps: AnnotationFps = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per video, one per line.")
    ] = False,
    receipt: ReceiptFile = None,
    force: Force = False,
    runtime: RuntimeName = "auto",
    precision: Precision = "f32",
    device: Device = "auto",
    threads: Threads = None,
    allow_truncated: AllowTruncated = False,
    verbose: Verbose = False,
) -> int:
    """Find segments of videos: their start, end, label and score."""
    from ..data import write_segment_annotations
    from ..predictor import Predictor
    from ..receipt import is_receipts, write_receipts
    from ..segments import SegmentDetector, SegmentRules

    if out is None and receipt is None:
        refuse_without_effect(context, ["force"], "without --out or --receipt")
    if out is None:
        refuse_without_effect(context, ["format"], "without --out")
    if per_shot:
        refuse_without_effect(context, _OF_WINDOWS, "with --per-shot")
    if fit is None:
        refuse_without_effect(context, ["root", "annotation_fps"], "without --fit")
    if fit is not None and (videos or per_shot or out is None):
        raise ConfigError(
            "--fit takes its videos from the annotations and writes thresholds to --out; leave out "
            "VIDEO and --per-shot, and give --out FILE."
        )
    if fit is None and not videos:
        raise ConfigError("Give VIDEO, or --fit ANNOTATIONS to fit thresholds.")
    inputs = [] if fit is not None else expand_inputs(videos or [])
    chosen = _chosen_format(out, format, per_shot=per_shot) if fit is None else ""
    if out is not None:
        check_output(out, "a file of segments", is_segment_file, force=force)
    if receipt is not None:
        check_output(receipt, "a list of receipts", is_receipts, force=force)
    targets = {} if pictures is None else _picture_paths(inputs, pictures)
    rules = SegmentRules(
        thresholds=parse_threshold(threshold),
        class_thresholds=read_class_thresholds(thresholds),
        smooth_seconds=smooth_seconds,
        min_seconds=min_seconds,
        merge_seconds=merge_seconds,
        soft_nms_sigma=soft_nms_sigma,
    )
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
    if receipt is not None:
        predictor = predictor.with_receipts()
    if verbose:
        say(describe_predictor(predictor))
    if per_shot:
        return _label_shots(predictor, inputs, parse_crops(num_crops), out, chosen, json, receipt)
    detector = SegmentDetector(
        predictor,
        rules,
        window=window,
        stride=stride,
        hop_frames=hop_frames,
        hop_seconds=hop_seconds,
        fps=fps,
        num_crops=parse_crops(num_crops),
    )
    if fit is not None:
        assert out is not None
        return _fit(detector, rules, fit, root, annotation_fps, out)
    num_failed, found, receipts = 0, [], []
    # One bar: of the windows of the only video, or of the videos.
    with progress_bar("segments") if len(inputs) == 1 else nullcontext() as progress:
        results: Any = detector.detect_many(inputs, progress or (lambda done, total: None))
        results = list(results) if progress else with_progress(results, len(inputs), "segments")
    for result in results:
        if json:
            print_json(_data(result))
        elif result.error is None:
            print(_printable(result.summary()), flush=True)
        if result.error is not None:
            num_failed += 1
            say(f"error: {result.error}")
            continue
        found.append(result.as_annotation())
        if result.receipt is not None:
            receipts.append(result.receipt)
        if pictures is not None:
            result.save_picture(targets[result.source])
    if out is not None and found:
        paths = write_segment_annotations(found, out, format=chosen)
        say("Written: " + ", ".join(one_line(str(path)) for path in paths))
    if receipt is not None and receipts:
        write_receipts(receipts, receipt)
    return report_failures(num_failed, len(inputs))


def _picture_paths(inputs: list[str], folder: Path) -> dict[str, Path]:
    from ..plotting import require_matplotlib

    require_matplotlib()
    targets = output_paths(inputs, folder, ".png")
    require_inputs_kept(inputs, list(targets.values()))
    check_folder(folder)
    return targets


def _label_shots(
    predictor: Predictor,
    inputs: list[str],
    num_crops: Any,
    out: Path | None,
    format: str,
    json: bool,
    receipt: Path | None,
) -> int:
    from ..receipt import write_receipts
    from ..segments import write_shots
    from ..segments.shot_files import shot_rows
    from ..segments.shots import label_shots, require_scenedetect

    require_scenedetect()
    num_failed = 0
    found: list[LabeledShots] = []

    def results() -> Iterator[LabeledShots | VideoSwinError]:
        for source in inputs:
            try:
                yield label_shots(predictor, source, num_crops=num_crops)
            except VideoSwinError as error:
                yield error

    for result in with_progress(results(), len(inputs), "shots"):
        if isinstance(result, VideoSwinError):
            num_failed += 1
            say(f"error: {result}")
            continue
        found.append(result)
        if json:
            for row in shot_rows(result):
                print_json(row)
        else:
            print(_printable(result.summary()), flush=True)
    if out is not None and found:
        write_shots(found, out, format=format)
        say(f"Written: {one_line(str(out))}")
    receipts = [one.receipt for one in found if one.receipt is not None]
    if receipt is not None and receipts:
        write_receipts(receipts, receipt)
    return report_failures(num_failed, len(inputs))


def _fit(
    detector: Any,
    rules: SegmentRules,
    annotations: str,
    root: Path | None,
    annotation_fps: float | None,
    out: Path,
) -> int:
    from ..data import read_segment_annotations
    from ..segments import fit_thresholds, write_thresholds

    videos = read_segment_annotations(annotations, root=root, annotation_fps=annotation_fps)
    timelines, used, num_failed = [], [], 0
    results = detector.detect_many([video.video for video in videos])
    for video, result in zip(videos, with_progress(results, len(videos), "scoring"), strict=True):
        if result.error is not None:
            num_failed += 1
            say(f"error: {result.error}")
        else:
            timelines.append(result.timeline)
            used.append(video)
    if not used:
        raise DataError(f"No video of {annotations!r} can be read, so nothing can be fitted.")
    with progress_bar("fitting") as progress:
        fitted = fit_thresholds(timelines, used, rules, progress=progress)
    write_thresholds(fitted, out)
    rows = [("tIoU", "mAP before", "mAP fitted")]
    rows += [
        (f"{tiou:g}", f"{value:.3f}", f"{fitted.after.map_at[tiou]:.3f}")
        for tiou, value in fitted.before.map_at.items()
    ]
    rows.append(("mean", f"{fitted.before.average:.3f}", f"{fitted.after.average:.3f}"))
    print(text_table(rows))
    say(
        f"Fitted on {counted(len(used), 'video')}, and measured on the same; others give less. "
        f"Written: {one_line(str(out))}"
    )
    return report_failures(num_failed, len(videos))


def _chosen_format(out: Path | None, format: str | None, *, per_shot: bool) -> str:
    from ..data import SEGMENT_FILE_FORMATS
    from ..segments import SHOT_FORMATS

    formats = SHOT_FORMATS if per_shot else SEGMENT_FILE_FORMATS
    if format is None:
        suffix = "" if out is None else out.suffix.lower()[1:]
        format = "activitynet" if suffix == "json" and not per_shot else suffix
        if format not in formats:
            format = "csv" if per_shot else "activitynet"
    if format not in formats:
        raise UnknownNameError("format of segments", format, formats)
    return format


def is_segment_file(path: Path) -> bool:
    """Whether a file is of one of the formats of segments, shots or thresholds."""
    with path.open("rb") as file:
        start = file.read(400)
    return any(
        mark in start
        for mark in (
            b'"version": "VERSION 1.3"', b"start_seconds", b'"classes": [', b'"predictions": [',
            b"video-swin-transformer thresholds", b"PAR1",
        )
    )  # fmt: skip


def parse_threshold(text: str | None) -> Thresholds:
    """Parses the value of --threshold."""
    from ..segments import Thresholds

    if text is None:
        return Thresholds()
    try:
        high, *rest = (float(part) for part in text.split(","))
        (low,) = rest or [min(high, Thresholds().low)]
    except ValueError:
        raise ConfigError(
            f"--threshold is {text!r}, but must be HIGH or HIGH,LOW, such as 0.5,0.3."
        ) from None
    return Thresholds(high, low)


def read_class_thresholds(path: Path | None) -> dict[str, Thresholds]:
    """Reads --thresholds, if it is given."""
    from ..segments import read_thresholds

    return {} if path is None else read_thresholds(path)


def _printable(summary: str) -> str:
    return "\n".join(one_line(line) for line in summary.split("\n"))


def _data(result: DetectedSegments) -> dict[str, Any]:
    error = None
    if result.error is not None:
        error = {"type": type(result.error).__name__, "message": plain_text(str(result.error))}
    return {
        "input": path_to_text(result.source),
        "model": path_to_text(result.model),
        "duration_seconds": result.duration_seconds,
        "fps": result.fps,
        "segments": [
            {
                "start_seconds": round(one.start, 6),
                "end_seconds": round(one.end, 6),
                "label": one.label,
                "score": None if one.score is None else round(one.score, 6),
            }
            for one in result.segments
        ],
        "error": error,
    }
