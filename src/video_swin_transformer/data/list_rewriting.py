"""Lists whose paths can be replaced: everything else in them is kept.

Segments of annotation tools, which count frames at rates of their own, become ActivityNet JSON.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..strict_json import parse_json
from .columns import PATHS, first_key
from .lists import read_list, read_text
from .path_resolver import PathResolver
from .readers import read_segment_annotations
from .segment_formats import SEGMENT_FORMATS, recognize_segments
from .segment_writing import activitynet_text
from .tables import (
    JSON_LINES_SUFFIXES,
    is_json,
    is_kinetics,
    kinetics_entries,
    read_json,
    read_kinetics_rows,
    recognize_json,
    sthv2_entries,
)

_DELIMITERS = "\t,;|"


class PathList(ABC):
    """A list of videos.

    Attributes:
        files: The files by path as written; files that do not exist are included.
        suffix: Suffix of the rewritten list; None: the one it has.
    """

    files: Mapping[str, Path]
    suffix: str | None = None

    @abstractmethod
    def rewritten(self, new_paths: Mapping[str, str]) -> str:
        """Returns the list with other paths.

        Args:
            new_paths: The new paths by path as written; entries of other paths are left out.
        """


def read_path_list(
    source: Path, root: Path, format: str | None = None, delimiter: str | None = None
) -> PathList:
    """Reads which videos a list names.

    Args:
        source: The list, in any format of `read_annotations`, or a table of targets.
        root: Folder that paths are relative to.
        format: One of `FORMATS`. None detects it.
        delimiter: Separator of path and label in a text list.

    Raises:
        DataError: The list cannot be read, or it lists folders of frames.
    """
    text = read_text(source)
    resolver = PathResolver(root)
    is_object = format in ("sthv2", "mmaction", "json", *SEGMENT_FORMATS)
    suffix = source.suffix.lower()
    if is_object or (
        format is None and (suffix in (".json", *JSON_LINES_SUFFIXES) or is_json(text))
    ):
        if format in SEGMENT_FORMATS or (format is None and _is_segments(text)):
            return _SegmentPaths(source, root, format)
        return _ObjectPaths(source, resolver, format)
    if format == "kinetics" or (format is None and is_kinetics(text)):
        return _KineticsPaths(source, resolver)
    table = _read_table(source, text, delimiter) if format != "frames" else None
    if table is not None:
        return _TablePaths(table, resolver)
    return _LinePaths(source, text, resolver, format, delimiter)


def _is_segments(text: str) -> bool:
    try:
        return recognize_segments(parse_json(text)) is not None
    except ValueError:
        return False  # JSON Lines


def _files(written: Iterable[str], find: Callable[[str], tuple[Path, bool]]) -> dict[str, Path]:
    return {path: find(path)[0] for path in dict.fromkeys(written)}


def _frames_error(source: Path, written: str) -> DataError:
    return DataError(
        f"{str(source)!r} lists folders of frames, such as {written!r}, but only video files are "
        "prepared; give a list of video files."
    )


class _LinePaths(PathList):
    """Text lists: a path and labels per line."""

    def __init__(
        self,
        source: Path,
        text: str,
        resolver: PathResolver,
        format: str | None,
        delimiter: str | None,
    ) -> None:
        entries = read_list(source, format, delimiter).entries
        self._lines = text.split("\n")
        self._paths = {int(entry.place.removeprefix("line ")): entry.path for entry in entries}
        self.files = _files(self._paths.values(), resolver.find)
        for entry in entries:
            if entry.num_frames is not None and not self.files[entry.path].is_file():
                raise _frames_error(source, entry.path)
        for number, path in self._paths.items():
            if path not in self._lines[number - 1]:
                raise DataError(
                    f"The path {path!r} in line {number} of {str(source)!r} is written with "
                    "escapes, so it cannot be replaced; rename the file, or use a list with a "
                    "heading."
                )

    def rewritten(self, new_paths: Mapping[str, str]) -> str:
        lines = []
        for number, line in enumerate(self._lines, start=1):
            path = self._paths.get(number)
            if path is None:
                lines.append(line.rstrip("\r"))
            elif path in new_paths:
                lines.append(line.rstrip("\r").replace(path, new_paths[path], 1))
        return "\n".join(lines).rstrip("\n") + "\n"


@dataclass(frozen=True)
class _Table:
    """Rows of a table with a heading; the first row is the heading."""

    rows: list[list[str]]
    path_column: int
    delimiter: str


def _read_table(source: Path, text: str, delimiter: str | None) -> _Table | None:
    """The table of a list whose first line names a column of paths; None for other lists."""
    heading = text.lstrip("\ufeff").split("\n", 1)[0].lstrip("#")
    found = delimiter or next((char for char in _DELIMITERS if char in heading), None)
    if found is None or len(found) != 1 or (found.isspace() and found != "\t"):
        return None
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=found))
    except csv.Error as error:
        raise DataError(f"The list {str(source)!r} is not CSV: {error}.") from error
    names = {cell.strip().lstrip("#").lower(): at for at, cell in reversed([*enumerate(rows[0])])}
    key = first_key(names, PATHS)
    if key is None:
        return None
    column = names[key]
    body = [row for row in rows[1:] if len(row) > column and not row[0].lstrip().startswith("#")]
    return _Table([rows[0], *body], column, found)


class _TablePaths(PathList):
    """Tables with a heading, also of regressions."""

    def __init__(self, table: _Table, resolver: PathResolver) -> None:
        self._table = table
        self.files = _files((self._path(row) for row in table.rows[1:]), resolver.find)

    def _path(self, row: Sequence[str]) -> str:
        return row[self._table.path_column].strip()

    def rewritten(self, new_paths: Mapping[str, str]) -> str:
        column = self._table.path_column
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=self._table.delimiter, lineterminator="\n")
        writer.writerow(self._table.rows[0])
        for row in self._table.rows[1:]:
            if (path := self._path(row)) in new_paths:
                writer.writerow([*row[:column], new_paths[path], *row[column + 1 :]])
        return text.getvalue()


class _KineticsPaths(PathList):
    """Lists of Kinetics, whose files are found by name: only rows are left out."""

    def __init__(self, source: Path, resolver: PathResolver) -> None:
        self._rows = read_kinetics_rows(source)
        self._paths = [entry.path for entry in kinetics_entries(self._rows, None)]
        self.files = _files(self._paths, resolver.find_below)

    def rewritten(self, new_paths: Mapping[str, str]) -> str:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(self._rows[0]), lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(
            row for row, path in zip(self._rows, self._paths, strict=True) if path in new_paths
        )
        return text.getvalue()


class _ObjectPaths(PathList):
    """JSON and JSON Lines: objects with a path, or with an id that names the file."""

    def __init__(self, source: Path, resolver: PathResolver, format: str | None) -> None:
        self._rows = read_json(source)
        self._is_json_lines = source.suffix.lower() in JSON_LINES_SUFFIXES
        self._is_sthv2 = (format or recognize_json(self._rows)) == "sthv2"
        if self._is_sthv2:
            self._paths = [entry.path for entry in sthv2_entries(source, self._rows)]
            self.files = _files(self._paths, resolver.find_below)
            return
        self._paths = [_path_of(source, number, row) for number, row in enumerate(self._rows)]
        self.files = _files(self._paths, resolver.find)
        for path, file in self.files.items():
            if file.is_dir():
                raise _frames_error(source, path)

    def rewritten(self, new_paths: Mapping[str, str]) -> str:
        rows: list[dict[str, Any]] = []
        for row, path in zip(self._rows, self._paths, strict=True):
            if path not in new_paths:
                continue
            key = first_key(row, PATHS)
            changed = {} if self._is_sthv2 or key is None else {key: new_paths[path]}
            rows.append(row | changed)
        if self._is_json_lines:
            return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def _path_of(source: Path, number: int, row: Mapping[str, Any]) -> str:
    key = first_key(row, PATHS)
    path = None if key is None else row[key]
    if not isinstance(path, str) or not path:
        raise DataError(
            f"Object {number} of {str(source)!r} has no path; its keys are "
            f"{', '.join(map(str, row))}."
        )
    return path


class _SegmentPaths(PathList):
    """Segments of annotation tools and of ActivityNet."""

    suffix = ".json"

    def __init__(self, source: Path, root: Path, format: str | None) -> None:
        self._videos = read_segment_annotations(source, root=root, format=format)
        self.files = {video.video: Path(video.video) for video in self._videos}
        activitynet_text(self._videos)  # raises now rather than after the work

    def rewritten(self, new_paths: Mapping[str, str]) -> str:
        return activitynet_text(
            [
                dataclasses.replace(video, video=new_paths[video.video])
                for video in self._videos
                if video.video in new_paths
            ]
        )
