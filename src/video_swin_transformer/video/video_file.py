"""Frame-accurate reading of video files with minimal decoding.

    VideoFile       determines the frames of a video and reads the requested ones
    PacketDecoder   demuxes packets into the packet table, and decodes packets into numbered frames
    FrameConverter  converts decoded frames to RGB, rotated for display

The frame sequence is that of a complete decode. It is determined in one of two ways:

decoded    The whole video is decoded once. This is always correct. It is used for short videos,
           and for formats whose packets do not determine the frames (avi, mpeg, ts, gif, ...).
           Decoded frames are kept in their native pixel format if they fit in MAX_KEPT_BYTES.
indexed    For long videos in mp4/mov and mkv/webm with one frame per packet, the sequence is
           determined by the pts of the packets. Requested frames are decoded from the preceding
           key frame, and each decoded frame is compared with that sequence. On a mismatch the
           video is decoded from the start, and on another mismatch completely.

To identify the packet of a decoded frame, the packet index is written to the pts of the packet,
which decoders copy to the frame. This also works if pts are missing or repeated, and it reveals
lost frames.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import VideoDecodeError
from .arrays import Ints, Pixels
from .container import (
    MAX_PIXELS,
    decode_error,
    expected_end,
    is_complete_gif,
    is_library_error,
    open_container,
    require_size,
    translate_errors,
)
from .packet_table import MAX_PACKETS, UNKNOWN, PacketTable, Run, Timeline

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    NumberedPackets: TypeAlias = Iterator[tuple[int, Packet[VideoStream]]]
    NumberedFrames: TypeAlias = Iterator[tuple[int, VideoFrame]]

MAX_KEPT_BYTES = 128 * 2**20  # of decoded frames; about 1000 frames of 320x240
NUM_HEAD_FRAMES = 6  # decoded on opening to verify the sequence and to get size and orientation

_INDEXABLE_FORMATS = frozenset({"mov", "matroska"})
_SEEKABLE_FORMATS = frozenset({"mov", "matroska", "avi"})
_ONE_TO_ONE_CODECS = frozenset(
    {"h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mjpeg", "prores", "dnxhd", "ffv1"}
)
# Decoders that can skip non-reference frames.
_SKIPPING_CODECS = frozenset({"h264", "hevc"})
# Frames depend on all previous ones, or key frame flags are unreliable.
_UNSEEKABLE_CODECS = frozenset({"gif", "apng", "png", "qtrle", "flashsv", "flashsv2", "cinepak"})
# This decoder conceals damage and flags the frame, which is more precise than an error. All others
# conceal it silently or not at all, so they are configured to raise an error.
_FLAGGING_CODECS = frozenset({"h264"})

MIN_FRAMES_BEFORE_REQUESTED = 8  # decoded without skipping, so that they are verified


@dataclass
class _CompleteDecode:
    """The result of a complete decode."""

    order: list[int] = field(default_factory=list)  # packet indices in output order
    corrupt: list[int] = field(default_factory=list)  # packet indices of damaged frames
    frames: list[VideoFrame] | None = field(default_factory=list)  # None: too many to keep
    num_bytes: int = 0

    def add(self, packet_index: int, frame: VideoFrame) -> None:
        self.order.append(packet_index)
        if frame.is_corrupt:
            self.corrupt.append(packet_index)
        if self.frames is not None:
            self.frames.append(frame)
            self.num_bytes += sum(plane.buffer_size for plane in frame.planes)
            if self.num_bytes > MAX_KEPT_BYTES:
                self.frames = None


class VideoFile:
    """A video file.

    Args:
        path: Path of the file.
        name: Name for messages.

    Raises:
        VideoDecodeError: The file is not a complete, decodable video.
    """

    num_frames: int
    fps: float | None
    times_seconds: NDArray[np.float64] | None
    height: int
    width: int

    def __init__(self, path: str, name: str) -> None:
        self._name = name
        self._kept: dict[int, VideoFrame] = {}  # position -> frame, for short videos
        self._seek_single_threaded = False
        self._decoder = PacketDecoder(path, name)
        try:
            self._can_seek = (
                self._decoder.format in _SEEKABLE_FORMATS
                and self._decoder.codec not in _UNSEEKABLE_CODECS
            )
            self._is_indexable = (
                self._decoder.format in _INDEXABLE_FORMATS
                and self._decoder.codec in _ONE_TO_ONE_CODECS
            )
            if not self._try_index():
                self._decode_all()
            self._set_times()
        except IndexMismatchError as error:
            self.close()
            raise self._file_changed() from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file and frees its frames. Can be called repeatedly."""
        self._kept = {}
        self._decoder.close()

    def read(self, positions: Ints) -> Iterator[tuple[int, Pixels]]:
        """Yields the frames at `positions` (increasing), each as (position, RGB pixels).

        A frame is yielded again if the first attempt had a mismatch.
        """
        self._reject_damaged(positions)
        try:
            for position, frame in self._frames_at(positions):
                with translate_errors(self._name, f"converting frame {position}"):
                    pixels = self._converter.to_rgb(frame)
                yield position, pixels
        except IndexMismatchError as error:
            raise self._file_changed() from error
        self._reject_damaged(positions)

    def _frames_at(self, positions: Ints) -> NumberedFrames:
        """Tries seeking; on a mismatch decodes from the start, then completely."""
        if self._kept:
            yield from ((position, self._kept[position]) for position in positions.tolist())
            return
        # After a seek into an open GOP, the strict h264 decoder reports errors, unlike the lenient
        # single-threaded one. The mode that worked is used first from then on.
        for single_threaded in (False, True) if self._can_seek else (False,):
            if self._seek_single_threaded and not single_threaded:
                continue
            try:
                yield from self._decode_runs(positions, single_threaded=single_threaded)
                self._seek_single_threaded = single_threaded
                return
            except IndexMismatchError:
                pass
        try:
            yield from self._decode_single_threaded(positions)
            # Without damage, the mismatch was caused by seeking.
            self._can_seek = self._can_seek and bool(self._timeline.damaged.any())
        except IndexMismatchError:
            self._decode_all()
            self._set_times()
            if positions[-1] >= self.num_frames:
                raise decode_error(
                    self._name,
                    f"it declares more frames than the {self.num_frames} that can be decoded",
                ) from None
            self._reject_damaged(positions)
            yield from self._decode_single_threaded(positions)

    def _decode_runs(self, positions: Ints, *, single_threaded: bool) -> NumberedFrames:
        if not self._can_seek or single_threaded != self._decoder.is_single_threaded:
            self._decoder.rewind(single_threaded=single_threaded)
        for run in self._timeline.plan(positions, can_seek=self._can_seek):
            yield from self._decode_run(run, is_trial=True)

    def _decode_single_threaded(self, positions: Ints) -> NumberedFrames:
        self._decoder.rewind(single_threaded=True)
        run = self._timeline.plan(positions, can_seek=False)[0]
        yield from self._decode_run(run, is_trial=False)

    def _file_changed(self) -> VideoDecodeError:
        return decode_error(self._name, "the file changed while it was being read")

    def _reject_damaged(self, positions: Ints) -> None:
        bad = positions[self._timeline.damaged[positions]]
        if len(bad):
            raise decode_error(
                self._name,
                f"frame {bad[0]} of {self.num_frames} is damaged or depends on a damaged one",
            )

    # Which frames there are -----------------------------------------------------------------

    def _try_index(self) -> bool:
        """Builds the timeline from the packets. Returns False if that is not reliable."""
        if not self._is_indexable or self._decoder.estimated_bytes() <= MAX_KEPT_BYTES:
            return False
        for _ in self._decoder.packets():
            pass
        order = self._decoder.table.display_order()
        if order is None:
            return False
        self._timeline = Timeline(order, self._decoder.table, one_to_one=True)
        head = np.arange(min(NUM_HEAD_FRAMES, len(order)), dtype=np.int64)
        try:
            frames = [frame for _, frame in self._decode_runs(head, single_threaded=False)]
        except IndexMismatchError:
            return False
        self._set_size(frames[0])
        self.num_frames = len(order)
        return True

    def _decode_all(self) -> None:
        """Decodes the whole video and builds the timeline from the output."""
        is_short = self._decoder.estimated_bytes() <= MAX_KEPT_BYTES
        # Threads are of little use for short videos.
        single_threaded = self._decoder.flags_damage and is_short
        complete = self._decode_completely(single_threaded=single_threaded)
        indexed = self._decoder.table.display_order() if self._is_indexable else None
        if not single_threaded and self._has_mismatch(complete, indexed):
            complete = self._decode_completely(single_threaded=True)
        table = self._decoder.table
        # Frames before the first key packet cannot be decoded; that is not damage.
        first_key = int(table.keys[0]) if len(table.keys) else 0
        faults = [fault for fault in self._decoder.faults if fault >= first_key]
        if not complete.order:
            cause = "all its frames are damaged" if faults else "it contains no displayed frame"
            raise decode_error(self._name, cause)
        decoded = np.asarray(complete.order, np.int64)
        if indexed is not None and not faults and not np.array_equal(decoded, indexed):
            indexed = None  # nothing is damaged; the packets do not determine the frames
        order = decoded if indexed is None else indexed
        timeline = Timeline(order, table, one_to_one=indexed is not None)
        damaged = complete.corrupt + np.flatnonzero(np.frombuffer(table.corrupt, np.uint8)).tolist()
        if indexed is not None:
            damaged += np.setdiff1d(indexed, decoded).tolist()
        elif faults:
            damaged += decoded[decoded >= faults[0]].tolist()
        if damaged:
            timeline.mark_damaged(damaged)
        if indexed is None and faults:  # the number of lost frames is unknown
            timeline.damaged |= np.cumsum(timeline.damaged) > 0
        self._timeline = timeline
        self.num_frames = len(order)
        self._can_seek = self._can_seek and timeline.unique
        self._keep_frames(complete)

    def _decode_completely(self, *, single_threaded: bool) -> _CompleteDecode:
        complete = _CompleteDecode()
        self._decoder.rewind(single_threaded=single_threaded)
        for packet_index, frame in self._decoder.frames(self._decoder.packets()):
            if not complete.order:
                self._set_size(frame)
            complete.add(packet_index, frame)
        return complete

    def _has_mismatch(self, complete: _CompleteDecode, indexed: Ints | None) -> bool:
        return bool(
            self._decoder.faults
            or complete.corrupt
            or (indexed is not None and complete.order != indexed.tolist())
        )

    def _keep_frames(self, complete: _CompleteDecode) -> None:
        if complete.frames is None:
            return
        where = range(len(complete.order))
        positions = self._timeline.position_of[complete.order] if self._timeline.unique else where
        self._kept = dict(zip(map(int, positions), complete.frames, strict=True))

    def _set_size(self, first: VideoFrame) -> None:
        require_size(self._name, first.width, first.height)
        self._converter = FrameConverter(first)
        self.height, self.width = self._converter.height, self._converter.width

    def _set_times(self) -> None:
        """Sets the frame times and the average frame rate (the container's, if consistent)."""
        ticks = self._timeline.times(self._decoder.table)
        seconds_per_tick = self._decoder.seconds_per_tick
        self.times_seconds = None
        self.fps = None
        if ticks is not None and seconds_per_tick:
            self.times_seconds = np.multiply(ticks, seconds_per_tick, dtype=np.float64)
            duration_seconds = int(ticks[-1]) * seconds_per_tick
            if duration_seconds > 0:
                self.fps = (self.num_frames - 1) / duration_seconds
        declared_fps = self._decoder.rate
        if declared_fps and (self.fps is None or abs(declared_fps / self.fps - 1) < 0.01):
            # Exact, such as 30000/1001, unlike the value from rounded times.
            self.fps = declared_fps

    # Decoding ------------------------------------------------------------------------------

    def _decode_run(self, run: Run, *, is_trial: bool) -> NumberedFrames:
        """Decodes one run and yields its requested frames.

        In a trial, any irregularity raises IndexMismatchError. Otherwise damaged frames are marked
        and skipped, and only unexplained differences raise it. Frames after the last requested one
        are checked, too, since a B-frame is displayed before the damaged frame it references.
        """
        decoder, timeline = self._decoder, self._timeline
        is_seek = is_trial and self._can_seek
        decoder.faults = []
        packets = decoder.packets_from(run.start_packet) if is_seek else decoder.packets()
        last = run.last_packet if timeline.one_to_one else None
        may_skip = is_seek and timeline.one_to_one and decoder.codec in _SKIPPING_CODECS
        needed = sorted(timeline.packet_indices[list(run.requested)].tolist()) if may_skip else None
        pending = list(reversed(run.requested))
        expected, has_started = run.start_position, False
        extra: list[int] = []
        for packet_index, frame in decoder.frames(packets, last, needed):
            position = int(timeline.position_of[packet_index]) if timeline.unique else expected
            if is_seek and not has_started and position < expected:
                continue  # displayed before the key frame: not decodable from here
            has_started = True
            if is_trial and (decoder.faults or frame.is_corrupt):
                raise IndexMismatchError
            if frame.is_corrupt:
                timeline.mark_damaged([packet_index])
            if not pending:
                extra.append(packet_index)
                continue
            if decoder.faults and position != expected:
                lost = slice(expected, position) if position > expected else slice(position, None)
                timeline.mark_damaged(timeline.packet_indices[lost].tolist())
                expected = position
            elif may_skip and expected < position <= pending[-1]:
                expected = position
            if position != expected or timeline.packet_indices[position] != packet_index:
                raise IndexMismatchError
            while pending and pending[-1] <= position:
                if pending.pop() == position:
                    yield position, frame
            expected += 1
            if not pending and last is None:  # damage is known from the complete decode
                return
        if (decoder.faults and is_trial) or (pending and not decoder.faults):
            raise IndexMismatchError
        if decoder.faults:
            missing = np.setdiff1d(timeline.packet_indices[expected:], extra)
            timeline.mark_damaged(missing[missing <= run.last_packet].tolist())


