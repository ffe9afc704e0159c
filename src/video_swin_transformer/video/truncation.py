"""Is a file all there? What containers say of their own length.

FFmpeg reads what is left of a file that was cut off and reports its end, where these containers
would have told that more was to come.
"""

from __future__ import annotations

import os
from typing import BinaryIO

_HEAD_BYTES = 65536


def expected_end(container_format: str, file: BinaryIO) -> int | None:
    """Byte at which the frames of a file should end; None where nothing is said.

    `container_format` is FFmpeg's name of it.
    """
    if container_format == "mov":
        return fragments_end(file)
    if container_format == "matroska":
        return matroska_end(file.read(_HEAD_BYTES))
    return avi_end(file.read(_HEAD_BYTES)) if container_format == "avi" else None


def fragments_end(file: BinaryIO) -> int | None:
    """Where the last fragment of an mp4 should end; None where it has no fragments.

    FFmpeg notices a fragment whose frames are missing, but not one whose table is. A file that
    ends between two fragments is as whole as a recording that was stopped there.
    """
    length = file.seek(0, os.SEEK_END)
    at, end = 0, None
    while at + 8 <= length:
        file.seek(at)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        if size < 8:  # to the end of the file, or no box at all
            return end
        at += size
        if kind == b"moof" or (kind == b"mdat" and end is not None):
            end = at
    begun = end == at and at < length  # with fewer bytes than say what begins there
    return length + 1 if begun else end


def matroska_end(head: bytes) -> int | None:
    """Where a matroska file should end by its segment's size; None where it does not say."""
    at, is_segment = 0, False
    while not is_segment:
        if at + 12 > len(head):
            return None
        id_length = 9 - head[at].bit_length()
        is_segment = head[at : at + id_length] == b"\x18\x53\x80\x67"
        at += id_length
        size_length = 9 - head[at].bit_length()
        if size_length > 8 or at + size_length > len(head):
            return None
        mask = (1 << 7 * size_length) - 1
        size = int.from_bytes(head[at : at + size_length], "big") & mask
        if size == mask:  # "unknown": written while recording
            return None
        at += size_length + size
    return at


def avi_end(head: bytes) -> int | None:
    """Where the list of frames in an avi should end."""
    at = 12  # after "RIFF", size, "AVI "
    while at + 12 <= len(head):
        size = int.from_bytes(head[at + 4 : at + 8], "little")
        if head[at : at + 4] == b"LIST" and head[at + 8 : at + 12] == b"movi":
            return at + 8 + size if size < 0xFFFFFFF0 else None  # not filled in while recording
        at += 8 + size + size % 2
    return None


def gif_is_whole(data: bytes) -> bool:
    """Do the blocks of one gif picture end where they should?"""
    at = 0
    while at < len(data):
        kind, is_picture = data[at], data[at] == 0x2C
        if is_picture:
            flags = data[at + 9] if at + 9 < len(data) else 0
            at += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)  # with its own palette
        elif kind == 0x21:  # an extension
            at += 2
        else:
            return True  # the end, or the header before the first picture
        while at < len(data) and data[at]:
            at += data[at] + 1
        if at >= len(data):
            return False
        at += 1
        if is_picture:
            return True
    return True
