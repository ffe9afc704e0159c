"""Names of columns and keys in lists that people write: what each of them means."""

from __future__ import annotations

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
    "start", "start_frame", "start_index", "start_time", "start_sec", "start_seconds", "start_s",
    "begin", "t_start", "time_start", "onset", "from",
)  # fmt: skip
ENDS = (
    "end", "end_frame", "end_index", "end_time", "end_sec", "end_seconds", "end_s", "stop",
    "stop_frame", "stop_time", "t_end", "time_end", "to",
)  # fmt: skip
SPLITS = ("split", "subset", "partition")
_MANY_LABELS = frozenset({"labels", "targets", "classes"})
_OTHERS = frozenset({"", "id", "index", "fps", "duration", "width", "height", "score", "error"})
_KNOWN = frozenset({*PATHS, *LABELS, *COUNTS, *STARTS, *ENDS, *SPLITS, *_OTHERS})
_SPAN_KEYS = frozenset({"segment", "segments", "timestamps", *STARTS, *ENDS})

SEGMENTS_HINT = (
    "segments of longer videos are not supported: cut each segment to a file of its own, or remove "
    "start and end if the clips are whole files"
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
        span: The names of columns that limit a segment, such as start and end.
    """

    names: tuple[str, ...]
    path: int
    label: int | None
    count: int | None
    split: int | None
    span: tuple[str, ...]

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
    spans = {*STARTS, *ENDS}
    span = tuple(name for name, key in zip(names, plain, strict=True) if key in spans)
    return Columns(
        tuple(names), path, label, _position(plain, COUNTS), _position(plain, SPLITS), span
    )


def first_key(row: Mapping[str, Any], keys: Iterable[str]) -> str | None:
    """Returns the first of the keys that a row has, ignoring case.

    Args:
        row: A JSON object.
        keys: Keys in order of preference.
    """
    plain = {_plain(key): key for key in reversed(list(row))}
    return next((plain[key] for key in keys if key in plain), None)


def span_keys(row: Mapping[str, Any]) -> list[str]:
    """Returns the keys of a row that limit a segment of a video.

    Args:
        row: A JSON object.
    """
    return [key for key in row if _plain(key) in _SPAN_KEYS]


def _position(names: Sequence[str], wanted: Iterable[str]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().strip("\"'").strip().lower())
