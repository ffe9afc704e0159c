"""Maps packets to frames. Pure computation, without decoding and without FFmpeg.

A *packet index* is the index of a packet in decode order; the *position* of a frame is its index
in display order. With B-frames they differ:

    packet index   0  1  2  3  4        decode order
    pts            0  3  1  2  4        presentation time
    position       0  3  1  2  4    ->  Timeline.packet_indices = [0, 2, 3, 1, 4]

A `PacketTable` holds the metadata of all packets, one row per packet index. A `Timeline` contains
the packet indices in display order, which are either indexed (from the packets' timestamps) or
decoded (from a complete decode).

The clock of joined streams may restart or jump. Times are made continuous: each part follows the
one before it by one frame.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .arrays import Bools, Ints
from .bitstream import PacketContent

UNKNOWN = -(2**63)  # FFmpeg's AV_NOPTS_VALUE
MAX_PACKETS = 10_000_000  # 46 hours at 60 fps; limits the table to 400 MB

# Runs are merged if the gap between them has at most this many packets: flushing the decoder for a
# seek costs about as much as decoding them.
MIN_PACKETS_TO_SKIP = 16


def _ints() -> array[int]:
    return array("q")


@dataclass
class PacketTable:
    """Metadata of all packets, in decode order. Times are in units of the stream's time base.

    Attributes:
        max_gap: Longest plausible time between packets; more is a jump of the clock. None if the
            clock cannot jump in this container format.
    """

    pts: array[int] = field(default_factory=_ints)  # UNKNOWN if missing
    dts: array[int] = field(default_factory=_ints)
    pos: array[int] = field(default_factory=_ints)  # byte position in the file, or UNKNOWN
    size: array[int] = field(default_factory=_ints)  # bytes
    key: bytearray = field(default_factory=bytearray)
    content: bytearray = field(default_factory=bytearray)  # PacketContent
    corrupt: bytearray = field(default_factory=bytearray)  # flagged as damaged by the demuxer
    lacks_reference: bytearray = field(default_factory=bytearray)  # refers to a missing frame
    max_gap: int | None = None

    def __len__(self) -> int:
        return len(self.pts)

    @cached_property
    def keys(self) -> Ints:
        """Packet indices of key packets."""
        return np.flatnonzero(np.frombuffer(bytes(self.key), np.uint8)).astype(np.int64)

    @cached_property
    def part_starts(self) -> Ints:
        """Returns the first packet index of each part; a part starts where the clock jumps."""
        starts = np.zeros(1, np.int64)
        if self.max_gap is None:
            return starts
        part = self._clock_part(np.asarray(self.dts, np.int64), self.max_gap)
        return starts if part is None else np.append(starts, np.flatnonzero(np.diff(part)) + 1)

    @cached_property
    def undecodable(self) -> Bools:
        """(packets,) whether a packet belongs before the first key frame of its part.

        Such frames are decoded or displayed before that key frame, and refer to missing ones.
        """
        result = np.zeros(len(self), bool)
        pts = np.asarray(self.pts, np.int64)
        packet_indices = np.arange(len(self))
        for start, end in zip(self.part_starts, [*self.part_starts[1:], len(self)], strict=True):
            keys = self.keys[(self.keys >= start) & (self.keys < end)]
            if len(keys) == 0:
                continue
            in_part = (packet_indices >= start) & (packet_indices < end)
            is_leading = (pts != UNKNOWN) & (pts < pts[keys[0]])
            result |= in_part & ((packet_indices < keys[0]) | is_leading)
        return result

    def display_order(self) -> Ints | None:
        """Returns packet indices in display order by pts; None if packets do not determine it.

        A malformed packet counts as a damaged frame.
        """
        content = np.frombuffer(bytes(self.content), np.uint8)
        if len(content) == 0 or np.any(content == PacketContent.UNCLEAR):
            return None
        kinds = (PacketContent.FRAME, PacketContent.MALFORMED)
        is_shown = np.isin(content, kinds) & ~self.undecodable
        shown = np.flatnonzero(is_shown).astype(np.int64)
        pts = self.times[0][shown]
        if len(pts) == 0 or not self.key[shown[0]] or np.any(pts == UNKNOWN):
            return None
        order = np.argsort(pts, kind="stable")
        if np.any(np.diff(pts[order]) == 0):
            return None
        ordered: Ints = shown[order]
        return ordered

    @cached_property
    def times(self) -> tuple[Ints, Ints]:
        """(pts, dts) on a continuous clock; UNKNOWN if missing."""
        pts, dts = np.asarray(self.pts, np.int64), np.asarray(self.dts, np.int64)
        if self.max_gap is None:
            return pts, dts
        # At a joint, FFmpeg may give a packet the presentation time of another one.
        both = (pts != UNKNOWN) & (dts != UNKNOWN)
        pts = np.where(both & (np.abs(pts - dts) > self.max_gap), UNKNOWN, pts)
        part = self._clock_part(dts, self.max_gap)
        if part is None:
            return pts, dts
        shown = dts if np.any(pts == UNKNOWN) else pts
        has_time = (shown != UNKNOWN) & ~self.undecodable
        known, part_of_known = shown[has_time], part[has_time]
        starts = np.flatnonzero(np.diff(part_of_known, prepend=-1))
        first = np.minimum.reduceat(known, starts)
        last = np.maximum.reduceat(known, starts)
        steps = np.diff(np.sort(known[: starts[1]] if len(starts) > 1 else known))
        step = int(np.median(steps[steps > 0])) if np.any(steps > 0) else 1
        shift = np.zeros(len(first), np.int64)
        shift[1:] = np.cumsum(last[:-1] + step - first[1:])
        shift_of = shift[np.searchsorted(part_of_known[starts], part, side="right") - 1]
        return (
            np.where(pts == UNKNOWN, UNKNOWN, pts + shift_of),
            np.where(dts == UNKNOWN, UNKNOWN, dts + shift_of),
        )

    def _clock_part(self, ticks: Ints, max_gap: int) -> Ints | None:
        """Returns the number of the clock restarts before each packet; None if there are none.

        A single time that does not fit between its neighbors is no restart.
        """
        where = np.flatnonzero(ticks != UNKNOWN)
        known = ticks[where]
        steps = np.diff(known)
        is_jump = (steps < 0) | (steps > max_gap)
        if not is_jump.any():
            return None
        over_next = np.append(known[2:] - known[:-2], -1)
        is_outlier = is_jump & (over_next >= 0) & (over_next <= max_gap)
        is_jump &= ~is_outlier
        is_jump[1:] &= ~is_outlier[:-1]  # the way back
        part = np.zeros(len(ticks), np.int64)
        part[where[1:]] = is_jump
        return np.cumsum(part) if is_jump.any() else None


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

    def mark_damaged(self, packet_indices: Iterable[int], *, is_loss: bool = False) -> None:
        """Marks the frames of `packet_indices` and all frames that may depend on them.

        Damage propagates to the next key packet. Frames that are decoded after that key packet but
        displayed before it (open GOP) are marked, too.

        Args:
            packet_indices: The damaged packets.
            is_loss: Whether whole packets may be missing after them.
        """
        positions = np.arange(len(self))
        for packet_index in packet_indices:
            after = self._keys[self._keys > packet_index]
            before = self._keys[self._keys < packet_index]
            end = int(after[0]) if len(after) else len(self.position_of)
            affected = (self.packet_indices >= packet_index) & (self.packet_indices < end)
            if (
                not is_loss
                and len(before)
                and 0 <= self.position_of[packet_index] < self.position_of[before[-1]]
            ):
                # A leading picture; frames that are displayed after the key frame do not use it.
                self.damaged |= affected & (positions < self.position_of[before[-1]])
                continue
            if len(after) and self.position_of[end] >= 0:
                before_key = positions < self.position_of[end]
                affected |= before_key & (self.packet_indices >= end)
            self.damaged |= affected

    def mark_leading(self, key_packet: int) -> None:
        """Marks the frames that are decoded after a key packet but displayed before it."""
        after = self._keys[self._keys > key_packet]
        end = int(after[0]) if len(after) else len(self.position_of)
        position = self.position_of[key_packet]
        is_before = np.arange(len(self)) < position
        self.damaged |= is_before & (self.packet_indices > key_packet) & (self.packet_indices < end)

    def times(self, table: PacketTable) -> Ints | None:
        """Returns presentation times in time base units, starting at 0; None if unknown.

        Without pts, sorted dts are used (avi has no pts).
        """
        for values, in_order in zip(table.times, (True, False), strict=True):
            ticks = values[self.packet_indices]
            if np.any(ticks == UNKNOWN):
                continue
            ticks = ticks if in_order else np.sort(ticks)
            if np.all(np.diff(ticks) >= 0):
                relative: Ints = ticks - ticks[0]
                return relative
        return None
