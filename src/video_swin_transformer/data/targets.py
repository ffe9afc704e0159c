"""Reads lists of clips with numbers: the targets of a regression."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from .annotations import Annotations, ClipRecord, TimeRange
from .columns import ENDS, PATHS, SPLITS, STARTS, first_key, seconds_of
from .lists import read_text
from .path_resolver import PathResolver
from .tables import is_json, read_json

_DELIMITERS = (",", "\t", ";", "|")


def read_target_annotations(
    source: str | Path,
    targets: Sequence[str],
    *,
    root: str | Path | None = None,
    split: str | None = None,
) -> Annotations:
    """Reads clips and their numbers from a table with a heading, or from JSON objects.

    Args:
        source: A CSV file (separated by commas, tabs, semicolons or vertical bars), JSON or JSON
            Lines. Columns of paths, splits and times are found as in other lists.
        targets: Names of the columns or keys with the numbers.
        root: Folder that paths are relative to. None: the folder of the list.
        split: The split to read, from a list with a column of splits.

    Returns:
        The clips, in the order of the list. The classes are the names of the targets.

    Raises:
        DataError: The list cannot be read, a column is missing, or a value is not a finite number.
    """
    source = Path(source)
    if not source.is_file():
        raise DataError(
            f"{str(source)!r} is not a file; numbers are read from a list with a heading, such as "
            f"path,{','.join(targets)}."
        )
    resolver = PathResolver(source.parent if root is None else Path(root))
    items = []
    for place, row in _rows(source, targets):
        path_key, split_key = first_key(row, PATHS), first_key(row, SPLITS)
        if path_key is None:
            raise DataError(
                f"{place} of {str(source)!r} has no path; name its column path, video or similar."
            )
        if split is not None and split_key is not None and str(row[split_key]) != split:
            continue
        values = tuple(_number(row, name, place, source) for name in targets)
        path, _ = resolver.find(str(row[path_key]).strip())
        items.append(ClipRecord(str(path), (), None, _segment(row, place, source), values))
    if not items:
        which = "" if split is None else f" of the split {split!r}"
        raise DataError(f"{str(source)!r} contains no clips{which}; give a list with at least one.")
    return Annotations(str(source), "targets", tuple(items), tuple(targets), targets=tuple(targets))


def _rows(source: Path, targets: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    text = read_text(source)
    if is_json(text):
        for number, row in enumerate(read_json(source), start=1):
            yield f"Entry {number}", row
        return
    heading = text.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=heading.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    names = [name.strip() for name in reader.fieldnames or ()]
    missing = [name for name in targets if name not in names]
    if missing:
        raise DataError(
            f"The heading of {str(source)!r} has no column {missing[0]!r}; it has "
            f"{', '.join(names) or 'no columns'}. Name the columns with the numbers in targets."
        )
    reader.fieldnames = names
    for row in reader:
        if any(row.values()):
            yield f"Line {reader.line_num}", row


def _number(row: Mapping[str, Any], name: str, place: str, source: Path) -> float:
    value = row.get(name)
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise DataError(
            f"{place} of {str(source)!r} has the {name} {value!r}, which is not a finite number; "
            "correct it, or remove the line."
        )
    return number


def _segment(row: Mapping[str, Any], place: str, source: Path) -> TimeRange | None:
    start, end = first_key(row, STARTS), first_key(row, ENDS)
    if start is None or end is None:
        return None
    try:
        return TimeRange(seconds_of(row[start]), seconds_of(row[end]))
    except ValueError as error:
        raise DataError(f"{place} of {str(source)!r}: {error}.") from error
