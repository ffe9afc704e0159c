"""Finds damage that FFmpeg's demuxers skip silently, from what the container states."""

from __future__ import annotations

import os
import struct
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .arrays import Ints

_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_BLOCK_GROUP, _BLOCK, _SIMPLE_BLOCK = 0xA0, 0xA1, 0xA3
_TRACKS, _TRACK_ENTRY, _TRACK_NUMBER = 0x1654AE6B, 0xAE, 0xD7
_NUMBERS = frozenset({0xE7, 0xA7, 0xAB})  # timestamp, position and previous size of a cluster
_SEGMENT_ELEMENTS = frozenset(
    {0x114D9B74, 0x1549A966, _TRACKS, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, _CLUSTER}
)
_CLUSTER_ELEMENTS = _NUMBERS | {0x5854, _BLOCK_GROUP, _SIMPLE_BLOCK}
_BLOCK_GROUP_ELEMENTS = frozenset(
    {_BLOCK, 0x75A1, 0x9B, 0xFA, 0xFB, 0xFD, 0xA4, 0x75A2, 0x8E, 0xC8}
)
_ANYWHERE = frozenset({0x1A45DFA3, _SEGMENT, 0xEC, 0xBF, 0x1B538667})  # such as padding
_ELEMENTS = _SEGMENT_ELEMENTS | _CLUSTER_ELEMENTS | _BLOCK_GROUP_ELEMENTS | _ANYWHERE
_TS_PACKET_BYTES = (188, 192)
_TS_SYNC_BYTE = 0x47
_TS_SYNCS = 4  # in a row
_TS_SEARCH_BYTES = 2**16
_TS_CHUNK_PACKETS = 100_000
_NONE = np.zeros(0, np.int64)
_OGG_HEAD_BYTES = 27
_OGG_FIRST_PAGE, _OGG_LAST_PAGE = 2, 4  # flags of a page
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def count_matroska_blocks(path: str | Path, track_index: int) -> int | None:
    """Counts the blocks of a track by walking through all elements of a matroska file.

    Args:
        path: Path of the file.
        track_index: Index of the track.

    Returns:
        The number of blocks; None if an element is malformed, or a block has an unknown track.
    """
    with Path(path).open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        return _count_blocks(file, end, track_index)


def _count_blocks(file: BinaryIO, end: int, track_index: int) -> int | None:
    tracks: list[int] = []
    counts: Counter[int] = Counter()
    at = 0
    while at < end:
        element = _element_at(file, at, end)
        if element is None:
            return None
        kind, content, next_at = element
        if kind not in _ELEMENTS or (kind in _NUMBERS and next_at - content > 8):
            return None
        if kind in (_SEGMENT, _CLUSTER, _BLOCK_GROUP):
            # The elements of a cluster of unknown size are read as if they followed it.
            next_at = content
        elif kind == _TRACKS:
            tracks = _track_numbers(file, content, next_at)
        elif kind in (_BLOCK, _SIMPLE_BLOCK):
            file.seek(content)
            track = _block_track(file.read(8))
            if track not in tracks:
                return None
            counts[track] += 1
        at = next_at
    return counts[tracks[track_index]] if track_index < len(tracks) else None


def _track_numbers(file: BinaryIO, start: int, end: int) -> list[int]:
    """Returns the numbers of all tracks, in order."""
    numbers, at = [], start
    while at < end and (element := _element_at(file, at, end)) is not None:
        kind, content, next_at = element
        if kind == _TRACK_NUMBER:
            file.seek(content)
            numbers.append(int.from_bytes(file.read(min(next_at - content, 8)), "big"))
        at = content if kind == _TRACK_ENTRY else next_at
    return numbers


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
        The number of chunks, or of the entries of the index if there are more; None if a chunk is
        malformed, or their list is missing.
    """
    kinds = {b"%02d%s" % (stream_index, suffix) for suffix in (b"dc", b"db")}
    count, index_at = 0, -1
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
                if kind == b"LIST" and index_at < 0:
                    index_at = at + 8 + size + size % 2
                at += 12  # its chunks follow; the size is missing in unfinished recordings
                continue
            count += kind in kinds and size > 0
            at += 8 + size + size % 2
        if index_at < 0:
            return None
        file.seek(index_at)
        head = file.read(8)
        if head[:4] == b"idx1":
            size = int.from_bytes(head[4:], "little")
            count = max(count, _count_index_entries(file.read(size), kinds))
    return count


def _count_index_entries(data: bytes, kinds: set[bytes]) -> int:
    """Counts the entries of an avi index (kind, flags, position, size) with a size."""
    entries = np.frombuffer(data[: len(data) // 16 * 16], "<u4").reshape(-1, 4)
    known = [int.from_bytes(kind, "little") for kind in kinds]
    return int((np.isin(entries[:, 0], known) & (entries[:, 3] > 0)).sum())


def count_gif_images(path: str | Path) -> int | None:
    """Counts the images of a gif file by walking through its blocks.

    Args:
        path: Path of the file.

    Returns:
        The number of images; None if a block is malformed.
    """
    data = Path(path).read_bytes()
    if len(data) < 13:
        return None
    count, at = 0, 13 + _palette_bytes(data[10])
    while at < len(data):
        kind = data[at]
        if kind == 0x3B:  # the trailer
            return count
        if kind == 0x2C:  # an image
            count += 1
            at += 11 + (_palette_bytes(data[at + 9]) if at + 9 < len(data) else 0)
        elif kind == 0x21:  # an extension
            at += 2
        else:
            return None
        while at < len(data) and data[at]:
            at += data[at] + 1
        at += 1
    return count


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def count_apng_frames(head: bytes) -> int | None:
    """Returns the number of frames that an animated png states before its first image.

    Args:
        head: The beginning of the file.

    Returns:
        The number; None if it is not there.
    """
    at = head.find(b"acTL")
    return int.from_bytes(head[at + 4 : at + 8], "big") if at >= 0 else None


def is_whole_ogg(path: str | Path) -> bool:
    """Returns whether all pages of an Ogg file are there and intact.

    FFmpeg drops damaged pages, with the frames on them, and reads a file without its end.

    Args:
        path: The file.
    """
    is_open: dict[bytes, bool] = {}  # by serial number of the stream
    following: dict[bytes, int] = {}  # sequence number of the next page
    with Path(path).open("rb") as file:
        while head := file.read(_OGG_HEAD_BYTES):
            if len(head) < _OGG_HEAD_BYTES or head[:4] != b"OggS":
                return False
            sizes = file.read(head[26])
            body = file.read(sum(sizes))
            flags, serial = head[5], head[14:18]
            sequence, checksum = struct.unpack("<II", head[18:26])
            page = head[:22] + bytes(4) + head[26:] + sizes + body
            is_first = bool(flags & _OGG_FIRST_PAGE)
            if len(body) < sum(sizes) or checksum != _ogg_checksum(page):
                return False
            if not is_first and sequence != following.get(serial):
                return False
            following[serial] = sequence + 1
            is_open[serial] = not flags & _OGG_LAST_PAGE
    return not any(is_open.values())


def _ogg_checksum(page: bytes) -> int:
    """The CRC of Ogg: the polynomial of zlib's, but bits in reverse order and no inversions."""
    crc = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(crc.to_bytes(4, "little").translate(_REVERSED_BITS), "big")


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
                if len(data) % size:  # the last packet is incomplete
                    breaks.append(at)
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
