"""Annotations in published CSV and JSON formats.

kinetics   CSV with the columns label, youtube_id, time_start, time_end, split; the files are
           named youtube_id_000010_000020.mp4 (seconds, six digits) or any other suffix,
           in one folder per class or in a single folder
sthv2      JSON: a list of {"id", "template"}; the files are named <id>.webm or <id>.mp4
mmaction   JSON: a list of {"filename" or "frame_dir", "total_frames", "label": 3 or [3, 7]}
json       JSON or JSON Lines: objects with a path and a label, under the usual names
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..strict_json import parse_json
from .columns import (
    COUNTS,
    ENDS,
    LABELS,
    PATHS,
    SCORES,
    SPLITS,
    STARTS,
    first_key,
    seconds_of,
    unread_span_keys,
)
from .lists import Entry, read_text

JSON_LINES_SUFFIXES = (".jsonl", ".ndjson", ".jsonlines")
_KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end")


def read_json(path: Path) -> list[dict[str, Any]]:
    """Reads the objects of a JSON or JSON Lines file.

    Args:
        path: A list of objects, an object with such a list (as in mmaction2 1.x: "data_list"), an
            object of labels by path, or one object per line.

    Raises:
        DataError: The file cannot be read, or is something else.
    """
    text = read_text(path)
    try:
        data = parse_json(text)
    except ValueError as error:
        if path.suffix.lower() not in JSON_LINES_SUFFIXES and not is_json_lines(text):
            raise DataError(f"The list {str(path)!r} is not JSON: {error}.") from error
        data = _json_lines(path, text)
    if isinstance(data, dict):
        data = _rows_of_object(path, data)
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise DataError(
            f"{str(path)!r} is not a JSON annotation; it must be a list of objects such as "
            '{"path": "a.mp4", "label": 3}, or one such object per line.'
        )
    return data


def is_json(text: str) -> bool:
    """Returns whether a text begins like a list of JSON objects, or like a JSON object.

    Args:
        text: Text of a file.
    """
    return re.match(r'\s*(?:\[\s*\{|\{\s*")', text) is not None


def is_json_lines(text: str) -> bool:
    """Returns whether the first line that is not blank is a JSON object.

    Args:
        text: Text of a file.
    """
    first = text.lstrip("\ufeff \r\n\t").partition("\n")[0]
    try:
        return first.startswith("{") and isinstance(parse_json(first), dict)
    except ValueError:
        return False


def _json_lines(path: Path, text: str) -> list[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith(("#", "//")):
            continue
        try:
            rows.append(parse_json(line))
        except ValueError as error:
            raise DataError(f"Line {number} of {str(path)!r} is not JSON: {error}.") from error
        if not isinstance(rows[-1], dict):
            raise DataError(
                f"Line {number} of {str(path)!r} is {line.strip()[:80]!r}, but must be an object "
                'such as {"path": "a.mp4", "label": 3}.'
            )
    return rows


def _rows_of_object(path: Path, data: dict[str, Any]) -> list[Any]:
    """The rows of {"data_list": [{...}]}, or of {"a.mp4": label}; one row is one object."""
    lists = [key for key, value in data.items() if isinstance(value, list) and _are_objects(value)]
    if len(lists) == 1:
        rows: list[Any] = data[lists[0]]
        return rows
    if first_key(data, (*PATHS, *LABELS)) is not None:
        return [data]  # a single line of JSON Lines
    labels = list(data.values())
    if labels and all(_is_label(label) for label in labels):
        return [{"path": key, "label": label} for key, label in data.items()]
    raise DataError(
        f"{str(path)!r} is a JSON object with the keys {', '.join(list(data)[:6])}; it must be a "
        'list of objects such as {"path": "a.mp4", "label": 3}, or an object of labels by path.'
    )


def _are_objects(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, dict) for value in values)


def _is_label(value: Any) -> bool:
    labels = value if isinstance(value, list) else [value]
    return all(isinstance(label, str | int) for label in labels)


def recognize_json(rows: list[dict[str, Any]]) -> str | None:
    """Detects "sthv2", "mmaction" or "json"; None if the rows have no key for the path.

    Args:
        rows: The objects.
    """
    keys = set(rows[0]) if rows else set()
    if keys & {"filename", "frame_dir"}:
        return "mmaction"
    if first_key(rows[0] if rows else {}, PATHS) is not None:
        return "json"
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
        table = csv.reader(io.StringIO(read_text(path), newline=""))
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
    for number, row in enumerate(rows, start=2):
        if split is not None and row.get("split") != split:
            continue
        start, end = (int(row[name].split(".")[0]) for name in ("time_start", "time_end"))
        name = f"{row['youtube_id']}_{start:06d}_{end:06d}.mp4"
        label = row.get("label", "")
        entries.append(
            Entry(
                f"{label}/{name}" if label else name,
                (label,) if label else (),
                place=f"row {number}",
            )
        )
    return entries


def sthv2_entries(path: Path, rows: list[dict[str, Any]]) -> list[Entry]:
    """Returns entries labeled by `template` without its brackets. Test lists have no labels."""
    entries = []
    for number, row in enumerate(rows):
        if "id" not in row:
            raise DataError(f"Object {number} of {str(path)!r} has no 'id', which names the file.")
        template = str(row.get("template", "")).replace("[", "").replace("]", "")
        entries.append(
            Entry(f"{row['id']}.webm", (template,) if template else (), place=f"object {number}")
        )
    return entries


def object_entries(path: Path, rows: list[dict[str, Any]]) -> tuple[list[Entry], bool]:
    """Returns the entries of objects with a path and a label, also those of mmaction2.

    Args:
        path: The file.
        rows: The objects.

    Returns:
        The entries, and whether any clip has several labels.

    Raises:
        DataError: An object has no path, limits a segment, or its label is not one.
    """
    entries, is_multilabel = [], False
    for number, row in enumerate(rows):
        place = f"object {number}"
        key, count_key = first_key(row, PATHS), first_key(row, COUNTS)
        name = None if key is None else row[key]
        if not isinstance(name, str) or not name:
            raise DataError(
                f"Object {number} of {str(path)!r} has no path ('filename', 'frame_dir', 'path' or "
                f"'video'); its keys are {', '.join(map(str, row))}."
            )
        start, end = _span_of(path, number, row)
        label_key = first_key(row, LABELS)
        given = None if label_key is None else row[label_key]
        labels = given if isinstance(given, list) else [given]
        if len(labels) > 2 and set(labels) <= {0, 1} and len(set(labels)) < len(labels):
            raise DataError(
                f"The label of object {number} of {str(path)!r} is {given}, which looks like one "
                "number per class; it must be the list of the clip's classes."
            )
        is_multilabel = is_multilabel or len(labels) > 1
        total = None if count_key is None else row[count_key]
        split_key = first_key(row, SPLITS)
        entries.append(
            Entry(
                name,
                tuple(_label_text(path, number, label) for label in labels if _is_known(label)),
                # -1 means unknown in mmaction2's lists of videos.
                total if isinstance(total, int) and total > 0 else None,
                place,
                None if split_key is None else str(row[split_key]),
                start,
                end,
                _score_of(row),
            )
        )
    return entries, is_multilabel


def _span_of(path: Path, number: int, row: dict[str, Any]) -> tuple[float | None, float | None]:
    """The start and end in seconds of an object, from its keys or "segment": [start, end]."""
    start_key, end_key = first_key(row, STARTS), first_key(row, ENDS)
    start = None if start_key is None else row[start_key]
    end = None if end_key is None else row[end_key]
    pair = row.get("segment")
    if isinstance(pair, list) and len(pair) == 2:
        start, end = pair
    elif pair is not None:
        raise DataError(
            f"Object {number} of {str(path)!r} has the segment {pair!r}, but it must be [start, "
            "end] in seconds."
        )
    unread = [key for key in unread_span_keys(row) if row[key] is not None]
    if (start is None) != (end is None) or (start is None and unread):
        keys = [key for key in (start_key, end_key) if key is not None] or unread
        raise DataError(
            f"Object {number} of {str(path)!r} has the keys {', '.join(keys)}; segments of longer "
            'videos need start and end in seconds, such as "start": 1.5, "end": 4.'
        )
    try:
        return (
            None if start is None else seconds_of(start),
            None if end is None else seconds_of(end),
        )
    except ValueError as error:
        raise DataError(f"The segment of object {number} of {str(path)!r}: {error}.") from None


def _score_of(row: dict[str, Any]) -> float | None:
    key = first_key(row, SCORES)
    value = None if key is None else row[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def _is_known(label: Any) -> bool:
    return label is not None and label != -1 and label != "-1" and label != ""


def _label_text(path: Path, number: int, label: Any) -> str:
    if isinstance(label, bool) or not isinstance(label, str | int | float):
        raise DataError(
            f"The label of object {number} of {str(path)!r} is {label!r}, but must be a number, a "
            "name or a list of them."
        )
    return str(label)
