"""Names of columns and keys in lists that people write: what each of them means."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# In order of preference, where a list has several of them.
PATHS = (
    "path", "video_path", "clip_path", "file_path", "filepath", "frame_path", "frame_dir",
    "frames_dir", "filename", "file_name", "file", "video_file", "video", "videos", "clip",
    "video_name", "clip_name", "folder", "name", "vid", "uri", "src",
)  # fmt: skip
LABELS = (
    "label", "labels", "label_id", "label_index", "label_idx", "class_id", "class_index",
    "class_idx", "category_id", "action_id", "target", "targets", "class", "classes", "category",
    "action", "label_name", "class_name", "y",
)  # fmt: skip
COUNTS = ("num_frames", "total_frames", "n_frames", "nframes", "frame_count", "frames", "count")
STARTS = (
    "start_seconds", "start_time", "start_sec", "start_s", "start_timestamp", "t_start",
    "time_start", "start", "begin", "onset", "from",
)  # fmt: skip
ENDS = (
    "end_seconds", "end_time", "end_sec", "end_s", "end_timestamp", "stop_timestamp", "t_end",
    "time_end", "stop_time", "end", "stop", "to",
)  # fmt: skip
FRAME_SPANS = ("start_frame", "start_index", "end_frame", "end_index", "stop_frame", "stop_index")
SCORES = ("score", "confidence")
SPLITS = ("split", "subset", "partition")
_MANY_LABELS = frozenset({"labels", "targets", "classes"})
_OTHERS = frozenset({"", "id", "index", "fps", "duration", "width", "height", "error"})
_KNOWN = frozenset(
    {*PATHS, *LABELS, *COUNTS, *STARTS, *ENDS, *FRAME_SPANS, *SCORES, *SPLITS, *_OTHERS}
)
_UNREAD_SPANS = frozenset({"segments", "timestamps", *FRAME_SPANS})

SEGMENTS_HINT = (
    "segments of longer videos need a heading and times in seconds, such as "
    "path,start_seconds,end_seconds,label"
)


@dataclass(frozen=True)
class Columns:
    """Positions (or keys) of the columns of a list; None if there is no such column.

    Attributes:
        names: All columns.
        path: The column of paths.
        label: The column of labels.
        count: The column of frame counts.
        split: The column of splits.
        start: The column of the times in seconds at which segments of the videos begin.
        end: The column of the times at which they end.
        score: The column of scores, in a list of predictions.
        unread_spans: The names of columns that limit a segment in frames.
    """

    names: tuple[str, ...]
    path: int
    label: int | None
    count: int | None
    split: int | None
    start: int | None
    end: int | None
    score: int | None
    unread_spans: tuple[str, ...]

    @property
    def has_many_labels(self) -> bool:
        """Whether the label column is named in the plural."""
        return self.label is not None and _plain(self.names[self.label]) in _MANY_LABELS


def find_columns(names: Sequence[str], *, is_prose: bool = False) -> Columns | None:
    """Finds the columns of a heading.

    Args:
        names: The cells of a line.
        is_prose: The line may be a sentence, so every cell must be the name of a known column.

    Returns:
        The columns; None if the cells are not a heading.
    """
    plain = [_plain(name) for name in names]
    path, label = _position(plain, PATHS), _position(plain, LABELS)
    if path is None or not all(re.fullmatch(r"[^\W\d][^/\\]*|", name) for name in plain):
        return None
    if (label is None or is_prose) and not set(plain) <= _KNOWN:
        return None
    return Columns(
        tuple(names),
        path,
        label,
        _position(plain, COUNTS),
        _position(plain, SPLITS),
        _position(plain, STARTS),
        _position(plain, ENDS),
        _position(plain, SCORES),
        tuple(name for name, key in zip(names, plain, strict=True) if key in FRAME_SPANS),
    )


def first_key(row: Mapping[str, Any], keys: Iterable[str]) -> str | None:
    """Returns the first of the keys that a row has, ignoring case.

    Args:
        row: A JSON object.
        keys: Keys in order of preference.
    """
    plain = {_plain(key): key for key in reversed(list(row))}
    return next((plain[key] for key in keys if key in plain), None)


def unread_span_keys(row: Mapping[str, Any]) -> list[str]:
    """Returns the keys of a row that limit segments in a way that is not read, such as frames.

    Args:
        row: A JSON object.
    """
    return [key for key in row if _plain(key) in _UNREAD_SPANS]


def seconds_of(value: object) -> float:
    """Returns a time in seconds.

    Args:
        value: Seconds as a number or text, or text such as 1:30 and 00:01:30.5.

    Raises:
        ValueError: It is none of these, negative or not finite.
    """
    seconds = 0.0
    parts = str(value).strip().split(":")
    try:
        if isinstance(value, bool) or len(parts) > 3:
            raise ValueError
        for part in parts:
            seconds = 60 * seconds + float(part)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{value!r} is not a time; write seconds, such as 90.5, or 00:01:30.5")
    return seconds


def _position(names: Sequence[str], wanted: Iterable[str]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().strip("\"'").strip().lower())
