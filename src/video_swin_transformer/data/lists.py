"""Text lists: one clip per line, followed by its labels.

    list        relative/path label                label: a number or a name
    multilabel  relative/path label label ...      (or label,label,...; may be empty)
    frames      relative/folder num_frames label

Fields are split from the right, so paths may contain spaces. If a path ends with a video suffix,
everything after it is the label, so class names may contain spaces, too. If no line has a label
(as in the UCF-101 test lists), the parent folder is the class. -1 means unknown.

A heading names the columns, in any order. Blank lines and comments (#) are skipped. Lines that
have more than one meaning are rejected: "a.mp4 0 16 1" may be three labels, or start, end, label.
"""

from __future__ import annotations

import codecs
import csv
import functools
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ..errors import DataError
from ..files import read_file
from ..video.discovery import video_suffixes
from .columns import SEGMENTS_HINT, Columns, find_columns, seconds_of

_NUMBER = r"[+-]?[0-9]+(?:\.[0-9]+)?(?:(?::[0-9]+)+(?:\.[0-9]+)?)?"  # 3, 2.0, 1.5, 00:01:30.5
_SEPARATOR = r"[\s,;|]+"
_NUMBERS = re.compile(rf"{_NUMBER}(?:{_SEPARATOR}{_NUMBER})*$")
_LEADING_NUMBERS = re.compile(rf"((?:{_NUMBER}{_SEPARATOR})+)(?=\S)")
_DELIMITERS = "\t,;|"
_MAX_BYTES = 2**28
_MAX_LINE = 2**16  # characters; a path has at most 4,096
_MAX_INDEX = 2**53  # floats are exact integers up to here


@dataclass(frozen=True, slots=True)
class Entry:
    """One clip as written in the annotation.

    Attributes:
        path: The path as written.
        labels: Names or numbers, as text.
        num_frames: Number of frames, if given.
        place: Where it is in the file, such as "line 3"; empty for folders.
        split: The split, if the file has a column of splits.
        start: Where its segment of the video begins, in seconds; None: the whole video.
        end: Where its segment ends, in seconds.
        score: Its score, in a list of predictions.
    """

    path: str
    labels: tuple[str, ...]
    num_frames: int | None = None
    place: str = ""
    split: str | None = None
    start: float | None = None
    end: float | None = None
    score: float | None = None


@dataclass(frozen=True)
class TextList:
    """A parsed text list.

    Attributes:
        kind: "list", "multilabel" or "frames".
        entries: The clips.
        notes: Messages for the user.
    """

    kind: str
    entries: list[Entry]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Lines:
    """The lines that list clips, as (line number, text), and the columns of the heading."""

    clips: list[tuple[int, str]]
    columns: Columns | None
    delimiter: str | None
    notes: tuple[str, ...]


