"""Frame-accurate reading of video files with minimal decoding.

    VideoFile       determines the frames of a video and reads the requested ones
    PacketDecoder   demuxes packets into the packet table, and decodes packets into numbered frames
    FrameConverter  converts decoded frames to RGB, rotated for display

The frame sequence is that of a complete decode. It is determined in one of two ways:

decoded    The whole video is decoded once. This is always correct. It is used for short videos,
           and for formats whose packets do not determine the frames (avi, mpeg, ts, gif, ...).
           Decoded frames are kept in their native pixel format if they fit in MAX_KEPT_BYTES.
indexed    For long videos in mp4/mov and mkv/webm, the sequence is determined by the pts of the
           packets if the headers of all packets show that each is one frame (bitstream.py).
           Requested frames are decoded from the preceding key frame, and each decoded frame is
           compared with that sequence. On a mismatch the video is decoded from the start, and on
           another mismatch completely.

A decoder may complain about data that influences no picture, such as a truncated message. So after
a complaint the packets are decoded again by a tolerant decoder, and only frames that it loses or
flags count as damaged.

To identify the packet of a decoded frame, the packet index is written to the pts of the packet,
which decoders copy to the frame. This also works if pts are missing or repeated, and it reveals
lost frames.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import VideoDecodeError
from .arrays import Ints, Pixels
from .bitstream import NalParser, PacketContent, ReadBytes, parser_for
from .container import (
    MAX_PIXELS,
    decode_error,
    expected_end,
    is_complete_gif,
    is_library_error,
    open_container,
    require_possible_samples,
    require_size,
    translate_errors,
)
from .integrity import (
    count_apng_frames,
    count_avi_chunks,
    count_gif_images,
    count_matroska_blocks,
    is_whole_ogg,
    scan_transport_stream,
)
from .packet_table import MAX_PACKETS, UNKNOWN, PacketTable, Run, Timeline
from .sample_table import composition_offsets

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    NumberedPackets: TypeAlias = Iterator[tuple[int, Packet[VideoStream]]]
    NumberedFrames: TypeAlias = Iterator[tuple[int, VideoFrame]]

MAX_KEPT_BYTES = 128 * 2**20  # of decoded frames; about 1000 frames of 320x240
NUM_HEAD_FRAMES = 6  # decoded on opening to verify the sequence and to get size and orientation

_INDEXABLE_FORMATS = frozenset({"mov", "matroska"})
# Their packets have presentation times.
_TIMED_FORMATS = frozenset({"mov", "matroska", "mpegts", "mpeg", "flv", "asf", "nut", "mxf"})
_SEEKABLE_FORMATS = frozenset({"mov", "matroska", "avi"})
# Decoders that can skip non-reference frames.
_SKIPPING_CODECS = frozenset({"h264", "hevc"})
# Frames depend on all previous ones, or key frame flags are unreliable.
_UNSEEKABLE_CODECS = frozenset({"gif", "apng", "png", "qtrle", "flashsv", "flashsv2", "cinepak"})
# This decoder conceals damage and flags the frame, which is more precise than an error. All others
# conceal it silently or not at all, so they are configured to raise an error.
_FLAGGING_CODECS = frozenset({"h264"})
# A strict decoder rejects every tiff with a tag that it does not know, such as a resolution.
_LENIENT_CODECS = frozenset({"tiff"})
# If a decoder complains about at least this share of the packets, and about this many, but decodes
# all of them nevertheless, the complaint is about how the file was written.
_MIN_SHARE_OF_HABITUAL_COMPLAINTS = 0.5
_MIN_HABITUAL_COMPLAINTS = 4

_MIN_SKIPPED_BYTES = 32  # of a damaged file, between packets
_MANY_PACKETS = 2000  # walking through them takes 5 ms

# FFmpeg's own limit for a jump of the clock, in formats that allow it.
MAX_GAP_SECONDS = 10

MAX_PIXELS_FOR_ALL_THREADS = 2**25  # of a frame: 8K
# A file whose decoder fails so often without any frame in between is given up.
MAX_FAULTS_IN_A_ROW = 10_000

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
        allow_truncated: Read a file whose end is missing up to its last intact frame.

    Raises:
        VideoDecodeError: The file is not a complete, decodable video.
    """

    num_frames: int
    fps: float | None
    times_seconds: NDArray[np.float64] | None
    height: int
    width: int

    def __init__(self, path: str, name: str, *, allow_truncated: bool = False) -> None:
        self._name = name
        self._kept: dict[int, VideoFrame] = {}  # position -> frame, for short videos
        self._is_tolerant = False  # whether the tolerant decoder is used from the start
        self._decoder = PacketDecoder(path, name, allow_truncated=allow_truncated)
        try:
            self._can_seek = (
                self._decoder.format in _SEEKABLE_FORMATS
                and self._decoder.codec not in _UNSEEKABLE_CODECS
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
        # After a seek into an open GOP, the strict h264 decoder reports errors, unlike the tolerant
        # one. The mode that worked is used first from then on.
        for tolerant in (False, True) if self._can_seek else (self._is_tolerant,):
            if self._is_tolerant and not tolerant:
                continue
            try:
                yield from self._decode_runs(positions, tolerant=tolerant)
                self._is_tolerant = tolerant
                return
            except IndexMismatchError:
                pass
        try:
            yield from self._decode_from_start(positions)
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
            yield from self._decode_from_start(positions)

    def _decode_runs(self, positions: Ints, *, tolerant: bool) -> NumberedFrames:
        if not self._can_seek or tolerant != self._decoder.is_tolerant:
            self._decoder.rewind(tolerant=tolerant)
        for run in self._timeline.plan(positions, can_seek=self._can_seek):
            yield from self._decode_run(run, is_trial=True)

    def _decode_from_start(self, positions: Ints) -> NumberedFrames:
        self._decoder.rewind(tolerant=True)
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
        if self._decoder.allow_truncated:
            return False  # the index of a truncated file lists frames that are not there
        is_indexable = self._decoder.format in _INDEXABLE_FORMATS
        if not is_indexable or self._decoder.estimated_bytes() <= MAX_KEPT_BYTES:
            return False
        if not self._decoder.read_sample_table():
            for _ in self._decoder.packets():
                pass
        order = self._decoder.display_order()
        table = self._decoder.table
        is_malformed = PacketContent.MALFORMED in table.content
        if order is None or is_malformed or table.undecodable.any():
            return False
        self._timeline = Timeline(order, self._decoder.table, one_to_one=True)
        head = np.arange(min(NUM_HEAD_FRAMES, len(order)), dtype=np.int64)
        try:
            frames = [frame for _, frame in self._decode_runs(head, tolerant=False)]
        except IndexMismatchError:
            return False
        self._set_size(frames[0])
        self.num_frames = len(order)
        self._mark_packet_damage()
        return True

    def _decode_all(self) -> None:
        """Decodes the whole video and builds the timeline from the output."""
        decoder = self._decoder
        is_short = decoder.estimated_bytes() <= MAX_KEPT_BYTES
        # Threads are of little use for short videos.
        tolerant = decoder.flags_damage and is_short
        complete = self._decode_completely(tolerant=tolerant)
        if len(decoder.table.part_starts) > 1:  # known now: the decoder starts anew at each joint
            complete = self._decode_completely(tolerant=tolerant)
        indexed = decoder.display_order()
        if not tolerant and self._has_mismatch(complete, indexed):
            complete = self._decode_completely(tolerant=True)
            if self._has_habitual_complaints():
                decoder.is_lenient = True
                lenient = self._decode_completely(tolerant=True)
                decoder.is_lenient = not (decoder.faults or lenient.corrupt)
                complete = lenient if decoder.is_lenient else complete
        table = self._decoder.table
        # Frames before the first key frame cannot be decoded; that is not damage.
        faults = [fault for fault in decoder.faults if not table.undecodable[fault]]
        if not complete.order:
            cause = "all its frames are damaged" if faults else "it contains no displayed frame"
            raise decode_error(self._name, cause)
        decoded = np.asarray(complete.order, np.int64)
        if indexed is not None and not faults and not np.array_equal(decoded, indexed):
            indexed = None  # nothing is damaged; the packets do not determine the frames
        order = decoded if indexed is None else indexed
        timeline = Timeline(order, table, one_to_one=indexed is not None)
        damaged = complete.corrupt
        if indexed is not None:
            damaged += np.setdiff1d(indexed, decoded).tolist()
        elif faults:
            damaged += decoded[decoded >= faults[0]].tolist()
            if not damaged and not decoder.allow_truncated:
                raise decoder.truncated(len(decoded))
        if damaged:
            timeline.mark_damaged(damaged)
        self._timeline = timeline
        self._mark_packet_damage()
        if indexed is None and faults:  # the number of lost frames is unknown
            timeline.damaged |= np.cumsum(timeline.damaged) > 0
        self.num_frames = len(order)
        if decoder.allow_truncated:
            if decoder.is_truncated:
                timeline.mark_damaged([len(table) - 1])  # its end may be missing
            self.num_frames = self._num_intact()
        self._can_seek = self._can_seek and timeline.unique
        self._keep_frames(complete)

    def _num_intact(self) -> int:
        """The number of frames up to the last one that is not damaged."""
        intact = np.flatnonzero(~self._timeline.damaged)
        if not len(intact):
            raise decode_error(self._name, "all its frames are damaged")
        num_frames = int(intact[-1]) + 1
        if self._decoder.is_truncated or num_frames < len(self._timeline):
            _log.warning("%s is truncated; %d frames are left.", self._name, num_frames)
        return num_frames

    def _mark_packet_damage(self) -> None:
        """Marks damage that the packets show, whether the decoder noticed it or not."""
        timeline, table = self._timeline, self._decoder.table
        lacking = np.flatnonzero(np.frombuffer(table.lacks_reference, np.uint8))
        is_key = np.isin(lacking, table.keys)
        malformed = np.flatnonzero(
            np.frombuffer(table.content, np.uint8) == PacketContent.MALFORMED
        )
        # Damage may begin at the end of the packet before a malformed one.
        neighbors = malformed[malformed > 0] - 1
        if damaged := np.concatenate([lacking[~is_key], malformed, neighbors]).tolist():
            timeline.mark_damaged(damaged)
        if corrupt := self._decoder.corrupt_packets():
            timeline.mark_damaged(corrupt, is_loss=True)
        # Some decoders output garbage instead.
        timeline.damaged |= table.undecodable[timeline.packet_indices]

    def _has_habitual_complaints(self) -> bool:
        num_complaints = len(self._decoder.faults)
        min_complaints = _MIN_SHARE_OF_HABITUAL_COMPLAINTS * len(self._decoder.table)
        return num_complaints >= max(min_complaints, _MIN_HABITUAL_COMPLAINTS)

    def _decode_completely(self, *, tolerant: bool) -> _CompleteDecode:
        complete = _CompleteDecode()
        self._decoder.rewind(tolerant=tolerant)
        for packet_index, frame in self._decoder.frames(self._decoder.packets()):
            if not complete.order:
                self._set_size(frame)
            complete.add(packet_index, frame)
        return complete

    def _has_mismatch(self, complete: _CompleteDecode, indexed: Ints | None) -> bool:
        if indexed is None:  # with threads, an error at the end of the stream can be lost
            differs = len(complete.order) < len(self._decoder.table)
        else:
            differs = complete.order != indexed.tolist()
        return bool(self._decoder.faults or complete.corrupt or differs)

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
        allow_truncated: Read files whose end is missing.

    Attributes:
        is_truncated: Whether the end is missing.
        table: The packet metadata, complete after the first pass over all packets.
        faults: Packet indices at which the decoder reported an error since the last reset.
        is_lenient: Whether a tolerant decoder raises errors only if it cannot continue.
        is_tolerant: Whether the current decoder is tolerant; see `rewind`.
    """

    def __init__(self, path: str, name: str, *, allow_truncated: bool = False) -> None:
        self._path, self._name = path, name
        self.allow_truncated = allow_truncated
        self.is_truncated = False
        self.table = PacketTable()
        self._is_complete = False  # whether the table is complete
        self.faults: list[int] = []
        self._num_faults_in_a_row = 0
        self.is_lenient = False
        self._is_fresh = False
        require_possible_samples(path, name)
        self.rewind()

    def rewind(self, *, tolerant: bool = False) -> None:
        """Reopens the container with a new decoder.

        By default, the decoder is multi-threaded and strict. A tolerant decoder is single-threaded,
        since with threads errors and flags may belong to another packet, or be lost. It ignores
        messages, and a codec that flags damaged frames is not stopped by errors.
        """
        self.faults = []
        self._num_faults_in_a_row = 0
        if not self._is_fresh:
            self.close()
            self._container, self._stream = open_container(self._path, self._name)
            self._is_fresh = True
        context = self._stream.codec_context
        self.codec = str(context.name)
        self.format = self._container.format.name.split(",")[0]
        context.thread_type = "AUTO"  # frame or slice threading, depending on the codec
        # Each frame thread holds several frames.
        is_huge = context.width * context.height > MAX_PIXELS_FOR_ALL_THREADS
        context.thread_count = 1 if tolerant or is_huge else 0
        self.is_tolerant = tolerant
        is_lenient = tolerant and (self.flags_damage or self.is_lenient)
        is_lenient = is_lenient or self.codec in _LENIENT_CODECS
        context.options = {
            "max_pixels": str(MAX_PIXELS),
            "err_detect": "crccheck" if is_lenient else "crccheck+explode",
        }
        if self.codec == "h264":
            # Without this, frames are lost if the stream does not state the reorder depth.
            context.options["strict"] = "strict"
        self._parser = parser_for(self.codec, context.extradata)

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
        self.table = self.table if self._is_complete else self._new_table()
        for packet_index, packet in enumerate(self._demuxed()):
            if not self._is_complete:
                self._record(packet)
            else:
                self._compare(packet_index, packet)
            yield packet_index, packet
        if not self._is_complete:
            self._require_complete()
            self._is_complete = True

    def display_order(self) -> Ints | None:
        """Returns the packet indices in display order; None if packets do not determine it."""
        return self.table.display_order() if self.format in _TIMED_FORMATS else None

    def _new_table(self) -> PacketTable:
        from av.format import Flags

        seconds = self.seconds_per_tick
        may_jump = bool(Flags(self._container.format.flags) & Flags.ts_discont)
        if not seconds or not may_jump:
            return PacketTable()
        return PacketTable(max_gap=round(MAX_GAP_SECONDS / seconds))

    def read_sample_table(self) -> bool:
        """Fills the packet table from the header of an mp4 file, reading little of the frames.

        Returns:
            Whether that was possible. Otherwise, all packets have to be read.

        Raises:
            VideoDecodeError: The file ends before its last sample.
        """
        parser = self._parser
        if self.format != "mov" or not isinstance(parser, NalParser) or not parser.length_bytes:
            return False
        samples = list(getattr(self._stream, "index_entries", ()))  # not in older PyAV
        if not 0 < len(samples) <= MAX_PACKETS:
            return False
        offsets = composition_offsets(self._path, self._stream.id, len(samples))
        if offsets is None:
            return False
        first = next(self._demuxed(), None)
        if first is None or first.pts is None or first.pos != samples[0].pos:
            return False
        shift = first.pts - samples[0].timestamp - int(offsets[0])
        table = self._new_table()
        table.dts.extend(sample.timestamp for sample in samples)
        table.pts.extend((np.asarray(table.dts, np.int64) + offsets + shift).tolist())
        table.pos.extend(sample.pos for sample in samples)
        table.size.extend(sample.size for sample in samples)
        table.key.extend(sample.is_keyframe for sample in samples)
        table.corrupt.extend(bytes(len(samples)))
        with Path(self._path).open("rb", buffering=0) as file:
            file_end = file.seek(0, os.SEEK_END)
            for packet_index, sample in enumerate(samples):
                if sample.pos + sample.size > file_end:
                    raise self.truncated(packet_index)
                content = parser.content_by_parts(_reader_at(file, sample.pos), sample.size)
                table.content.append(PacketContent.HIDDEN if sample.is_discard else content)
                table.lacks_reference.append(parser.lacks_reference)
        self.table, self._is_complete = table, True
        return True

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
                raise self.truncated(len(self.table.pts)) from error
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
        content = self._parser.content(memoryview(packet))
        table.content.append(PacketContent.HIDDEN if packet.is_discard else content)
        table.lacks_reference.append(self._parser.lacks_reference)
        table.corrupt.append(packet.is_corrupt or _is_partial(self.codec, packet))

    def _compare(self, packet_index: int, packet: Packet[VideoStream]) -> None:
        table = self.table
        pos = UNKNOWN if packet.pos is None else packet.pos
        if packet_index >= len(table):
            raise IndexMismatchError
        if (table.pos[packet_index], table.size[packet_index]) != (pos, packet.size):
            raise IndexMismatchError
        if packet.pts is not None and packet.pts != table.pts[packet_index]:
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
        is_incomplete = declared > num_packets or self._ends_early() or self._lacks_blocks()
        self.is_truncated = is_partial or is_incomplete
        if self.is_truncated and not self.allow_truncated:
            num_packets = len(table)
            num_whole = len((table.corrupt[:-1] + b"\1").rstrip(b"\1"))
            raise self.truncated(num_whole if is_partial else num_packets)

    def _lacks_blocks(self) -> bool:
        """Whether the demuxer skipped a part of the file because it is damaged.

        Long matroska files are examined only if there is a gap between their packets, in time and
        in bytes.
        """
        if self.format == "avi":
            count = count_avi_chunks(self._path, self._stream.index)
            return count is None or count > len(self.table)
        if self.format == "gif":
            count = count_gif_images(self._path)
            return count is None or count > len(self.table)
        if self.format == "apng":
            with Path(self._path).open("rb") as file:
                return (count_apng_frames(file.read(4096)) or 0) > len(self.table)
        if self.format == "ogg":
            return not is_whole_ogg(self._path)
        if self.format != "matroska":
            return False
        if len(self.table) > _MANY_PACKETS and not self._has_gap():
            return False
        count = count_matroska_blocks(self._path, self._stream.index)
        return count is None or count > len(self.table)

    def _has_gap(self) -> bool:
        """Whether packets are missing in time and in bytes, or at the end."""
        table = self.table
        pts, pos, size = (
            np.asarray(values, np.int64) for values in (table.pts, table.pos, table.size)
        )
        seconds = float(self.seconds_per_tick or 0)
        duration = (self._container.duration or 0) / 1e6
        steps = np.diff(np.sort(pts[pts != UNKNOWN]))
        step = float(np.median(steps)) if len(steps) else 0.0
        gaps = pos[1:] - pos[:-1] - size[:-1]
        skips_bytes = len(gaps) and gaps.max() > _MIN_SKIPPED_BYTES
        skips_time = len(steps) and steps.max() > 1.5 * step
        ends_early = (pts.max() + 2 * step) * seconds < duration
        return bool((skips_bytes and skips_time) or ends_early)

    def corrupt_packets(self) -> list[int]:
        """Returns packets flagged by the demuxer as damaged, except at the joints of streams."""
        table = self.table
        corrupt = np.flatnonzero(np.frombuffer(table.corrupt, np.uint8)).tolist()
        if self.format != "mpegts":
            return corrupt
        scan = scan_transport_stream(self._path)
        at_breaks = np.searchsorted(np.asarray(table.pos), scan.breaks) - 1
        corrupt += np.maximum(at_breaks, 0).tolist()
        starts = set(table.part_starts.tolist())
        damaged = []
        for packet_index in corrupt:
            # The flag belongs to this packet or the next one.
            following = [at for at in (packet_index + 1, packet_index + 2) if at < len(table)]
            is_joint = not starts.isdisjoint(following)
            for at in following:
                between = np.searchsorted(scan.joints, [table.pos[packet_index], table.pos[at]])
                is_joint = is_joint or bool(table.key[at] and between[0] < between[1])
            if not is_joint:
                damaged += [packet_index, *following[:1]]
        return damaged

    def _ends_early(self) -> bool:
        """Whether the file is shorter than its container declares."""
        with Path(self._path).open("rb") as file:
            end = expected_end(self.format, file)
            return end is not None and end > file.seek(0, os.SEEK_END)

    def truncated(self, num_frames: int) -> VideoDecodeError:
        """Returns the error for a file that is incomplete after some readable frames."""
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
        parameter_sets = b""
        upcoming = list(reversed(needed or ()))
        joints = set(self.table.part_starts[1:].tolist()) if self._is_complete else set()
        for packet_index, packet in packets:
            if packet_index in joints:
                yield from self._decoded(None, last_sent)
                context.flush_buffers()
            last_sent = packet_index
            if needed is not None:
                while upcoming and upcoming[-1] < packet_index:
                    upcoming.pop()
                is_far = (
                    bool(upcoming) and upcoming[-1] - packet_index > MIN_FRAMES_BEFORE_REQUESTED
                )
                context.skip_frame = "NONREF" if is_far else "DEFAULT"
            is_malformed = self.table.content[packet_index] == PacketContent.MALFORMED
            if is_malformed or self._parser.is_damaged(memoryview(packet)):
                self._add_fault(packet_index)
            elif self._has_no_picture(packet_index):
                # Decoders reject such a packet; its parameter sets precede the next picture.
                parameter_sets += bytes(packet)
            else:
                prepared = self._prepared(packet, parameter_sets)
                parameter_sets = b""
                prepared.pts = prepared.dts = packet_index
                yield from self._decoded(prepared, last_sent)
            if packet_index == last:
                break
        context.skip_frame = "DEFAULT"
        yield from self._decoded(None, last_sent)

    def _has_no_picture(self, packet_index: int) -> bool:
        is_nal = isinstance(self._parser, NalParser)
        return is_nal and self.table.content[packet_index] == PacketContent.NO_PICTURE

    def _prepared(self, packet: Packet[VideoStream], prefix: bytes) -> Packet[VideoStream]:
        """Returns the packet after `prefix`; for a tolerant decoder, without messages."""
        from av.packet import Packet

        parser = self._parser
        is_tolerant = self.is_tolerant and not self.flags_damage
        if not isinstance(parser, NalParser) or not (prefix or is_tolerant):
            return packet
        data = prefix + bytes(packet)
        if is_tolerant:
            data = parser.without_messages(data) or data
        prepared: Packet[VideoStream] = Packet(data)  # type: ignore[assignment]
        return prepared

    def _decoded(
        self, packet: Packet[VideoStream] | None, last_sent: int
    ) -> Iterator[tuple[int, VideoFrame]]:
        import av

        try:
            frames = self._stream.codec_context.decode(packet)
        except (av.FFmpegError, MemoryError):
            self._add_fault(last_sent)
            return
        for frame in frames:
            self._num_faults_in_a_row = 0
            if frame.pts is None or not 0 <= frame.pts <= last_sent:
                raise decode_error(
                    self._name, f"the decoder {self.codec} does not preserve packet numbers"
                )
            yield frame.pts, frame

    def _add_fault(self, packet_index: int) -> None:
        self.faults.append(packet_index)
        self._num_faults_in_a_row += 1
        if self._num_faults_in_a_row > MAX_FAULTS_IN_A_ROW:
            raise decode_error(
                self._name, f"{MAX_FAULTS_IN_A_ROW} packets in a row cannot be decoded"
            )


def _reader_at(file: BinaryIO, start: int) -> ReadBytes:
    """Returns a function that reads a range of the file, relative to `start`."""

    def read(at: int, end: int) -> bytes:
        file.seek(start + at)
        return file.read(end - at)

    return read


def _is_partial(codec: str, packet: Packet[VideoStream]) -> bool:
    """Whether a gif image is truncated; demuxer and decoder do not report this."""
    return codec == "gif" and not is_complete_gif(bytes(packet))


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
