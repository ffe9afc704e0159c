"""Reads class names from text, JSON and CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import DataError
from ..files import read_text_file, require_path
from ..strict_json import parse_json

ID_COLUMNS = ("id", "index", "label_id", "class_id", "class_index", "label_index", "number")
NAME_COLUMNS = ("name", "label", "class", "label_name", "class_name", "display_name", "template")


_MAX_BYTES = 2**24


def read_labels(path: str | Path, num_classes: int | None) -> tuple[str, ...]:
    """Reads the labels of a UTF-8 file.

    Formats by suffix:
        .json: A list of names, the Something-Something file (name -> id), or id2label
            (id -> name).
        .csv: With a header, a column of names (`name`, `label`, ...) and optionally of ids (`id`,
            `index`, ...); without a header, ids and names, or names only.
        Others: One label per line; trailing blank lines are ignored.

    Args:
        path: The file.
        num_classes: The expected number of labels; None accepts any.

    Returns:
        The labels in class order.

    Raises:
        ConfigError: The path is an empty string.
        DataError: The file cannot be read, or the number of labels differs.
    """
    require_path(path, "label file")
    path = Path(path)
    text = read_text_file(path, max_bytes=_MAX_BYTES, what="label file")
    if "\0" in text:
        raise DataError(f"The label file {str(path)!r} contains NUL bytes, so it is not text.")
    kind, counted = path.suffix.lower(), "labels"
    if kind == ".json":
        labels = _from_json(path, text)
    elif kind == ".csv":
        labels = _from_csv(path, text)
    else:
        labels = tuple(line.strip() for line in text.rstrip().splitlines())
        counted = "lines"
    if num_classes is not None and len(labels) != num_classes:
        raise DataError(
            f"The label file {str(path)!r} has {len(labels)} {counted}, but the model has "
            f"{num_classes} classes; give one label per class, in class order."
        )
    return labels


def _from_json(path: Path, text: str) -> tuple[str, ...]:
    try:
        data = parse_json(text)
    except ValueError as error:
        raise DataError(f"The label file {str(path)!r} is not JSON: {error}.") from error
    if isinstance(data, dict) and isinstance(data.get("id2label"), dict):
        data = data["id2label"]  # the config.json of a saved model
    if isinstance(data, list) and all(isinstance(name, str) for name in data):
        return tuple(data)
    if isinstance(data, dict) and all(isinstance(v, (str, int)) for v in data.values()):
        pairs = [(str(key), str(value)) for key, value in data.items()]
        if not all(_is_number(key) for key, _ in pairs):
            pairs = [(value, key) for key, value in pairs]
        return _in_order(path, pairs)
    raise DataError(
        f"The label file {str(path)!r} is not a JSON label map; it must be a list of names, "
        'or an object of names and ids such as {"Opening something": "46"}.'
    )


def _from_csv(path: Path, text: str) -> tuple[str, ...]:
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        lines = [line for line in csv.reader(text.splitlines(), delimiter=delimiter) if any(line)]
    except csv.Error as error:
        raise DataError(f"The label file {str(path)!r} is not CSV: {error}.") from error
    rows = [[cell.strip() for cell in line] for line in lines]
    heading = [cell.lower() for cell in rows[0]] if rows else []
    name_at, id_at = _column(heading, NAME_COLUMNS), _column(heading, ID_COLUMNS)
    if name_at is not None:
        rows = rows[1:]
    elif rows and len(rows[0]) == 2 and _is_number(rows[0][0]):
        name_at, id_at = 1, 0
    elif all(len(row) == 1 for row in rows):
        name_at, id_at = 0, None
    else:
        raise DataError(
            f"The label file {str(path)!r} has columns {', '.join(heading)}; one must be named "
            f"{' or '.join(NAME_COLUMNS[:3])}, and one may be named {' or '.join(ID_COLUMNS[:3])}."
        )
    widest = max(name_at, -1 if id_at is None else id_at)
    for number, row in enumerate(rows, start=1):
        if len(row) <= widest:
            raise DataError(
                f"Row {number} of the label file {str(path)!r} has {len(row)} columns, but must "
                f"have {widest + 1}: {row}."
            )
    if id_at is None:
        return tuple(row[name_at] for row in rows)
    return _in_order(path, ((row[id_at], row[name_at]) for row in rows))


def _column(heading: Sequence[str], names: Sequence[str]) -> int | None:
    return next((heading.index(name) for name in names if name in heading), None)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _in_order(path: Path, pairs: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Sorts names by id; ids must run from 0 without gaps."""
    names: dict[int, str] = {}
    for number, name in pairs:
        if not _is_number(number):
            raise DataError(
                f"The label file {str(path)!r} assigns {name!r} the id {number!r}, but an id must "
                "be an integer."
            )
        if int(number) in names:
            raise DataError(
                f"The label file {str(path)!r} assigns the id {number} twice, to "
                f"{names[int(number)]!r} and to {name!r}."
            )
        names[int(number)] = name
    if names and (min(names), max(names)) != (0, len(names) - 1):
        raise DataError(
            f"The {len(names)} ids of the label file {str(path)!r} run from {min(names)} to "
            f"{max(names)}, but must run from 0 to {len(names) - 1} without gaps."
        )
    return tuple(names[number] for number in range(len(names)))