def read_text(path: Path) -> str:
    """Reads an annotation file.

    UTF-8 and, with a byte order mark, UTF-16. Lines that are not UTF-8 are read as Windows-1252, a
    superset of Latin-1.

    Args:
        path: The file.

    Raises:
        DataError: The file cannot be read, or is not text.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[str, bool]:
    """Returns the text and whether it is Unicode."""
    data = read_file(path, max_bytes=_MAX_BYTES, what="list")
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            text, is_unicode = data.decode("utf-16"), True
        else:
            lines = data.removeprefix(codecs.BOM_UTF8).split(b"\n")
            decoded = [_decode_line(line) for line in lines]
            text = "\n".join(line for line, _ in decoded)
            is_unicode = all(is_utf8 for _, is_utf8 in decoded)
    except UnicodeDecodeError as error:
        raise DataError(f"Cannot read the list {str(path)!r}: {error}.") from error
    if "\0" in text:
        raise DataError(
            f"Cannot read the list {str(path)!r}: it contains NUL bytes, so it is not a text file; "
            "save it as UTF-8."
        )
    if "\n" not in text:
        text = text.replace("\r", "\n")
    return text, is_unicode


def _decode_line(line: bytes) -> tuple[str, bool]:
    for encoding in ("utf-8", "cp1252"):
        try:
            return line.decode(encoding), encoding == "utf-8"
        except UnicodeDecodeError:
            continue
    return line.decode("latin-1"), False


def read_list(path: Path, format: str | None, delimiter: str | None) -> TextList:
    """Reads a text list.

    Args:
        path: The file.
        format: "list", "multilabel" or "frames"; None detects it.
        delimiter: Separator of path and label; None: whitespace, or as in the heading.

    Returns:
        The clips.

    Raises:
        DataError: The file cannot be read, a line is invalid (with its number), or the lines have
            more than one meaning.
    """
    text, is_unicode = _read(path)
    delimiter = delimiter or None
    lines = _find_lines(path, text, delimiter)
    if lines.columns is not None:
        parsed = _read_table(path, lines, lines.columns, format)
    else:
        kind = format or _recognize(path, lines.clips)
        delimiter = delimiter or _common_delimiter(lines.clips, kind)
        parsed = TextList(kind, _read_plain(path, lines.clips, kind, delimiter))
    notes = list(lines.notes)
    if not is_unicode:
        notes.append(f"{str(path)!r} is not UTF-8; it was read as Windows-1252 (Latin-1).")
    return replace(parsed, notes=tuple(notes))


def list_splits(path: Path, format: str | None) -> list[str]:
    """Returns the distinct values of the split column; empty if there is none.

    Args:
        path: The file.
        format: See `read_list`.

    Raises:
        DataError: See `read_list`.
    """
    lines = _find_lines(path, read_text(path), None)
    if lines.columns is None or lines.columns.split is None:
        return []
    entries = read_list(path, format, None).entries
    return list(dict.fromkeys(entry.split for entry in entries if entry.split))


def class_index(label: str) -> int | None:
    """Returns the class index of a label such as 2, 2.0 or 2.0e+00; None if it is not an integer.

    Args:
        label: The label as written.
    """
    if not is_float(label):
        return None
    value = float(label)
    return int(value) if value.is_integer() and abs(value) < _MAX_INDEX else None


def is_float(label: str) -> bool:
    """Returns whether a label is a number, also a fraction.

    Args:
        label: The label as written.
    """
    return re.fullmatch(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", label) is not None


# --- lines --------------------------------------------------------------------------------------


def _find_lines(path: Path, text: str, delimiter: str | None) -> _Lines:
    clips: list[tuple[int, str]] = []
    columns, notes, comments = None, [], []
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip(" \r\t\f\v\ufeff")
        if not stripped:
            continue
        if len(stripped) > _MAX_LINE:
            raise DataError(
                f"Line {number} of {str(path)!r} has {len(stripped)} characters, but at most "
                f"{_MAX_LINE} are read; a line is one clip and its labels."
            )
        if columns is None and not clips:
            columns, found = _heading(stripped.lstrip("#"), delimiter)
            if columns is not None and columns.label is None and stripped.startswith("#"):
                columns = None  # a title such as "# videos"
            if columns is not None:
                delimiter = found
                notes.append(f"Line {number} is a heading: {', '.join(columns.names)}.")
                continue
        if stripped.startswith("#"):
            comments.append(number)
        else:
            clips.append((number, stripped))
    if comments:
        lines = f"{len(comments)} lines" if len(comments) > 1 else f"Line {comments[0]}"
        verb = "are comments and were" if len(comments) > 1 else "is a comment and was"
        notes.append(f"{lines} with # {verb} skipped.")
    if columns is None:
        clips = [(number, _without_empty_end(line)) for number, line in clips]
    return _Lines(clips, columns, delimiter, tuple(notes))


def _without_empty_end(line: str) -> str:
    """Removes empty columns, and a comment after the label of a video."""
    if " #" in line and (matched := _video_line().match(line)):
        tail = matched[2] or ""
        comment = re.search(r"(?<=[0-9.\])}])\s+#.*$", tail)
        line = line[: len(line) - len(tail) + comment.start()] if comment else line
    return line.rstrip(" \t,;|")


def _heading(line: str, delimiter: str | None) -> tuple[Columns | None, str | None]:
    """Returns the columns of a heading and its delimiter; (None, delimiter) for other lines."""
    found = delimiter or next((char for char in _DELIMITERS if char in line), None)
    if found is not None and found.isspace() and found != "\t":
        found = None
    cells = line.split() if found is None else [cell.strip() for cell in line.split(found)]
    return find_columns(cells, is_prose=found is None), found


def _common_delimiter(lines: list[tuple[int, str]], kind: str) -> str | None:
    """Returns the delimiter that splits every line into path and label; None for whitespace."""
    if kind == "multilabel" or not lines:
        return None
    num_fields = 2 if kind == "frames" else 1
    if all(line.count("\t") >= num_fields for _, line in lines):
        return "\t"
    if any(_video_line().match(line) for _, line in lines):
        return None  # everything after the suffix is the label
    for char in ",;|":
        if all(re.search(rf"{re.escape(char)}\s*{_NUMBER}$", line) for _, line in lines):
            return char
    return None


# --- lists with a heading -------------------------------------------------------------------------


def _read_table(path: Path, lines: _Lines, columns: Columns, format: str | None) -> TextList:
    if columns.start is None and columns.end is None and columns.unread_spans:
        raise DataError(
            f"The list {str(path)!r} has the columns {', '.join(columns.unread_spans)}; "
            f"{SEGMENTS_HINT}."
        )
    if (columns.start is None) != (columns.end is None):
        known, missing = ("end", "start") if columns.start is None else ("start", "end")
        raise DataError(
            f"The list {str(path)!r} has a column of {known}s, but none of {missing}s; its columns "
            f"are {', '.join(columns.names)}, and {SEGMENTS_HINT}."
        )
    if format == "frames" and columns.count is None:
        raise DataError(
            f"The list {str(path)!r} has no column num_frames, but the format is frames; its "
            f"columns are {', '.join(columns.names)}."
        )
    rows: list[tuple[int, list[str]]] = []
    for number, line in lines.clips:
        try:
            rows.append((number, _cells(line, columns, lines.delimiter, format)))
        except ValueError as error:
            raise _line_error(path, number, line, error) from None
    entries = []
    is_multilabel = format == "multilabel" or (format is None and columns.has_many_labels)
    for number, cells in rows:
        labels = _label("" if columns.label is None else cells[columns.label])
        if labels and (is_multilabel or (format is None and _holds_several(labels[0]))):
            is_multilabel = True
            parts = re.split(_SEPARATOR, labels[0].strip("[](){} "))
            labels = _several_labels(parts)
        count = None if columns.count is None else cells[columns.count]
        num_frames = class_index(count) if count else None
        if count and (num_frames is None or num_frames < 1):
            problem = ValueError(f"its number of frames is {count!r}, but must be 1 or more")
            raise _line_error(path, number, ", ".join(cells), problem)
        try:
            start, end = (
                None if at is None or not cells[at] else seconds_of(cells[at])
                for at in (columns.start, columns.end)
            )
            if (start is None) != (end is None):
                raise ValueError("it has a start or an end, but not both")
            score = None if columns.score is None else _score(cells[columns.score])
        except ValueError as error:
            raise _line_error(path, number, ", ".join(cells), error) from None
        entries.append(
            Entry(
                cells[columns.path],
                labels,
                num_frames,
                f"line {number}",
                None if columns.split is None else cells[columns.split],
                start,
                end,
                score,
            )
        )
    kind = "frames" if columns.count is not None else "list"
    kind = format or ("multilabel" if is_multilabel else kind)
    if columns.label is None:
        entries = [_with_folder_as_label(path, entry) for entry in entries]
    return TextList(kind, entries)


def _cells(line: str, columns: Columns, delimiter: str | None, format: str | None) -> list[str]:
    num = len(columns.names)
    if delimiter is None:
        cells = _whitespace_cells(line, columns, format)
    else:
        cells = _split_cells(line, delimiter)
    may_repeat = columns.label == num - 1 and (columns.has_many_labels or format == "multilabel")
    if may_repeat and len(cells) >= num - 1:
        cells = [*cells[: num - 1], " ".join(cells[num - 1 :])]
    if len(cells) != num:
        raise ValueError(
            f"it has {len(cells)} columns, but the heading has {num}; put a value that contains "
            "the separator in double quotes"
        )
    if not cells[columns.path]:
        raise ValueError("it has no path")
    return [_unquoted(cell) for cell in cells]


def _split_cells(line: str, delimiter: str) -> list[str]:
    if len(delimiter) > 1:  # the csv module allows one character
        return [cell.strip() for cell in line.split(delimiter)]
    try:
        cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise ValueError(f"it is not CSV ({error})") from error
    return [cell.strip() for cell in cells]


def _whitespace_cells(line: str, columns: Columns, format: str | None) -> list[str]:
    num = len(columns.names)
    if columns.path == 0:
        matched = _video_line().match(line)
        if matched and (columns.label == num - 1 or num == 1):  # names may contain spaces
            tail = matched[2] or ""
            if num == 2:
                _require_one_label(tail.strip(), columns, format)
            return [matched[1], *(tail.split(None, num - 2) if num > 1 else tail.split())]
        return line.rsplit(None, num - 1)
    return line.split(None, num - 1) if columns.path == num - 1 else line.split()


def _require_one_label(tail: str, columns: Columns, format: str | None) -> None:
    """Raises ValueError for "0 16 1" and "0 16 jump" below a heading with a single label."""
    if columns.has_many_labels or format == "multilabel" or not re.search(r"\s", tail):
        return
    leading = _LEADING_NUMBERS.match(tail)
    num_leading = len(re.split(_SEPARATOR, leading[1].strip(" \t,;|"))) if leading else 0
    if _NUMBERS.match(tail) or num_leading > 1:
        raise ValueError(
            f"it has several numbers, but the heading has one column after {columns.names[0]}; "
            "call it labels if a clip has several, or name all columns"
        )


def _score(text: str) -> float | None:
    if text and not is_float(text):
        raise ValueError(f"its score is {text!r}, but must be a number")
    return float(text) if text else None


def _holds_several(label: str) -> bool:
    return bool(re.fullmatch(rf"[\[({{]?\s*{_NUMBER}(?:{_SEPARATOR}{_NUMBER})+\s*[\])}}]?", label))


# --- lists without a heading ----------------------------------------------------------------------


@functools.cache
def _video_line() -> re.Pattern[str]:
    """The path up to its last video suffix that is followed by a separator or the line's end."""
    suffixes = sorted(video_suffixes(), key=len, reverse=True)
    any_suffix = "|".join(re.escape(suffix) for suffix in suffixes)
    return re.compile(rf"(.*(?:{any_suffix}))\"?(?:[\s,;|]+(.*))?$", re.IGNORECASE)