class IndexMismatchError(Exception):
    """Packets differ from the packet table, or frames from the indexed sequence.

    Internal to this module.
    """


class PacketDecoder:
    """A container and its decoder.

    Args:
        path: Path of the file.
        name: Name for messages.

    Attributes:
        table: The packet metadata, complete after the first pass over all packets.
        faults: Packet indices at which the decoder reported an error since the last reset.
    """

    def __init__(self, path: str, name: str) -> None:
        self._path, self._name = path, name
        self.table = PacketTable()
        self._is_complete = False  # whether the table is complete
        self.faults: list[int] = []
        self._is_fresh = False
        self.rewind()

    def rewind(self, *, single_threaded: bool = False) -> None:
        """Reopens the container with a new decoder.

        By default, the decoder is multi-threaded and strict. With `single_threaded`, errors and
        flags are guaranteed to belong to the last packet; with threads, FFmpeg may lose the flags
        of non-reference frames.
        """
        self.faults = []
        if not self._is_fresh:
            self.close()
            self._container, self._stream = open_container(self._path, self._name)
            self._is_fresh = True
        context = self._stream.codec_context
        self.codec = str(context.name)
        self.format = self._container.format.name.split(",")[0]
        context.thread_type = "AUTO"  # frame or slice threading, depending on the codec
        context.thread_count = 1 if single_threaded else 0
        self.is_single_threaded = single_threaded
        is_lenient = single_threaded and self.flags_damage
        context.options = {
            "max_pixels": str(MAX_PIXELS),
            "err_detect": "crccheck" if is_lenient else "crccheck+explode",
        }

    def close(self) -> None:
        """Closes the file. Can be called repeatedly."""
        if hasattr(self, "_container"):
            self._stream.codec_context.flush_buffers()  # waits for decoder threads
            self._container.close()

    @property
    def flags_damage(self) -> bool:
        """Whether the decoder flags damaged frames (reliably only when single-threaded)."""
        return self.codec in _FLAGGING_CODECS

    @property
    def rate(self) -> float | None:
        """Average frames per second according to the container; None if unknown."""
        rate = self._stream.average_rate
        return float(rate) if rate else None

    @property
    def seconds_per_tick(self) -> float | None:
        """Time base of the packet table in seconds; None if unknown."""
        time_base = self._stream.time_base
        return float(time_base) if time_base else None

    def estimated_bytes(self) -> float:
        """Memory of all decoded frames (before conversion to RGB); infinite if unknown."""
        num_frames = float(self._stream.frames)
        duration = self._container.duration  # microseconds
        if num_frames <= 0 and duration and self.rate:
            num_frames = duration / 1e6 * self.rate
        if num_frames <= 0:
            return float("inf")
        context = self._stream.codec_context
        return num_frames * context.width * context.height * 1.5

    # Packets -------------------------------------------------------------------------------

    def packets(self) -> NumberedPackets:
        """Yields all packets of a newly opened file. The first complete pass builds the table."""
        self.table = self.table if self._is_complete else PacketTable()
        for packet_index, packet in enumerate(self._demuxed()):
            if not self._is_complete:
                self._record(packet)
            else:
                self._compare(packet_index, packet)
            yield packet_index, packet
        if not self._is_complete:
            self._require_complete()
            self._is_complete = True

    def packets_from(self, key_packet: int) -> NumberedPackets:
        """Seeks, and yields packets from `key_packet` or an earlier key packet."""
        import av

        for times in (self.table.pts, self.table.dts):  # containers seek by pts or dts
            if times[key_packet] == UNKNOWN:
                continue
            try:
                self._container.seek(times[key_packet], stream=self._stream)
            except av.FFmpegError:
                continue
            packets = self._demuxed()
            first = next(packets, None)
            packet_index = -1 if first is None else self._seek_target(first, key_packet)
            if first is not None and packet_index >= 0:
                break
        else:
            raise IndexMismatchError
        yield packet_index, first
        for packet in packets:
            packet_index += 1
            self._compare(packet_index, packet)
            yield packet_index, packet

    def _demuxed(self) -> Iterator[Packet[VideoStream]]:
        self._is_fresh = False
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except Exception as error:
                if not (is_library_error(error) or isinstance(error, (OSError, ValueError))):
                    raise
                if self._is_complete:  # the first pass succeeded
                    raise IndexMismatchError from error
                raise self._truncated(len(self.table.pts)) from error
            if packet is None:
                return
            if packet.size:  # empty: a dropped frame (avi) or the end of the stream
                yield packet

    def _record(self, packet: Packet[VideoStream]) -> None:
        table = self.table
        if len(table.pts) >= MAX_PACKETS:
            raise decode_error(self._name, f"it has more than {MAX_PACKETS} packets")
        table.pts.append(UNKNOWN if packet.pts is None else packet.pts)
        table.dts.append(UNKNOWN if packet.dts is None else packet.dts)
        table.pos.append(UNKNOWN if packet.pos is None else packet.pos)
        table.size.append(packet.size)
        table.key.append(packet.is_keyframe)
        table.hidden.append(packet.is_discard or _is_hidden(self.codec, packet))
        table.corrupt.append(packet.is_corrupt or _is_partial(self.codec, packet))

    def _compare(self, packet_index: int, packet: Packet[VideoStream]) -> None:
        table = self.table
        pos = UNKNOWN if packet.pos is None else packet.pos
        if packet_index >= len(table):
            raise IndexMismatchError
        if (table.pos[packet_index], table.size[packet_index]) != (pos, packet.size):
            raise IndexMismatchError

    def _seek_target(self, packet: Packet[VideoStream], key_packet: int) -> int:
        """Returns the packet index of the key packet that a seek reached; -1 if it is unknown."""
        for packet_index in self.table.keys[self.table.keys <= key_packet][::-1].tolist():
            if (
                self.table.pos[packet_index] == packet.pos
                and self.table.size[packet_index] == packet.size
            ):
                return int(packet_index)
        return -1

    def _require_complete(self) -> None:
        """Raises VideoDecodeError if the file is truncated."""
        table = self.table
        num_packets = len(table.pts)
        if num_packets == 0:
            raise decode_error(self._name, "its video stream contains no frames")
        declared = 0
        if self.format == "mov":
            # FFmpeg's sample table; not available in older versions of PyAV.
            declared = len(getattr(self._stream, "index_entries", ()))
        # The last packet may be the remainder of a partial one before it.
        is_partial = any(table.corrupt[-2:])
        if is_partial or declared > num_packets or self._ends_early():
            num_whole = len((table.corrupt[:-1] + b"\1").rstrip(b"\1"))
            raise self._truncated(num_whole if is_partial else num_packets)

    def _ends_early(self) -> bool:
        """Whether the file is shorter than its container declares."""
        with Path(self._path).open("rb") as file:
            end = expected_end(self.format, file)
            return end is not None and end > file.seek(0, os.SEEK_END)

    def _truncated(self, num_frames: int) -> VideoDecodeError:
        return decode_error(
            self._name,
            f"the file is truncated or damaged after {num_frames} readable frames; "
            "copy or download it again",
        )

    # Frames --------------------------------------------------------------------------------

    def frames(
        self, packets: NumberedPackets, last: int | None = None, needed: list[int] | None = None
    ) -> Iterator[tuple[int, VideoFrame]]:
        """Yields (packet index, frame) in output order. Decoder errors are added to `faults`.

        Args:
            packets: Numbered packets.
            last: Packet after which the decoder is flushed; None means after all packets.
            needed: Packet indices of the needed frames, increasing. Non-reference frames long
                before the next needed frame are skipped, which saves a third of the decoding time.
        """
        context = self._stream.codec_context
        last_sent = 0
        upcoming = list(reversed(needed or ()))
        for packet_index, packet in packets:
            packet.pts = packet.dts = last_sent = packet_index
            if needed is not None:
                while upcoming and upcoming[-1] < packet_index:
                    upcoming.pop()
                is_far = (
                    bool(upcoming) and upcoming[-1] - packet_index > MIN_FRAMES_BEFORE_REQUESTED
                )
                context.skip_frame = "NONREF" if is_far else "DEFAULT"
            yield from self._decoded(packet, last_sent)
            if packet_index == last:
                break
        context.skip_frame = "DEFAULT"
        yield from self._decoded(None, last_sent)

    def _decoded(
        self, packet: Packet[VideoStream] | None, last_sent: int
    ) -> Iterator[tuple[int, VideoFrame]]:
        import av

        try:
            frames = self._stream.codec_context.decode(packet)
        except (av.FFmpegError, MemoryError):
            self.faults.append(last_sent)
            return
        for frame in frames:
            if frame.pts is None or not 0 <= frame.pts <= last_sent:
                raise decode_error(
                    self._name, f"the decoder {self.codec} does not preserve packet numbers"
                )
            yield frame.pts, frame


