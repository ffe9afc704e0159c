"""Text lists: one clip per line, followed by its labels.

    list        relative/path label                label: a number or a name
    multilabel  relative/path label label ...      (or label,label,...; may be empty)
    frames      relative/folder num_frames label

Fields are split from the right, so paths may contain spaces. If a path ends with a video suffix,
everything after it is the label, so class names may contain spaces, too. If no line has a label
(as in the UCF-101 test lists), the parent folder is the class. -1 means unknown.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import DataError
from ..video.discovery import video_suffixes

_NUMBERS = re.compile(r"-?[0-9]+(?:[\s,;]+-?[0-9]+)*$")


@dataclass(frozen=True, slots=True)
class Entry:
    """One clip as written in the annotation; labels are names or numbers, as text."""

    path: str
    labels: tuple[str, ...]
    num_frames: int | None = None


def read_text(path: Path) -> str:
    """Reads the UTF-8 text of an annotation file. Raises DataError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read the list {str(path)!r}: {error}.") from error


def list_lines(text: str) -> list[tuple[int, str]]:
    """Returns (line number, line) for every line that is not blank."""
    lines = (line.strip() for line in text.split("\n"))
    return [(number, line) for number, line in enumerate(lines, start=1) if line]


def recognize_list(lines: list[tuple[int, str]]) -> str:
    """Detects "list", "multilabel" or "frames"; ambiguous lines are a "list"."""
    counts, are_videos = set(), True
    for _, line in lines:
        matched = _video_line().match(line)
        are_videos = are_videos and matched is not None
        tail = (matched[2] or "") if matched else _trailing_numbers(line)
        counts.add(len(re.split(r"[\s,;]+", tail)) if _NUMBERS.match(tail) else 0)
    if not are_videos:
        return "frames" if counts == {2} else "list"
    return "multilabel" if max(counts, default=0) > 1 else "list"


def read_list(
    path: Path, lines: list[tuple[int, str]], kind: str, delimiter: str | None
) -> list[Entry]:
    """Parses a list of the given kind. Raises DataError with the number of an invalid line."""
    entries = []
    for number, line in lines:
        try:
            entries.append(_entry(line, kind, delimiter))
        except ValueError as error:
            raise DataError(f"Line {number} of {str(path)!r} is {line!r}: {error}.") from None
    without = sum(not entry.labels for entry in entries)
    if kind == "list" and without == len(entries):
        return [_with_folder_as_label(path, entry) for entry in entries]
    return entries


def _entry(line: str, kind: str, delimiter: str | None) -> Entry:
    if kind == "frames":
        parts = line.rsplit(delimiter, 2)
        if len(parts) != 3 or not parts[1].strip().isdecimal():
            raise ValueError("it must be a folder, a number of frames and a label")
        return Entry(_unquoted(parts[0]), _label(parts[2]), int(parts[1]))
    path, tail = _split_path(line, kind, delimiter)
    if not path:
        raise ValueError("it has no path; a line must be a path and a label")
    if kind == "multilabel":
        parts = re.split(r"[\s,;]+" if delimiter in (None, " ") else r"[,;|]", tail)
        labels = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
        return Entry(path, tuple(label for label in labels if label != "-1"))
    return Entry(path, _label(tail))


def _split_path(line: str, kind: str, delimiter: str | None) -> tuple[str, str]:
    if delimiter is not None and kind == "list":
        path, found, tail = line.rpartition(delimiter)
        return (_unquoted(path), tail) if found else (_unquoted(line), "")
    if matched := _video_line().match(line):
        return _unquoted(matched[1]), (matched[2] or "").strip(delimiter)
    if kind == "multilabel":
        tail = _trailing_numbers(line)
        return _unquoted(line[: len(line) - len(tail)].rstrip(" \t,;|")), tail
    path, _, tail = line.rpartition(" ") if " " in line else line.rpartition("\t")
    return (_unquoted(path), tail) if path else (_unquoted(line), "")


@functools.cache
def _video_line() -> re.Pattern[str]:
    """The path up to its last video suffix that is followed by a separator or the line's end."""
    suffixes = sorted(video_suffixes(), key=len, reverse=True)
    any_suffix = "|".join(re.escape(suffix) for suffix in suffixes)
    return re.compile(rf"(.*(?:{any_suffix}))\"?(?:[\s,;|]+(.*))?$", re.IGNORECASE)


def _trailing_numbers(line: str) -> str:
    found = re.search(r"(?<=[\s,;])-?[0-9]+(?:[\s,;]+-?[0-9]+)*$", line)
    return found[0] if found else ""


def _label(text: str) -> tuple[str, ...]:
    text = _unquoted(text)
    return () if text in ("", "-1") else (text,)


def _unquoted(text: str) -> str:
    text = text.strip()
    return text.strip('"') if text.startswith('"') else text


def _with_folder_as_label(path: Path, entry: Entry) -> Entry:
    folder = PurePosixPath(entry.path.replace("\\", "/")).parent.name
    if not folder:
        raise DataError(
            f"The list {str(path)!r} has no labels, and {entry.path!r} has no parent folder "
            "to take the class from; every line must be a path and a label."
        )
    return Entry(entry.path, (folder,), entry.num_frames)