def _recognize(path: Path, lines: list[tuple[int, str]]) -> str:
    """Detects "list", "multilabel" or "frames". Raises DataError for lines with two meanings."""
    matches = [_video_line().match(line) for _, line in lines]
    videos = [matched for matched in matches if matched is not None]
    tails = [
        (matched[2] or "").strip() if matched else _trailing_numbers(line)
        for matched, (_, line) in zip(matches, lines, strict=True)
    ]
    counts = {len(re.split(_SEPARATOR, tail)) if _NUMBERS.match(tail) else 0 for tail in tails}
    num_numbers = max(counts, default=0)
    if len(videos) < len(lines):
        if counts == {2} or (len(counts) > 1 and min(counts) >= 2 and not videos):
            return "frames"
        if len(counts) == 1 and num_numbers > 2 and not videos:
            raise _ambiguous(path, lines[0], num_numbers, "path")
        return "list"
    if num_numbers > 1:
        if counts == {num_numbers} and not all(_is_joined(found) for found in videos):
            raise _ambiguous(path, lines[0], num_numbers, "video")
        return "multilabel"
    _require_no_numbers_before_names(path, lines, tails)
    return "list"


def _is_joined(matched: re.Match[str]) -> bool:
    """Whether several labels are one field: "a.mp4 3,17" or "a.mp4,3 17"."""
    tail = (matched[2] or "").strip()
    rest = matched.string[matched.end(1) :].rstrip()
    outer = _separator_kind(rest[: len(rest) - len(tail)])
    return all(_separator_kind(inner) != outer for inner in re.findall(_SEPARATOR, tail))


