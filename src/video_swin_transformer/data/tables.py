"""Annotations in published CSV and JSON formats.

kinetics   CSV with the columns label, youtube_id, time_start, time_end, split; the files are
           named youtube_id_000010_000020.mp4 (seconds, six digits) or any other suffix,
           in one folder per class or in a single folder
sthv2      JSON: a list of {"id", "template"}; the files are named <id>.webm or <id>.mp4
mmaction   JSON: a list of {"filename" or "frame_dir", "total_frames", "label": 3 or [3, 7]}
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import DataError
from .lists import Entry, read_text

_KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end")


def read_json(path: Path) -> list[dict[str, Any]]:
    """Reads a JSON list of objects. Raises DataError."""
    try:
        data = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"The list {str(path)!r} is not JSON: {error}.") from error
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise DataError(
            f"{str(path)!r} is not a JSON annotation; it must be a list of objects such as "
            '{"id": "78687", "template": "Holding [something]"} or {"filename": ..., "label": ...}.'
        )
    return data


def recognize_json(rows: list[dict[str, Any]]) -> str | None:
    """Detects "sthv2" or "mmaction"; None if neither."""
    keys = set(rows[0]) if rows else set()
    if keys & {"filename", "frame_dir"}:
        return "mmaction"
    return "sthv2" if "id" in keys else None


def is_kinetics(text: str) -> bool:
    """Returns whether the first line is the header of a Kinetics list."""
    heading = [cell.strip().lower() for cell in text.partition("\n")[0].split(",")]
    return "youtube_id" in heading


def kinetics_splits(rows: Iterable[dict[str, str]]) -> list[str]:
    """Returns the distinct splits of the rows."""
    return list(dict.fromkeys(row["split"] for row in rows if row.get("split")))


def read_kinetics_rows(path: Path) -> list[dict[str, str]]:
    """Reads the rows of a Kinetics list, with stripped cells. Raises DataError."""
    try:
        table = csv.reader(read_text(path).splitlines())
        lines = [[cell.strip() for cell in line] for line in table if any(line)]
    except csv.Error as error:
        raise DataError(f"The list {str(path)!r} is not CSV: {error}.") from error
    heading = [cell.lower() for cell in lines[0]] if lines else []
    missing = [name for name in _KINETICS_COLUMNS[1:] if name not in heading]
    if missing:
        raise DataError(
            f"The list {str(path)!r} has no column {missing[0]!r}; a Kinetics list has the "
            f"columns {', '.join(_KINETICS_COLUMNS)} and, optionally, split."
        )
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        row = dict(zip(heading, line, strict=False))
        if not all(row.get(name, "").split(".")[0].isdecimal() for name in _KINETICS_COLUMNS[2:]):
            raise DataError(
                f"Row {number} of {str(path)!r} has time_start {row.get('time_start')!r} and "
                f"time_end {row.get('time_end')!r}, but they must be whole seconds."
            )
        rows.append(row)
    return rows


def kinetics_entries(rows: Iterable[dict[str, str]], split: str | None) -> list[Entry]:
    """Returns the entries of one split, or of all rows if None. Test lists have no labels."""
    entries = []
    for row in rows:
        if split is not None and row.get("split") != split:
            continue
        start, end = (int(row[name].split(".")[0]) for name in ("time_start", "time_end"))
        name = f"{row['youtube_id']}_{start:06d}_{end:06d}.mp4"
        label = row.get("label", "")
        entries.append(Entry(f"{label}/{name}" if label else name, (label,) if label else ()))
    return entries


def sthv2_entries(path: Path, rows: list[dict[str, Any]]) -> list[Entry]:
    """Returns entries labeled by `template` without its brackets. Test lists have no labels."""
    entries = []
    for number, row in enumerate(rows):
        if "id" not in row:
            raise DataError(f"Object {number} of {str(path)!r} has no 'id', which names the file.")
        template = str(row.get("template", "")).replace("[", "").replace("]", "")
        entries.append(Entry(f"{row['id']}.webm", (template,) if template else ()))
    return entries


def mmaction_entries(path: Path, rows: list[dict[str, Any]]) -> tuple[list[Entry], bool]:
    """Returns the entries and whether any clip has several labels."""
    entries, is_multilabel = [], False
    for number, row in enumerate(rows):
        name = row.get("filename", row.get("frame_dir"))
        if not isinstance(name, str) or not name:
            raise DataError(
                f"Object {number} of {str(path)!r} has neither 'filename' nor 'frame_dir'."
            )
        given = row.get("label", [])
        labels = given if isinstance(given, list) else [given]
        is_multilabel = is_multilabel or len(labels) > 1
        total = row.get("total_frames")
        texts = tuple(str(label) for label in labels if label != -1)
        entries.append(Entry(name, texts, total if isinstance(total, int) else None))
    return entries, is_multilabel