def _is_partial(codec: str, packet: Packet[VideoStream]) -> bool:
    """Whether a gif image is truncated; demuxer and decoder do not report this."""
    return codec == "gif" and not is_complete_gif(bytes(packet))


def _is_hidden(codec: str, packet: Packet[VideoStream]) -> bool:
    """Whether the frame of a packet is not displayed (VP8 alternate reference frames)."""
    return codec == "vp8" and not bytes(packet)[0] & 0x10


class FrameConverter:
    """Converts frames to (H, W, 3) uint8 RGB with the size and orientation of the first frame.

    The color matrix and range of the stream are used (by default BT.601, limited range). 10 and
    12 bit samples are reduced to 8 bit, and alpha is dropped. Frames of a different size are
    scaled.

    Args:
        first: The first frame.
    """

    def __init__(self, first: VideoFrame) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()  # one for all frames: creating it is slow
        self._stored_width, self._stored_height = first.width, first.height
        self._matrix = _display_matrix(first)
        is_rotated = self._matrix is not None and _is_transposed(self._matrix)
        stored = (first.height, first.width)
        self.height, self.width = stored[::-1] if is_rotated else stored

    def to_rgb(self, frame: VideoFrame) -> Pixels:
        """Converts and rotates a frame: (H, W, 3) uint8 RGB."""
        rgb = self._reformatter.reformat(
            frame, width=self._stored_width, height=self._stored_height, format="rgb24"
        )
        pixels: Pixels = np.asarray(rgb.to_ndarray(), np.uint8)
        return pixels if self._matrix is None else _upright(pixels, self._matrix)


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int] | None:
    """Returns (a, b, c, d) of the display matrix (x' = a x + c y, y' = b x + d y), if any."""
    try:
        data = frame.side_data["DISPLAYMATRIX"]  # type: ignore[typeddict-item]
    except (KeyError, ValueError):  # ValueError: side data that PyAV does not know
        return None
    values = np.frombuffer(bytes(data), np.int32)
    if len(values) != 9:
        return None
    a, b, c, d = (int(values[i]) for i in (0, 1, 3, 4))
    return None if (a > 0 and d > 0 and b == c == 0) else (a, b, c, d)


def _is_transposed(matrix: tuple[int, int, int, int]) -> bool:
    a, b, c, d = matrix
    return abs(b) + abs(c) > abs(a) + abs(d)


def _upright(pixels: Pixels, matrix: tuple[int, int, int, int]) -> Pixels:
    """Applies the nearest 90 degree rotation and flip; returns a view."""
    a, b, c, d = matrix
    if _is_transposed(matrix):
        pixels = pixels.transpose(1, 0, 2)
        a, d = c, b  # the axes are swapped
    if a < 0:
        pixels = pixels[:, ::-1]
    if d < 0:
        pixels = pixels[::-1]
    return pixels
