"""Reads the sample table of mp4 and mov files, so that long files need not be read to be indexed.

FFmpeg exposes the position, size and decode time of each sample, but not its composition offset
(presentation time minus decode time). These are read from the `ctts` box here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .arrays import Ints

_MAX_DEPTH = 8
_PARENT_BOXES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"udta", b"edts")
_COUNT_POSITIONS = {b"stsz": 8, b"stz2": 8, b"trun": 4}  # of the number of samples in the box
_MAX_TABLE_BYTES = 2**27  # 16 million runs of samples


def composition_offsets(path: str | Path, track_id: int, num_samples: int) -> Ints | None:
    """Reads the composition offsets of a track.

    Args:
        path: Path of an mp4 or mov file.
        track_id: Number of the track.
        num_samples: Expected number of samples.

    Returns:
        (num_samples,) offsets in units of the track's time scale; None if the file is fragmented,
        an edit list repeats or reorders samples, or the table is not as expected.
    """
    with Path(path).open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        movie = _find(file, b"moov", 0, end)
        if movie is None or _find(file, b"mvex", *movie) is not None:
            return None
        for kind, *track in _boxes(file, *movie):
            if kind == b"trak" and _track_id(file, *track) == track_id:
                return _offsets(file, track[0], track[1], num_samples)
    return None


def largest_sample_count(path: str | Path) -> int:
    """Returns the largest number of samples that a table of an mp4 or mov file claims.

    FFmpeg makes an index of so many entries, although a table of samples of equal size has no
    entries itself.

    Args:
        path: Path of a file; of another format, the result is 0.
    """
    with Path(path).open("rb") as file:
        return _largest_count(file, 0, file.seek(0, os.SEEK_END), 0)


def _largest_count(file: BinaryIO, start: int, end: int, depth: int) -> int:
    largest = 0
    for kind, content, content_end in _boxes(file, start, end):
        at = _COUNT_POSITIONS.get(kind)
        if at is not None:
            file.seek(content + at)
            largest = max(largest, int.from_bytes(file.read(4), "big"))
        elif kind in _PARENT_BOXES and depth < _MAX_DEPTH:
            largest = max(largest, _largest_count(file, content, content_end, depth + 1))
    return largest


def _offsets(file: BinaryIO, start: int, end: int, num_samples: int) -> Ints | None:
    edits = _find(file, b"edts", start, end)
    if edits is not None and not _is_plain(file, *edits):
        return None
    table: tuple[int, int] | None = (start, end)
    for kind in (b"mdia", b"minf", b"stbl"):
        table = _find(file, kind, *table) if table is not None else None
    if table is None:
        return None
    offsets = _find(file, b"ctts", *table)
    if offsets is None:
        return np.zeros(num_samples, np.int64)
    data = _read(file, *offsets)
    if data is None or len(data) < 8:
        return None
    num_runs = int.from_bytes(data[4:8], "big")
    runs = np.frombuffer(data[8 : 8 + (len(data) - 8) // 8 * 8], ">u4").reshape(-1, 2)
    counts = runs[:, 0].astype(np.int64)
    if len(runs) != num_runs or int(counts.sum()) != num_samples:
        return None
    # Negative offsets are written in version 0, too, although only version 1 allows them.
    return np.repeat(runs[:, 1].astype(np.int32).astype(np.int64), counts)


def _is_plain(file: BinaryIO, start: int, end: int) -> bool:
    """Whether an edit list selects one range of samples."""
    edit_list = _find(file, b"elst", start, end)
    data = None if edit_list is None else _read(file, *edit_list)
    if data is None or len(data) < 8:
        return False
    entry_bytes, time_bytes = (20, 8) if data[0] == 1 else (12, 4)
    num_ranges = 0
    for index in range(min(int.from_bytes(data[4:8], "big"), 8)):
        at = 8 + index * entry_bytes + time_bytes
        media_time = int.from_bytes(data[at : at + time_bytes], "big", signed=True)
        num_ranges += media_time >= 0
    return num_ranges <= 1


def _track_id(file: BinaryIO, start: int, end: int) -> int | None:
    header = _find(file, b"tkhd", start, end)
    data = None if header is None else _read(file, *header)
    if data is None or len(data) < 24:
        return None
    at = 20 if data[0] == 1 else 12
    return int.from_bytes(data[at : at + 4], "big")


def _find(file: BinaryIO, kind: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Returns the content range of the first box of a kind."""
    for found, content, content_end in _boxes(file, start, end):
        if found == kind:
            return content, content_end
    return None


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields (kind, start, end) of the content of each box."""
    at = start
    while at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        size, content = int.from_bytes(head[:4], "big"), at + 8
        if size == 1:
            size, content = int.from_bytes(head[8:], "big"), at + 16
        elif size == 0:  # until the end
            size = end - at
        if size < content - at:
            return
        yield head[4:8], content, min(at + size, end)
        at += size


def _read(file: BinaryIO, start: int, end: int) -> bytes | None:
    if end - start > _MAX_TABLE_BYTES:
        return None
    file.seek(start)
    return file.read(end - start)
