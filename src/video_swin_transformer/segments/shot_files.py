"""Shots as CSV, JSON, JSON Lines and Parquet: one row per shot.

The columns id, source_video, span and duration_span follow the clip metadata of NeMo Curator, so
that rows can be merged with it.
"""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import DataError, MissingExtraError, UnknownNameError
from ..file_names import csv_cell, path_to_text
from ..files import os_error_reason, write_atomic
from .shots import LabeledShots

SHOT_FORMATS = ("csv", "json", "jsonl", "parquet")


def write_shots(videos: Iterable[LabeledShots], path: str | Path, *, format: str = "csv") -> Path:
    """Writes shots, one row per shot.

    Columns: `id` (a UUID that follows from the path and the span, as NeMo Curator makes it),
    `source_video`, `shot` (number in the video), `start_seconds`, `end_seconds`, `start_frame`,
    `end_frame` (one past the last), `label`, `score`, `model`, `fps`, `width`, `height`, and
    `scores` by label (in CSV one column `score_LABEL` each). JSON and Parquet also have
    `duration_span`, [start, end] in seconds.

    Args:
        videos: The shots.
        path: The file.
        format: "csv", "json", "jsonl" or "parquet".

    Raises:
        UnknownNameError: Unknown format.
        MissingExtraError: pyarrow is not installed.
        DataError: The file cannot be written, or in CSV and Parquet the models have different
            labels.
    """
    if format not in SHOT_FORMATS:
        raise UnknownNameError("format of shots", format, SHOT_FORMATS)
    rows = [row for video in videos for row in shot_rows(video)]
    if format == "json":
        data = (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode("utf-8")
    elif format == "jsonl":
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")
    elif format == "csv":
        data = _csv(rows).encode("utf-8")
    else:
        data = _parquet(rows)
    try:
        write_atomic(Path(path), data)
    except OSError as error:
        raise DataError(f"Cannot write {str(path)!r} ({os_error_reason(error)}).") from error
    return Path(path)


def shot_rows(video: LabeledShots) -> list[dict[str, Any]]:
    """Returns the shots of a video as JSON data, one object per shot.

    Args:
        video: The shots.
    """
    name = path_to_text(video.source)
    rows = []
    for number, shot in enumerate(video.shots):
        label, score = video.top(number)
        start, end = round(shot.start_seconds, 6), round(shot.end_seconds, 6)
        scores = {
            one: round(float(value), 6)
            for one, value in zip(video.labels, video.scores[number], strict=True)
        }
        rows.append(
            {
                "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{name}_{start}_{end}")),
                "source_video": name,
                "shot": number,
                "start_seconds": start,
                "end_seconds": end,
                "duration_span": [start, end],
                "start_frame": shot.start_frame,
                "end_frame": shot.end_frame,
                "label": label,
                "score": round(score, 6),
                "model": path_to_text(video.model),
                "fps": video.fps,
                "width": video.width,
                "height": video.height,
                "scores": scores,
            }
        )
    return rows


def _csv(rows: list[dict[str, Any]]) -> str:
    columns = [key for key in (rows[0] if rows else {}) if key not in ("duration_span", "scores")]
    labels = list(rows[0]["scores"]) if rows else []
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *(csv_cell(f"score_{label}") for label in labels)])
    for row in rows:
        _require_labels(row, labels)
        cells = [csv_cell(v) if isinstance(v, str) else v for v in (row[key] for key in columns)]
        writer.writerow([*cells, *row["scores"].values()])
    return text.getvalue()


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "features", "Writing Parquet files") from error
    for row in rows:
        _require_labels(row, list(rows[0]["scores"]))
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def _require_labels(row: dict[str, Any], labels: list[str]) -> None:
    if list(row["scores"]) != labels:
        raise DataError(
            f"The shots of {row['source_video']!r} have other labels than those before, so they "
            "cannot be in one table; write them to different files, or as json or jsonl."
        )
