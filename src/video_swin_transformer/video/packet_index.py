"""Which frame is where: pure bookkeeping on packets, no decoding and no FFmpeg.

A *packet index* is a packet's number in the file (decode order); a frame's *position* is its
number on the screen (display order). B-frames are why the two differ:

    packet index   0  1  2  3  4        packets as stored
    pts            0  3  1  2  4        when each is shown
    position       0  3  1  2  4    ->  Timeline.packet_indices = [0, 2, 3, 1, 4]

A `PacketIndex` holds what demuxing tells, a `Timeline` the packet indices in display order, either
indexed (from the packets' times) or decoded (from a complete decode).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -(2**63)  # FFmpeg's AV_NOPTS_VALUE
MAX_PACKETS = 10_000_000  # 46 hours at 60 fps; keeps a hostile index below 400 MB

# Two runs are joined when fewer packets than this lie between them: a seek empties the pipeline
# of the decoder, which costs about as much as decoding this many frames.
MIN_PACKETS_TO_SKIP = 16

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def _ints() -> array[int]:
    return array("q")


@dataclass
class PacketIndex:
    """One entry a packet, in file order. Times are in units of the stream's time base."""

    pts: array[int] = field(default_factory=_ints)  # UNKNOWN where the container has none
    dts: array[int] = field(default_factory=_ints)
    pos: array[int] = field(default_factory=_ints)  # byte position in the file, or UNKNOWN
    size: array[int] = field(default_factory=_ints)  # bytes
    key: bytearray = field(default_factory=bytearray)
    hidden: bytearray = field(default_factory=bytearray)  # decoded, never shown
    corrupt: bytearray = field(default_factory=bytearray)  # the demuxer knows it is damaged

    def __len__(self) -> int:
        return len(self.pts)

    @cached_property
    def keys(self) -> Ints:
        """Serials of key packets."""
        return np.flatnonzero(np.frombuffer(bytes(self.key), np.uint8)).astype(np.int64)

    @cached_property
    def shown(self) -> Ints:
        """Serials of packets that carry a frame to be shown."""
        return np.flatnonzero(np.frombuffer(bytes(self.hidden), np.uint8) == 0).astype(np.int64)

    def display_order(self) -> Ints | None:
        """Serials in display order by pts, or None where the packets do not settle it."""
        shown = self.shown
        pts = np.asarray(self.pts, np.int64)[shown]
        if len(pts) == 0 or not self.key[0] or np.any(pts == UNKNOWN):
            return None
        order = np.argsort(pts, kind="stable")
        if np.any(np.diff(pts[order]) == 0):
            return None
        ordered: Ints = shown[order]
        return ordered


@dataclass(frozen=True)
class Run:
    """A stretch of decoding: from a key packet until the last frame wanted of it."""

    start_packet: int
    start_position: int  # display position of the start packet's frame
    last_packet: int  # no later packet is needed
    wanted: tuple[int, ...]  # positions, increasing


class Timeline:
    """The frames of a video in display order, and where a decoder may start.

    `one_to_one`: every shown packet gives exactly one frame, so that a decoder can be emptied
    right after the last needed packet (not so with, say, one packet a field).
    """

    def __init__(self, packet_indices: Ints, index: PacketIndex, *, one_to_one: bool) -> None:
        self.packet_indices = packet_indices
        self.one_to_one = one_to_one
        self.damaged: Bools = np.zeros(len(packet_indices), bool)
        self._keys = index.keys
        self.position_of: Ints = np.full(len(index), -1, np.int64)
        self.position_of[packet_indices] = np.arange(len(packet_indices))

    def __len__(self) -> int:
        return len(self.packet_indices)

    @cached_property
    def unique(self) -> bool:
        """Does no packet appear twice?"""
        return len(np.unique(self.packet_indices)) == len(self.packet_indices)

    @cached_property
    def _starts(self) -> tuple[Ints, Ints]:
        """(packet indices, positions) of clean starts: frames shown later are stored later, too."""
        earliest_after = np.minimum.accumulate(self.packet_indices[::-1])[::-1]
        keys = self._keys[self.position_of[self._keys] >= 0]
        positions = self.position_of[keys]
        clean = earliest_after[positions] >= keys
        keys, positions = keys[clean], positions[clean]
        order = np.argsort(positions)
        keys, positions = keys[order], positions[order]
        if len(positions) == 0 or positions[0] != 0:
            keys, positions = np.append(0, keys), np.append(0, positions)
        return keys, positions

    def plan(self, wanted: Ints, *, can_seek: bool) -> list[Run]:
        """Runs that bring all `wanted` positions (increasing) and decode as little as possible."""
        needed = np.maximum.accumulate(
            self.packet_indices
        )  # last packet_index needed up to each position
        if not can_seek:
            return [Run(0, 0, int(needed[wanted[-1]]), tuple(wanted.tolist()))]
        packet_indices, positions = self._starts
        runs: list[Run] = []
        for position in wanted.tolist():
            last = int(needed[position])
            nearest = int(np.searchsorted(positions, position, side="right")) - 1
            start = int(packet_indices[nearest])
            if runs and start - runs[-1].last_packet <= MIN_PACKETS_TO_SKIP:
                run = runs[-1]
                runs[-1] = Run(
                    run.start_packet,
                    run.start_position,
                    max(last, run.last_packet),
                    (*run.wanted, position),
                )
            else:
                runs.append(Run(start, int(positions[nearest]), last, (position,)))
        return runs

    def mark_damaged(self, packet_indices: Iterable[int]) -> None:
        """Marks the frames of `packet_indices` and all that may build on them.

        Damage lives on in what is decoded later, until the next key packet; frames stored after
        that key but shown before it (open GOP) still refer back and are marked too.
        """
        for packet_index in packet_indices:
            after = self._keys[self._keys > packet_index]
            end = int(after[0]) if len(after) else len(self.position_of)
            touched = (self.packet_indices >= packet_index) & (self.packet_indices < end)
            if len(after) and self.position_of[end] >= 0:
                before_key = np.arange(len(self)) < self.position_of[end]
                touched |= before_key & (self.packet_indices >= end)
            self.damaged |= touched

    def times(self, index: PacketIndex) -> Ints | None:
        """Presentation times (time base units, first is 0), or None where they are unknown.

        Falls back on the decoding times in increasing order (avi knows no others), then on None.
        """
        for values, in_order in ((index.pts, True), (index.dts, False)):
            ticks = np.asarray(values, np.int64)[self.packet_indices]
            if np.any(ticks == UNKNOWN):
                continue
            ticks = ticks if in_order else np.sort(ticks)
            if np.all(np.diff(ticks) >= 0):
                relative: Ints = ticks - ticks[0]
                return relative
        return None
