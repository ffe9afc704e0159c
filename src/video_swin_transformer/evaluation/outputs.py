"""Writes the results: evaluation.json, clips.csv, classes.csv, report.html and charts."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..file_names import csv_cell, path_to_text, plain_text
from ..files import check_folder, is_json_with, write_atomic
from .charts import confusion_svg, reliability_svg
from .html_report import render_report
from .intervals import Measure
from .summary import EvaluationResult

RESULT_FILES = (
    "evaluation.json",
    "clips.csv",
    "classes.csv",
    "report.html",
    "confusion.svg",
    "confusion.csv",
    "reliability.svg",
)


def check_results_folder(folder: Path, scores_folder: str) -> None:
    """Checks that results can be written to a folder and replace only earlier results.

    Args:
        folder: The output folder. It is created.
        scores_folder: Name of the folder with scores in it, which marks it as one of an evaluation.

    Raises:
        ConfigError: It has a file of the same name as a result, and is not from an evaluation.
        OSError: The folder cannot be created or written to.
    """
    is_own = (folder / scores_folder).is_dir() or is_json_with(
        folder / "evaluation.json", "settings", "metrics"
    )
    for name in RESULT_FILES if not is_own else ():
        if (folder / name).exists():
            raise ConfigError(
                f"{str(folder / name)!r} exists and is not from an evaluation, so it was not "
                "replaced; choose another folder with --out."
            )
    check_folder(folder)


def write_results(result: EvaluationResult, folder: Path) -> list[Path]:
    """Writes the report, tables and charts of a result.

    Args:
        result: The results.
        folder: Output folder; existing files are replaced.

    Returns:
        The paths of the files.

    Raises:
        OSError: A file cannot be written.
    """
    texts = {
        "evaluation.json": json.dumps(to_data(result), indent=2, ensure_ascii=False) + "\n",
        "clips.csv": _csv(_clip_rows(result)),
        "classes.csv": _csv(_class_rows(result)),
        "report.html": render_report(result),
    }
    if result.confusion is not None:
        texts["confusion.svg"] = confusion_svg(result, theme="light")
        names = [result.class_name(label) for label in range(len(result.confusion))]
        rows = [[name, *row] for name, row in zip(names, result.confusion.tolist(), strict=True)]
        texts["confusion.csv"] = _csv([["true label / predicted label", *names], *rows])
    if result.calibration is not None:
        texts["reliability.svg"] = reliability_svg(result.calibration, theme="light")
    for name, text in texts.items():
        write_atomic(folder / name, text.encode("utf-8"))
    return [folder / name for name in texts]


def to_data(result: EvaluationResult) -> dict[str, Any]:
    """Returns the results as JSON data, without the per-clip results and the confusion matrix.

    Args:
        result: The results.
    """
    found = result.calibration
    return {
        "settings": dict(result.settings),
        "average": result.average,
        "mean_class_accuracy": result.mean_class_rule,
        "num_clips": len(result.clips),
        "num_failed": len(result.failures),
        "metrics": {key: _measure(measure) for key, measure in result.measures.items()},
        "calibration": None
        if found is None
        else {
            "expected_calibration_error": found.error,
            "bins": [
                {"num_clips": count, "confidence": confidence, "accuracy": accuracy}
                for count, confidence, accuracy in zip(
                    found.counts, found.confidence, found.accuracy, strict=True
                )
            ],
        },
        "classes": [
            {
                "name": one.name,
                "num_clips": one.num_clips,
                "accuracy": None if one.accuracy is None else _measure(one.accuracy),
                "confused_with": one.confused_with,
            }
            for one in result.classes
        ],
        "worst": [
            {
                "path": path_to_text(clip.path),
                "labels": [result.class_name(label) for label in clip.labels],
                "label_score": clip.label_score,
                "predicted": result.class_name(clip.predicted),
                "confidence": clip.confidence,
            }
            for clip in result.worst
        ],
        "failed": [
            {"path": path_to_text(f.path), "kind": f.kind, "reason": plain_text(f.reason)}
            for f in result.failures
        ],
    }


def _measure(measure: Measure) -> dict[str, float | None]:
    values = {"value": measure.value, "low": measure.low, "high": measure.high}
    return {key: None if math.isnan(value) else value for key, value in values.items()}


def _csv(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for row in rows:
        writer.writerow([csv_cell(cell) if isinstance(cell, str) else cell for cell in row])
    return text.getvalue()


def _clip_rows(result: EvaluationResult) -> Iterable[Sequence[object]]:
    yield (
        "path",
        "true_labels",
        "predicted_label",
        "is_correct",
        "confidence",
        "true_label_score",
        "true_label_rank",
        "error",
    )
    for clip in result.clips:
        yield (
            path_to_text(clip.path),
            ";".join(result.class_name(label) for label in clip.labels),
            result.class_name(clip.predicted),
            int(clip.is_correct),
            f"{clip.confidence:.6f}",
            f"{clip.label_score:.6f}",
            clip.rank,
            "",
        )
    for failure in result.failures:
        reason = plain_text(failure.reason)
        yield (path_to_text(failure.path), "", "", "", "", "", "", reason)


def _class_rows(result: EvaluationResult) -> Iterable[Sequence[object]]:
    yield "class", "num_clips", "accuracy", "low", "high", "confused_with", "num_confused"
    for one in result.classes:
        values: list[object] = ["", "", ""]
        if one.accuracy is not None:
            found = _measure(one.accuracy)
            values = ["" if v is None else f"{v:.6f}" for v in found.values()]
        yield one.name, one.num_clips, *values, one.confused_with or "", one.num_confused
