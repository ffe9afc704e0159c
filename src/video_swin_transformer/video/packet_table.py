"""Maps packets to frames. Pure computation, without decoding and without FFmpeg.

A *packet index* is the index of a packet in decode order; the *position* of a frame is its index
in display order. With B-frames they differ:

    packet index   0  1  2  3  4        decode order
    pts            0  3  1  2  4        presentation time
    position       0  3  1  2  4    ->  Timeline.packet_indices = [0, 2, 3, 1, 4]

A `PacketTable` holds the metadata of all packets, one row per packet index. A `Timeline` contains
the packet indices in display order, which are either indexed (from the packets' timestamps) or
decoded (from a complete decode).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .arrays import Bools, Ints

UNKNOWN = -(2**63)  # FFmpeg's AV_NOPTS_VALUE
MAX_PACKETS = 10_000_000  # 46 hours at 60 fps; limits the table to 400 MB

# Runs are merged if the gap between them has at most this many packets: flushing the decoder for a
# seek costs about as much as decoding them.
MIN_PACKETS_TO_SKIP = 16


def _ints() -> array[int]:
    return array("q")


@dataclass
class PacketTable:
    """Metadata of all packets, in decode order. Times are in units of the stream's time base."""

    pts: array[int] = field(default_factory=_ints)  # UNKNOWN if missing
    dts: array[int] = field(default_factory=_ints)
    pos: array[int] = field(default_factory=_ints)  # byte position in the file, or UNKNOWN
    size: array[int] = field(default_factory=_ints)  # bytes
    key: bytearray = field(default_factory=bytearray)
    hidden: bytearray = field(default_factory=bytearray)  # decoded, but not displayed
    corrupt: bytearray = field(default_factory=bytearray)  # flagged as damaged by the demuxer

    def __len__(self) -> int:
        return len(self.pts)

    @cached_property
    def keys(self) -> Ints:
        """Packet indices of key packets."""
        return np.flatnonzero(np.frombuffer(bytes(self.key), np.uint8)).astype(np.int64)

    @cached_property
    def shown(self) -> Ints:
        """Packet indices of packets with a displayed frame."""
        return np.flatnonzero(np.frombuffer(bytes(self.hidden), np.uint8) == 0).astype(np.int64)

    def display_order(self) -> Ints | None:
        """Returns packet indices in display order by pts; None if the order is ambiguous."""
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
    """A contiguous range of packets to decode, starting at a key packet."""

    start_packet: int
    start_position: int  # display position of the start packet's frame
    last_packet: int  # last packet to decode
    requested: tuple[int, ...]  # positions to output, increasing


class Timeline:
    """The frames of a video in display order, and the packets where decoding can start.

    Args:
        packet_indices: Packet index of each frame, in display order.
        table: The packet metadata.
        one_to_one: Whether each displayed packet yields exactly one frame, so that the decoder can
            be flushed after the last needed packet. This is not the case with, for example, one
            packet per field.
    """

    def __init__(self, packet_indices: Ints, table: PacketTable, *, one_to_one: bool) -> None:
        self.packet_indices = packet_indices
        self.one_to_one = one_to_one
        self.damaged: Bools = np.zeros(len(packet_indices), bool)
        self._keys = table.keys
        self.position_of: Ints = np.full(len(table), -1, np.int64)
        self.position_of[packet_indices] = np.arange(len(packet_indices))

    def __len__(self) -> int:
        return len(self.packet_indices)

    @cached_property
    def unique(self) -> bool:
        """Whether each packet yields at most one frame."""
        return len(np.unique(self.packet_indices)) == len(self.packet_indices)

    @cached_property
    def _starts(self) -> tuple[Ints, Ints]:
        """Returns packet indices and positions of key packets that all later frames follow."""
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

    def plan(self, requested: Ints, *, can_seek: bool) -> list[Run]:
        """Plans the runs that decode the requested frames with as few packets as possible.

        Args:
            requested: Positions, increasing.
            can_seek: Whether runs can start at key packets; otherwise there is one run from the
                start.
        """
        # The last packet needed up to each position.
        needed = np.maximum.accumulate(self.packet_indices)
        if not can_seek:
            return [Run(0, 0, int(needed[requested[-1]]), tuple(requested.tolist()))]
        packet_indices, positions = self._starts
        runs: list[Run] = []
        for position in requested.tolist():
            last = int(needed[position])
            nearest = int(np.searchsorted(positions, position, side="right")) - 1
            start = int(packet_indices[nearest])
            if runs and start - runs[-1].last_packet <= MIN_PACKETS_TO_SKIP:
                run = runs[-1]
                runs[-1] = Run(
                    run.start_packet,
                    run.start_position,
                    max(last, run.last_packet),
                    (*run.requested, position),
                )
            else:
                runs.append(Run(start, int(positions[nearest]), last, (position,)))
        return runs

    def mark_damaged(self, packet_indices: Iterable[int]) -> None:
        """Marks the frames of `packet_indices` and all frames that may depend on them.

        Damage propagates to the next key packet. Frames that are decoded after that key packet but
        displayed before it (open GOP) are marked, too.
        """
        for packet_index in packet_indices:
            after = self._keys[self._keys > packet_index]
            end = int(after[0]) if len(after) else len(self.position_of)
            affected = (self.packet_indices >= packet_index) & (self.packet_indices < end)
            if len(after) and self.position_of[end] >= 0:
                before_key = np.arange(len(self)) < self.position_of[end]
                affected |= before_key & (self.packet_indices >= end)
            self.damaged |= affected

    def times(self, table: PacketTable) -> Ints | None:
        """Returns presentation times in time base units, starting at 0; None if unknown.

        Without pts, sorted dts are used (avi has no pts).
        """
        for values, in_order in ((table.pts, True), (table.dts, False)):
            ticks = np.asarray(values, np.int64)[self.packet_indices]
            if np.any(ticks == UNKNOWN):
                continue
            ticks = ticks if in_order else np.sort(ticks)
            if np.all(np.diff(ticks) >= 0):
                relative: Ints = ticks - ticks[0]
                return relative
        return None
