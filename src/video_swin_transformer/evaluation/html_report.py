"""The HTML report: a self-contained file without scripts or external resources."""

from __future__ import annotations

import base64
import datetime
import math
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import cv2

from ..errors import MissingExtraError, VideoSwinError
from ..file_names import path_to_text, plain_text
from ..video import VideoReader
from ..video.segment import parse_segment
from .charts import confusion_svg, reliability_svg
from .intervals import Measure
from .summary import ClipResult, EvaluationResult

_TEMPLATE = "report.html.j2"
_NUM_IMAGES = 12  # of the worst clips
_IMAGE_HEIGHT = 120  # pixels
_MAX_FAILURES = 50
_MAX_OPEN_CLASSES = 24  # further classes are collapsed

TITLES = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_class_accuracy": "mean class accuracy",
    "map": "mAP",
    "hit1": "hit@1",
}


@dataclass(frozen=True)
class _Tile:
    title: str
    value: str
    note: str


@dataclass(frozen=True)
class _WorstClip:
    clip: ClipResult
    labels: str
    predicted: str
    image: str  # data URL, or ""


def render_report(result: EvaluationResult) -> str:
    """Renders the report of an evaluation.

    Args:
        result: The results.

    Returns:
        HTML text.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise MissingExtraError("jinja2", "evaluate", "The report of an evaluation") from error
    environment = Environment(
        loader=PackageLoader(__package__, package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
    )
    known = [found for found in result.classes if found.accuracy is not None]
    known.sort(key=lambda found: (found.accuracy.value if found.accuracy else 0, found.name))
    environment.filters |= {"as_text": path_to_text, "without_surrogates": plain_text}
    confusion = None if result.confusion is None else Markup(confusion_svg(result, theme="page"))
    calibration = result.calibration
    reliability = (
        None if calibration is None else Markup(reliability_svg(calibration, theme="page"))
    )
    return environment.get_template(_TEMPLATE).render(
        result=result,
        settings=result.settings,
        protocol=protocol(result),
        tiles=_tiles(result),
        multilabel=result.settings["is_multilabel"],
        classes=known,
        num_absent=len(result.classes) - len(known),
        confusion=confusion,
        reliability=reliability,
        worst=_worst(result),
        details=_details(result),
        percent=lambda value: f"{100 * value:.1f}%",
        max_failures=_MAX_FAILURES,
        max_open_classes=_MAX_OPEN_CLASSES,
    )


def percent(measure: Measure) -> str:
    """Formats a proportion with its confidence interval: "81.3% (79.9 to 82.6)".

    Args:
        measure: The metric, in [0, 1]. An interval of NaN is omitted.
    """
    if math.isnan(measure.low):
        return f"{100 * measure.value:.1f}%"
    return f"{100 * measure.value:.1f}% ({100 * measure.low:.1f} to {100 * measure.high:.1f})"


def protocol(result: EvaluationResult) -> str:
    """Describes views, sampling rule and averaging in one line.

    Args:
        result: The results.
    """
    sampling, preprocessing = result.settings["sampling"], result.settings["preprocessing"]
    crops = "full" if preprocessing.get("whole_frame") else preprocessing["num_crops"]
    clips = 1 if sampling["rule"] == "uniform" else sampling["num_clips"]
    of = {"prob": "mean of probabilities", "score": "mean of logits"}[result.average]
    return (
        f"{clips}x{crops} views of {sampling['num_frames']} frames, rule {sampling['rule']}, {of}"
    )


def _tiles(result: EvaluationResult) -> list[_Tile]:
    tiles = []
    for key, measure in result.measures.items():
        title = TITLES[key]
        if key == "mean_class_accuracy" and result.mean_class_rule == "official":
            title += " (official)"
        interval = f"95% interval {100 * measure.low:.1f} to {100 * measure.high:.1f}"
        tiles.append(_Tile(title, f"{100 * measure.value:.1f}%", interval))
    if result.calibration is not None:
        tiles.append(_Tile("calibration error", f"{result.calibration.error:.3f}", "0 is best"))
    return tiles


def _worst(result: EvaluationResult) -> list[_WorstClip]:
    return [
        _WorstClip(
            clip,
            ", ".join(result.class_name(label) for label in clip.labels),
            result.class_name(clip.predicted),
            _middle_frame(clip.path) if index < _NUM_IMAGES else "",
        )
        for index, clip in enumerate(result.worst)
    ]


def _middle_frame(path: str) -> str:
    """Returns the middle frame as a data URL; "" if the file cannot be read."""
    segment = parse_segment(path)
    if not Path(path if segment is None else segment.path).exists():
        return ""
    try:
        with VideoReader(path if segment is None else segment) as video:
            frame = video.frames_at([video.num_frames // 2])[0]
    except VideoSwinError:
        return ""
    width = max(1, round(frame.shape[1] * _IMAGE_HEIGHT / frame.shape[0]))
    small = cv2.resize(frame, (width, _IMAGE_HEIGHT), interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def _details(result: EvaluationResult) -> list[tuple[str, str]]:
    settings = result.settings
    mean_class = {
        "present": "mean over classes that occur in the data",
        "official": "official code: classes that are only predicted count as 0",
    }[result.mean_class_rule]
    return [
        ("model", str(settings["model"])),
        ("SHA-256 of the weights", str(settings["weights_sha256"] or "published weights")),
        ("runtime", str(settings["runtime"])),
        ("views", protocol(result)),
        ("mean class accuracy", mean_class),
        (
            "intervals",
            "95% confidence: Wilson for proportions, bootstrap over clips for class means",
        ),
        ("clips", f"{len(result.clips)} evaluated, {len(result.failures)} failed"),
        (
            "written",
            f"{datetime.datetime.now().astimezone():%Y-%m-%d %H:%M %Z} by video-swin-transformer "
            f"{version('video-swin-transformer')}",
        ),
    ]