def _separator_kind(text: str) -> str:
    """A comma, semicolon or bar, also with blanks around it; else a blank."""
    return next((char for char in text if char in ",;|"), " ")


def _ambiguous(path: Path, line: tuple[int, str], count: int, what: str) -> DataError:
    if count == 2:
        other = "a number of frames and a label (format='frames')"
    else:
        other = (
            "a start, an end and a label"
            if count == 3
            else "columns such as start and end beside the label"
        )
        other += f" ({SEGMENTS_HINT})"
    several = f"{count} labels of one clip (format='multilabel')"
    if what == "path":
        several = f"a path with spaces and one label (format='list'), or {several}"
    return DataError(
        f"Every line of {str(path)!r} has {count} numbers after the {what}, such as line "
        f"{line[0]}, {line[1]!r}. They may be {several}, or {other}. Name the "
        "columns in a heading such as 'path labels', or say what they are with format (--format)."
    )


def _require_no_numbers_before_names(
    path: Path, lines: list[tuple[int, str]], tails: list[str]
) -> None:
    """Rejects "a.mp4 0 16 jump" and "a.mp4 120 jump": the numbers are not part of the name."""
    numbers_of: dict[str, set[str]] = defaultdict(set)
    leading = []
    for tail in filter(None, tails):
        matched = _LEADING_NUMBERS.match(tail)
        if matched is None or _NUMBERS.match(tail):
            return
        leading.append(len(re.split(_SEPARATOR, matched[1].strip(" \t,;|"))))
        numbers_of[tail[matched.end() :]].add(matched[1])
    if min(leading, default=0) == 0:
        return
    # Frame counts are different for nearly every clip; "100 metres", "200 metres" are classes.
    are_many = 2 * len(set(tails)) > len(tails)
    is_count = (
        min(leading) == 1 and are_many and any(len(found) > 1 for found in numbers_of.values())
    )
    if min(leading) < 2 and not is_count:
        return  # a class such as "100 metres"
    number, line = lines[0]
    what = "the frames of the clip" if is_count else "a start and an end"
    todo = "give format='frames' (--format frames)" if is_count else SEGMENTS_HINT
    raise DataError(
        f"Line {number} of {str(path)!r} is {line!r}: the numbers before the label look like "
        f"{what}. If so, {todo}. If they belong to the names of the classes, give the label map "
        "with labels (--labels) and format='list' (--format list)."
    )


