"""Finds damage that FFmpeg's demuxers skip silently, from what the container states."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .arrays import Ints

_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_BLOCK_GROUP, _BLOCK, _SIMPLE_BLOCK = 0xA0, 0xA1, 0xA3
_TS_PACKET_BYTES = (188, 192)
_TS_SYNC_BYTE = 0x47
_TS_SYNCS = 4  # in a row
_TS_SEARCH_BYTES = 2**16
_TS_CHUNK_PACKETS = 100_000
_NONE = np.zeros(0, np.int64)


def count_matroska_blocks(path: str | Path, track_number: int) -> int | None:
    """Counts the blocks of a track by walking through all elements of a matroska file.

    Args:
        path: Path of the file.
        track_number: Number of the track.

    Returns:
        The number of blocks; None if an element is malformed.
    """
    with Path(path).open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        return _count_blocks(file, 0, end, track_number)


def _count_blocks(file: BinaryIO, start: int, end: int, track_number: int) -> int | None:
    count, at = 0, start
    while at < end:
        element = _element_at(file, at, end)
        if element is None:
            return None
        kind, content, next_at = element
        if kind in (_SEGMENT, _CLUSTER, _BLOCK_GROUP):
            # The elements of a cluster of unknown size are read as if they followed it.
            next_at = content
        elif kind in (_BLOCK, _SIMPLE_BLOCK):
            file.seek(content)
            count += _block_track(file.read(8)) == track_number
        at = next_at
    return count


def _element_at(file: BinaryIO, at: int, end: int) -> tuple[int, int, int] | None:
    """Returns (id, start of the content, end) of an element; None if it is malformed."""
    file.seek(at)
    head = file.read(12)
    id_bytes = 9 - head[0].bit_length()
    if id_bytes > 4 or len(head) <= id_bytes:
        return None
    kind = int.from_bytes(head[:id_bytes], "big")
    size_bytes = 9 - head[id_bytes].bit_length()
    if size_bytes > 8:
        return None
    content = at + id_bytes + size_bytes
    mask = (1 << 7 * size_bytes) - 1
    size = int.from_bytes(head[id_bytes : id_bytes + size_bytes], "big") & mask
    is_master = kind in (_SEGMENT, _CLUSTER)
    if size == mask:  # unknown
        return (kind, content, content) if is_master else None
    if content + size > end and not is_master:
        return None
    return kind, content, content + size


def _block_track(head: bytes) -> int:
    num_bytes = 9 - head[0].bit_length() if head else 9
    mask = (1 << 7 * num_bytes) - 1
    return int.from_bytes(head[:num_bytes], "big") & mask if num_bytes <= 8 else -1


def count_avi_chunks(path: str | Path, stream_index: int) -> int | None:
    """Counts the non-empty video chunks of a stream by walking through an avi file.

    Args:
        path: Path of the file.
        stream_index: Index of the stream.

    Returns:
        The number of chunks; None if a chunk is malformed, or their list is missing.
    """
    kinds = {b"%02d%s" % (stream_index, suffix) for suffix in (b"dc", b"db")}
    count, has_frames = 0, False
    with Path(path).open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        at = 0
        while at + 8 <= end:
            file.seek(at)
            head = file.read(12)
            kind, size = head[:4], int.from_bytes(head[4:8], "little")
            if not kind.isalnum() and kind not in (b"rec ", b"LIST"):
                return None
            if kind == b"RIFF" or (kind == b"LIST" and head[8:12] in (b"movi", b"rec ")):
                has_frames = has_frames or kind == b"LIST"
                at += 12  # its chunks follow; the size is missing in unfinished recordings
                continue
            count += kind in kinds and size > 0
            at += 8 + size + size % 2
    return count if has_frames else None


@dataclass(frozen=True)
class TransportStreamScan:
    """What the headers of all packets of a transport stream show.

    Attributes:
        joints: Byte positions where the continuity counter of the program association table starts
            again, increasing. Streams were joined there; a lost packet of another stream does not
            change this counter.
        breaks: Byte positions where something else stands in place of a packet, increasing.
    """

    joints: Ints
    breaks: Ints


def scan_transport_stream(path: str | Path) -> TransportStreamScan:
    """Reads the headers of all packets of a transport stream.

    Args:
        path: Path of a file with packets of 188 bytes, or 192 with time codes (m2ts).
    """
    tables, counters, breaks = [_NONE], [_NONE], []
    with Path(path).open("rb") as file:
        at, size = _find_sync(file, 0)
        while at >= 0:
            file.seek(at)
            data = file.read(_TS_CHUNK_PACKETS * size)
            rows = np.frombuffer(data[: len(data) // size * size], np.uint8).reshape(-1, size)
            is_lost = rows[:, 0] != _TS_SYNC_BYTE
            num_good = int(np.argmax(is_lost)) if is_lost.any() else len(rows)
            rows = rows[:num_good]
            pid = (rows[:, 1] & 0x1F).astype(np.int64) << 8 | rows[:, 2]
            where = np.flatnonzero(pid == 0)
            tables.append(where * size + at)
            counters.append((rows[where, 3] & 15).astype(np.int64))
            at += num_good * size
            if is_lost.any():
                breaks.append(at)
                at, size = _find_sync(file, at)
            elif len(data) < _TS_CHUNK_PACKETS * size:
                break
    counter = np.concatenate(counters)
    joints = np.concatenate(tables)[1:][np.diff(counter) % 16 != 1]
    return TransportStreamScan(joints, np.array(breaks, np.int64))


def _find_sync(file: BinaryIO, start: int) -> tuple[int, int]:
    """Returns the position of the next packet and the packet size; (-1, 188) at the end."""
    at = start
    while True:
        file.seek(at)
        data = np.frombuffer(file.read(_TS_SEARCH_BYTES), np.uint8)
        for size in _TS_PACKET_BYTES:
            num_starts = len(data) - size * (_TS_SYNCS - 1)
            if num_starts <= 0:
                continue
            is_start = np.ones(num_starts, bool)
            for index in range(_TS_SYNCS):
                is_start &= data[index * size : index * size + num_starts] == _TS_SYNC_BYTE
            if is_start.any():
                return at + int(np.argmax(is_start)), size
        if len(data) < _TS_SEARCH_BYTES:
            return -1, _TS_PACKET_BYTES[0]
        at += _TS_SEARCH_BYTES - _TS_PACKET_BYTES[-1] * _TS_SYNCS
