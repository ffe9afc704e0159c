"""The bookkeeping of packets and frames, without any video."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from video_swin_transformer.video.arrays import Ints
from video_swin_transformer.video.bitstream import PacketContent
from video_swin_transformer.video.packet_table import (
    MIN_PACKETS_TO_SKIP,
    UNKNOWN,
    PacketTable,
    Timeline,
)


def table_of(pts: list[int], keys: list[int], hidden: tuple[int, ...] = ()) -> PacketTable:
    table = PacketTable()
    for packet_index, time in enumerate(pts):
        table.pts.append(time)
        table.dts.append(packet_index)
        table.pos.append(packet_index * 100)
        table.size.append(100)
        table.key.append(packet_index in keys)
        is_hidden = packet_index in hidden
        table.content.append(PacketContent.HIDDEN if is_hidden else PacketContent.FRAME)
        table.corrupt.append(False)
    return table


def timeline_of(table: PacketTable) -> Timeline:
    order = table.display_order()
    assert order is not None
    return Timeline(order, table, one_to_one=True)


def test_the_image_in_the_docstring() -> None:
    timeline = timeline_of(table_of([0, 3, 1, 2, 4], [0]))
    assert timeline.packet_indices.tolist() == [0, 2, 3, 1, 4]
    assert timeline.position_of.tolist() == [0, 3, 1, 2, 4]


def test_hidden_packets_have_no_position() -> None:
    table = table_of([0, 1, 2, 3], [0], hidden=(1,))
    assert timeline_of(table).position_of.tolist() == [0, -1, 1, 2]


def test_frames_before_the_first_key_frame_are_not_part_of_the_video() -> None:
    table = table_of([2, 5, 3, 4, 6], [1])
    assert table.undecodable.tolist() == [True, False, True, True, False]
    order = table.display_order()
    assert order is not None and order.tolist() == [1, 4]


def test_no_order_without_complete_times() -> None:
    assert table_of([0, UNKNOWN, 2], [0]).display_order() is None
    assert table_of([0, 1, 1], [0]).display_order() is None
    assert table_of([], []).display_order() is None


def test_frames_shown_before_a_key_frame_are_reached_from_the_one_before_it() -> None:
    """Open GOP: 3 is a key packet, but 4 and 5 are shown before it and need 2 as well."""
    table = table_of([0, 1, 2, 5, 3, 4, 6], [0, 3])
    timeline = timeline_of(table)
    by_position = {
        position: timeline.plan(np.array([position]), can_seek=True)[0] for position in range(7)
    }
    assert [run.start_packet for run in by_position.values()] == [0, 0, 0, 0, 0, 3, 3]
    assert by_position[3].last_packet == 4, "the frame before it on the screen is stored later"


def test_a_key_packet_is_no_start_for_frames_stored_before_it() -> None:
    """Packet 1 is shown last; a decoder that starts at key packet 2 never sees it."""
    timeline = timeline_of(table_of([0, 9, 1, 2, 3], [0, 2]))
    assert timeline.plan(np.array([4]), can_seek=True)[0].start_packet == 0
    assert timeline.plan(np.array([2]), can_seek=True)[0].start_packet == 0


def test_near_runs_are_joined_and_far_ones_are_not() -> None:
    num, gop = 400, 40
    timeline = timeline_of(table_of(list(range(num)), list(range(0, num, gop))))
    near = timeline.plan(np.array([30, 41]), can_seek=True)
    assert [(run.start_packet, run.last_packet) for run in near] == [(0, 41)]
    far = timeline.plan(np.array([40 - MIN_PACKETS_TO_SKIP - 1, 41, 399]), can_seek=True)
    assert [run.start_packet for run in far] == [0, 40, 360]
    whole = timeline.plan(np.array([5, 399]), can_seek=False)
    assert [(run.start_packet, run.last_packet, run.requested) for run in whole] == [
        (0, 399, (5, 399))
    ]


def test_times() -> None:
    table = table_of([10, 40, 20, 30], [0])
    times = timeline_of(table).times(table)
    assert times is not None and times.tolist() == [0, 10, 20, 30]
    table.pts[1] = UNKNOWN
    observed = Timeline(np.array([0, 2, 3, 1]), table, one_to_one=False)
    times = observed.times(table)
    assert times is not None and times.tolist() == [0, 1, 2, 3], "the dts in order"
    table.dts[2] = UNKNOWN
    assert observed.times(table) is None


def test_damage_spreads_to_the_next_key_and_over_its_leading_frames() -> None:
    table = table_of([0, 1, 2, 5, 3, 4, 6, 7], [0, 3, 7])
    timeline = timeline_of(table)
    timeline.mark_damaged([1])
    assert timeline.packet_indices[timeline.damaged].tolist() == [1, 2, 4, 5]
    timeline = timeline_of(table)
    timeline.mark_damaged([7])
    assert timeline.packet_indices[timeline.damaged].tolist() == [7]


def _stored(groups: list[list[int]], is_open: bool) -> tuple[Ints, list[int]]:
    """pts and key packets of groups with B-frames; open ones show two frames before their key."""
    pts: list[int] = []
    keys: list[int] = []
    for group in groups:
        base = len(pts)
        keys.append(base)
        order = list(range(len(group)))
        for at in range(1, len(order) - 1, 2):
            order[at], order[at + 1] = order[at + 1], order[at]
        if is_open and base and len(order) > 3:
            order = [2, 0, 1, *range(3, len(order))]
        pts.extend(base + place for place in order)
    return np.array(pts), keys


@given(
    groups=st.lists(st.lists(st.just(0), min_size=1, max_size=40), min_size=1, max_size=12),
    is_open=st.booleans(),
    data=st.data(),
)
def test_plans_bring_every_wanted_frame(
    groups: list[list[int]], is_open: bool, data: st.DataObject
) -> None:
    """Each requested position once, within its run, from a key packet, and in order."""
    pts, keys = _stored(groups, is_open)
    timeline = timeline_of(table_of(pts.tolist(), keys))
    positions = st.integers(0, len(pts) - 1)
    expected = np.array(sorted(data.draw(st.sets(positions, min_size=1))))
    runs = timeline.plan(expected, can_seek=True)
    assert [position for run in runs for position in run.requested] == expected.tolist()
    for run in runs:
        assert run.start_packet in keys
        assert timeline.position_of[run.start_packet] == run.start_position
        for position in range(run.start_position, run.requested[-1] + 1):
            assert run.start_packet <= timeline.packet_indices[position] <= run.last_packet
    decoded = sum(run.last_packet - run.start_packet + 1 for run in runs)
    assert decoded <= int(timeline.packet_indices[: expected[-1] + 1].max()) + 1 + 3 * len(runs)