def _read_plain(
    path: Path, lines: list[tuple[int, str]], kind: str, delimiter: str | None
) -> list[Entry]:
    entries = []
    for number, line in lines:
        try:
            entries.append(replace(_entry(line, kind, delimiter), place=f"line {number}"))
        except ValueError as error:
            raise _line_error(path, number, line, error) from None
    without = sum(not entry.labels for entry in entries)
    if kind == "list" and without == len(entries):
        return [_with_folder_as_label(path, entry) for entry in entries]
    return entries


def _line_error(path: Path, number: int, line: str, error: ValueError) -> DataError:
    return DataError(f"Line {number} of {str(path)!r} is {line!r}: {error}.")


def _entry(line: str, kind: str, delimiter: str | None) -> Entry:
    if kind == "frames":
        parts = line.rsplit(delimiter, 2)
        num_frames = class_index(parts[1].strip()) if len(parts) == 3 else None
        if num_frames is None:
            raise ValueError("it must be a folder, a number of frames and a label")
        if num_frames < 1:
            raise ValueError(f"its number of frames is {num_frames}, but must be 1 or more")
        return Entry(_unquoted(parts[0]), _label(parts[2]), num_frames)
    path, tail = _split_path(line, kind, delimiter)
    if not path:
        raise ValueError("it has no path; a line must be a path and a label")
    if kind == "multilabel":
        parts = re.split(_SEPARATOR if delimiter in (None, " ") else r"[,;|]", tail)
        return Entry(path, _several_labels(parts))
    matched = _video_line().match(line)
    rest = (matched[2] or "").strip() if matched else ""
    if len(re.split(_SEPARATOR, rest)) > 1 and _NUMBERS.match(rest):
        raise ValueError(
            "it has several numbers after the path, but a list has one label per clip; give "
            f"format='multilabel' (--format multilabel) if they are labels; {SEGMENTS_HINT}"
        )
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


def _trailing_numbers(line: str) -> str:
    """The numbers at the end of a line, separated from what is before them."""
    start = len(line)
    for found in reversed(list(re.finditer(r"[^\s,;|]+", line))):
        if found.start() == 0 or not re.fullmatch(_NUMBER, found[0]):
            break
        start = found.start()
    return line[start:]


def _label(text: str) -> tuple[str, ...]:
    """The label without quotes; a number also without brackets."""
    plain = text.strip(" \t'\"[](){}")
    return _several_labels([plain if is_float(plain) else _unquoted(text)])


def _several_labels(parts: Iterable[str]) -> tuple[str, ...]:
    """Removes blanks, -1 (unknown) and repetitions."""
    labels = dict.fromkeys(part.strip() for part in parts)
    return tuple(label for label in labels if label and class_index(label) != -1)


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
    return replace(entry, labels=(folder,))
