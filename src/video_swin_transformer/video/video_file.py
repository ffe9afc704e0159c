"""Exact frames of a video file with as little decoding as possible.

    VideoFile       knows which frames there are, and reads the wanted ones
    PacketDecoder   demuxes packets into the index, and decodes packets into numbered frames
    FrameConverter  decoded frame -> upright RGB

The reference is the sequence that a complete decode outputs. It is known in one of two ways:

decoded    Everything is decoded once. That is always right, so it is done for every short video,
           and for formats whose packets do not determine the frames (avi, mpeg, ts, gif, ...).
           Frames are kept in their compact decoded format while they fit into MAX_KEPT_BYTES, so
           that nothing is decoded twice.
indexed    For long videos in mp4/mov and mkv/webm with codecs of one frame per packet, the pts of
           the packets determine the sequence. Wanted frames are decoded from the key frame before
           them, and every frame that comes out is compared with the index. A mismatch leads to a
           decode from the start, and if that mismatches, too, to a complete one.

To know which packet a frame came from, packets are numbered before they enter the decoder: a
decoder copies a packet's pts to its frame, so the packet index is written there. That works where
pts are missing or repeated, and shows lost frames at once.
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
from .container import (
    MAX_PIXELS,
    decode_error,
    expected_end,
    gif_is_whole,
    is_foreign,
    open_container,
    require_size,
    translated,
)
from .packet_index import MAX_PACKETS, UNKNOWN, Ints, PacketIndex, Run, Timeline

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    NumberedPackets: TypeAlias = Iterator[tuple[int, Packet[VideoStream]]]
    NumberedFrames: TypeAlias = Iterator[tuple[int, VideoFrame]]

Pixels: TypeAlias = NDArray[np.uint8]

MAX_KEPT_BYTES = 128 * 2**20  # decoded frames kept of a short video: about 1000 of 320x240
NUM_HEAD_FRAMES = 6  # decoded at once to verify the index; they also give size and orientation

_INDEXABLE_FORMATS = frozenset({"mov", "matroska"})
_SEEKABLE_FORMATS = frozenset({"mov", "matroska", "avi"})
_ONE_TO_ONE_CODECS = frozenset(
    {"h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mjpeg", "prores", "dnxhd", "ffv1"}
)
# These decoders can skip frames that no other frame references.
_SKIPPING_CODECS = frozenset({"h264", "hevc"})
# Frames of these reference everything before, or their key flags are unreliable.
_UNSEEKABLE_CODECS = frozenset({"gif", "apng", "png", "qtrle", "flashsv", "flashsv2", "cinepak"})
# This decoder conceals damage and flags the frame, which says more than an error does. All others
# conceal it silently, or not at all: they are made to raise an error instead.
_FLAGGING_CODECS = frozenset({"h264"})

MIN_DECODED_BEFORE_WANTED = 8  # so that the nearest ones are compared, too


@dataclass
class _CompleteDecode:
    """What a complete decode showed."""

    order: list[int] = field(default_factory=list)  # packet_indices in order of output
    corrupt: list[int] = field(default_factory=list)  # packet_indices of frames flagged as damaged
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
    """A video file. Raises VideoDecodeError if it is not a complete, decodable video."""

    num_frames: int
    fps: float | None
    times_seconds: NDArray[np.float64] | None
    height: int
    width: int

    def __init__(self, path: str, name: str) -> None:
        self._name = name
        self._kept: dict[int, VideoFrame] = {}  # position -> frame, all of a short video
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
        """Closes the file and frees the frames; may be called again."""
        self._kept = {}
        self._decoder.close()

    def read(self, positions: Ints) -> Iterator[tuple[int, Pixels]]:
        """Yields the frames at `positions` (increasing), each as (position, RGB pixels).

        A frame may be yielded again when the first way of reading turns out wrong.
        """
        self._reject_damaged(positions)
        try:
            for position, frame in self._frames_at(positions):
                with translated(self._name, f"converting frame {position}"):
                    pixels = self._converter.to_rgb(frame)
                yield position, pixels
        except IndexMismatchError as error:
            raise self._file_changed() from error
        self._reject_damaged(positions)

    def _frames_at(self, positions: Ints) -> NumberedFrames:
        """Seeks first; after mismatches decodes from the start, and then decodes everything."""
        if self._kept:
            yield from ((position, self._kept[position]) for position in positions.tolist())
            return
        # After a seek into an open group of pictures the strict decoder of h264 reports errors, the
        # single-threaded one does not; what worked once is tried first from then on.
        for single_threaded in (False, True) if self._can_seek else (False,):
            if self._seek_single_threaded and not single_threaded:
                continue
            try:
                yield from self._try_runs(positions, single_threaded=single_threaded)
                self._seek_single_threaded = single_threaded
                return
            except IndexMismatchError:
                pass
        try:
            yield from self._decode_single_threaded(positions)
            # Damage causes mismatches either way; without any, the seek was the cause.
            self._can_seek = self._can_seek and bool(self._timeline.damaged.any())
        except IndexMismatchError:
            self._decode_all()
            self._set_times()
            if positions[-1] >= self.num_frames:
                raise decode_error(
                    self._name,
                    f"it states more frames than the {self.num_frames} that can be decoded",
                ) from None
            self._reject_damaged(positions)
            yield from self._decode_single_threaded(positions)

    def _try_runs(self, positions: Ints, *, single_threaded: bool) -> NumberedFrames:
        if not self._can_seek or single_threaded != self._decoder.is_single_threaded:
            self._decoder.rewind(single_threaded=single_threaded)
        for run in self._timeline.plan(positions, can_seek=self._can_seek):
            yield from self._decode_run(run, is_trial=True)

    def _decode_single_threaded(self, positions: Ints) -> NumberedFrames:
        self._decoder.rewind(single_threaded=True)
        run = self._timeline.plan(positions, can_seek=False)[0]
        yield from self._decode_run(run, is_trial=False)

    def _file_changed(self) -> VideoDecodeError:
        return decode_error(self._name, "its content changes while it is being read")

    def _reject_damaged(self, positions: Ints) -> None:
        bad = positions[self._timeline.damaged[positions]]
        if len(bad):
            raise decode_error(
                self._name,
                f"frame {bad[0]} of {self.num_frames} is damaged or depends on a damaged one",
            )

    # Which frames there are -----------------------------------------------------------------

    def _try_index(self) -> bool:
        """Builds a long video's timeline from its packets; False if its first frames differ."""
        if not self._is_indexable or self._decoder.estimated_bytes() <= MAX_KEPT_BYTES:
            return False
        for _ in self._decoder.packets():
            pass
        order = self._decoder.index.display_order()
        if order is None:
            return False
        self._timeline = Timeline(order, self._decoder.index, one_to_one=True)
        head = np.arange(min(NUM_HEAD_FRAMES, len(order)), dtype=np.int64)
        try:
            frames = [frame for _, frame in self._try_runs(head, single_threaded=False)]
        except IndexMismatchError:
            return False
        self._set_size(frames[0])
        self.num_frames = len(order)
        return True

    def _decode_all(self) -> None:
        """Decodes everything and builds the timeline from what comes out."""
        is_short = self._decoder.estimated_bytes() <= MAX_KEPT_BYTES
        single_threaded = self._decoder.flags_damage and is_short  # threads gain little there
        complete = self._decode_completely(single_threaded=single_threaded)
        indexed = self._decoder.index.display_order() if self._is_indexable else None
        if not single_threaded and self._disagrees(complete, indexed):
            complete = self._decode_completely(single_threaded=True)
        index = self._decoder.index
        # Frames before the first key packet cannot be decoded; that is not damage.
        first_key = int(index.keys[0]) if len(index.keys) else 0
        faults = [
            packet_index for packet_index in self._decoder.faults if packet_index >= first_key
        ]
        if not complete.order:
            cause = "all its frames are damaged" if faults else "it holds no frame to show"
            raise decode_error(self._name, cause)
        decoded = np.asarray(complete.order, np.int64)
        if indexed is not None and not faults and not np.array_equal(decoded, indexed):
            indexed = None  # nothing is damaged; the packets do not determine the frames
        order = decoded if indexed is None else indexed
        timeline = Timeline(order, index, one_to_one=indexed is not None)
        damaged = complete.corrupt + np.flatnonzero(np.frombuffer(index.corrupt, np.uint8)).tolist()
        if indexed is not None:
            damaged += np.setdiff1d(indexed, decoded).tolist()
        elif faults:
            damaged += decoded[decoded >= faults[0]].tolist()
        if damaged:
            timeline.mark_damaged(damaged)
        if indexed is None and faults:  # the number of lost frames is unknown: so are positions
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

    def _disagrees(self, complete: _CompleteDecode, indexed: Ints | None) -> bool:
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
        """Times of all frames, and the average rate (the container's own where it agrees)."""
        ticks = self._timeline.times(self._decoder.index)
        seconds_per_tick = self._decoder.seconds_per_tick
        self.times_seconds = None
        self.fps = None
        if ticks is not None and seconds_per_tick:
            self.times_seconds = np.multiply(ticks, seconds_per_tick, dtype=np.float64)
            duration_seconds = int(ticks[-1]) * seconds_per_tick
            if duration_seconds > 0:
                self.fps = (self.num_frames - 1) / duration_seconds
        stated_fps = self._decoder.rate
        if stated_fps and (self.fps is None or abs(stated_fps / self.fps - 1) < 0.01):
            self.fps = stated_fps  # 30000/1001 rather than a value of rounded times

    # Decoding ------------------------------------------------------------------------------

    def _decode_run(self, run: Run, *, is_trial: bool) -> NumberedFrames:
        """Decodes one run and yields its wanted frames.

        In a trial every irregularity raises IndexMismatchError. Otherwise damaged frames are marked
        and skipped, and only an unexplained difference raises it. Frames that come out after the
        last wanted one are checked, too: a B-frame is shown before the damaged one it references.
        """
        decoder, timeline = self._decoder, self._timeline
        is_seek = is_trial and self._can_seek
        decoder.faults = []
        packets = decoder.packets_from(run.start_packet) if is_seek else decoder.packets()
        last = run.last_packet if timeline.one_to_one else None
        may_skip = is_seek and timeline.one_to_one and decoder.codec in _SKIPPING_CODECS
        needed = sorted(timeline.packet_indices[list(run.wanted)].tolist()) if may_skip else None
        pending = list(reversed(run.wanted))
        expected, has_started = run.start_position, False
        late: list[int] = []
        for packet_index, frame in decoder.frames(packets, last, needed):
            position = int(timeline.position_of[packet_index]) if timeline.unique else expected
            if is_seek and not has_started and position < expected:
                continue  # shown before the key frame: not decodable from here
            has_started = True
            if is_trial and (decoder.faults or frame.is_corrupt):
                raise IndexMismatchError
            if frame.is_corrupt:
                timeline.mark_damaged([packet_index])
            if not pending:
                late.append(packet_index)
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
            if not pending and last is None:  # damage is known from a complete decode
                return
        if (decoder.faults and is_trial) or (pending and not decoder.faults):
            raise IndexMismatchError
        if decoder.faults:
            missing = np.setdiff1d(timeline.packet_indices[expected:], late)
            timeline.mark_damaged(missing[missing <= run.last_packet].tolist())


class IndexMismatchError(Exception):
    """Packets or frames differ from the index. Never leaves this package."""


class PacketDecoder:
    """A container and its decoder.

    Attributes:
        index: filled by the first complete pass over the packets.
        faults: packet indices at which the decoder reported an error since it was last cleared.
    """

    def __init__(self, path: str, name: str) -> None:
        self._path, self._name = path, name
        self.index = PacketIndex()
        self._is_complete = False  # is the index?
        self.faults: list[int] = []
        self._is_fresh = False
        self.rewind()

    def rewind(self, *, single_threaded: bool = False) -> None:
        """Reopens the container with a new decoder.

        The usual decoder uses threads and reports everything, harmless oddities included. With
        `single_threaded`, errors and flags surely belong to the packet just sent; between threads
        FFmpeg may lose the flag of a frame that no other frame references.
        """
        self.faults = []
        if not self._is_fresh:
            self.close()
            self._container, self._stream = open_container(self._path, self._name)
            self._is_fresh = True
        context = self._stream.codec_context
        self.codec = str(context.name)
        self.format = self._container.format.name.split(",")[0]
        context.thread_type = "AUTO"  # between frames or within them, as the codec allows
        context.thread_count = 1 if single_threaded else 0
        self.is_single_threaded = single_threaded
        is_lenient = single_threaded and self.flags_damage
        context.options = {
            "max_pixels": str(MAX_PIXELS),
            "err_detect": "crccheck" if is_lenient else "crccheck+explode",
        }

    def close(self) -> None:
        """Closes the file; may be called again."""
        if hasattr(self, "_container"):
            self._stream.codec_context.flush_buffers()  # waits for decoder threads
            self._container.close()

    @property
    def flags_damage(self) -> bool:
        """Whether the decoder flags damaged frames (reliably only when single-threaded)."""
        return self.codec in _FLAGGING_CODECS

    @property
    def rate(self) -> float | None:
        """Average frames per second as stated by the container."""
        rate = self._stream.average_rate
        return float(rate) if rate else None

    @property
    def seconds_per_tick(self) -> float | None:
        """Unit of all times in the index, in seconds."""
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
        """All packets of a freshly opened file. The first complete pass fills the index."""
        self.index = self.index if self._is_complete else PacketIndex()
        for packet_index, packet in enumerate(self._demuxed()):
            if not self._is_complete:
                self._record(packet)
            else:
                self._compare(packet_index, packet)
            yield packet_index, packet
        if not self._is_complete:
            self._require_whole()
            self._is_complete = True

    def packets_from(self, key_packet: int) -> NumberedPackets:
        """Seeks, then yields packets from the key packet `key_packet` or from one before it."""
        import av

        for times in (self.index.pts, self.index.dts):  # containers differ in what they look up
            if times[key_packet] == UNKNOWN:
                continue
            try:
                self._container.seek(times[key_packet], stream=self._stream)
            except av.FFmpegError:
                continue
            packets = self._demuxed()
            first = next(packets, None)
            packet_index = -1 if first is None else self._landing(first, key_packet)
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
                if not (is_foreign(error) or isinstance(error, (OSError, ValueError))):
                    raise
                if self._is_complete:  # the first pass went well
                    raise IndexMismatchError from error
                raise self._truncated(len(self.index.pts)) from error
            if packet is None:
                return
            if packet.size:  # empty: a dropped frame (avi), or PyAV's signal of the end
                yield packet

    def _record(self, packet: Packet[VideoStream]) -> None:
        index = self.index
        if len(index.pts) >= MAX_PACKETS:
            raise decode_error(self._name, f"it has more than {MAX_PACKETS} packets")
        index.pts.append(UNKNOWN if packet.pts is None else packet.pts)
        index.dts.append(UNKNOWN if packet.dts is None else packet.dts)
        index.pos.append(UNKNOWN if packet.pos is None else packet.pos)
        index.size.append(packet.size)
        index.key.append(packet.is_keyframe)
        index.hidden.append(packet.is_discard or _is_hidden(self.codec, packet))
        index.corrupt.append(packet.is_corrupt or _is_partial(self.codec, packet))

    def _compare(self, packet_index: int, packet: Packet[VideoStream]) -> None:
        index = self.index
        pos = UNKNOWN if packet.pos is None else packet.pos
        if packet_index >= len(index.pts) or (
            index.pos[packet_index],
            index.size[packet_index],
        ) != (
            pos,
            packet.size,
        ):
            raise IndexMismatchError

    def _landing(self, packet: Packet[VideoStream], key_packet: int) -> int:
        """Index of the packet a seek arrived at: the key packet requested, or one before."""
        for packet_index in self.index.keys[self.index.keys <= key_packet][::-1].tolist():
            if (
                self.index.pos[packet_index] == packet.pos
                and self.index.size[packet_index] == packet.size
            ):
                return int(packet_index)
        return -1

    def _require_whole(self) -> None:
        """Rejects a file that ends before what it states."""
        index = self.index
        num_packets = len(index.pts)
        if num_packets == 0:
            raise decode_error(self._name, "its video stream holds no frames")
        stated = 0
        if self.format == "mov":
            # FFmpeg's table of samples; older versions of PyAV do not show it.
            stated = len(getattr(self._stream, "index_entries", ()))
        # The last packet may be the remainder of a partial one before it.
        is_partial = any(index.corrupt[-2:])
        if is_partial or stated > num_packets or self._ends_early():
            num_whole = len((index.corrupt[:-1] + b"\1").rstrip(b"\1"))
            raise self._truncated(num_whole if is_partial else num_packets)

    def _ends_early(self) -> bool:
        """Whether the file is shorter than its blocks state, which FFmpeg does not report."""
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
        """(packet index, frame) in output order; packets the decoder rejects go to `faults`.

        After packet `last` the decoder is flushed and the frames end (None: after all packets).
        `needed` (packet indices, increasing) allows skipping non-reference frames far before the
        next needed one, which saves a third of the work on the way from a key frame.
        """
        context = self._stream.codec_context
        newest = 0
        ahead = list(reversed(needed or ()))
        for packet_index, packet in packets:
            packet.pts = packet.dts = newest = packet_index
            if needed is not None:
                while ahead and ahead[-1] < packet_index:
                    ahead.pop()
                is_far = bool(ahead) and ahead[-1] - packet_index > MIN_DECODED_BEFORE_WANTED
                context.skip_frame = "NONREF" if is_far else "DEFAULT"
            yield from self._decoded(packet, newest)
            if packet_index == last:
                break
        context.skip_frame = "DEFAULT"
        yield from self._decoded(None, newest)

    def _decoded(
        self, packet: Packet[VideoStream] | None, newest: int
    ) -> Iterator[tuple[int, VideoFrame]]:
        import av

        try:
            frames = self._stream.codec_context.decode(packet)
        except (av.FFmpegError, MemoryError):
            self.faults.append(newest)
            return
        for frame in frames:
            if frame.pts is None or not 0 <= frame.pts <= newest:
                raise decode_error(
                    self._name, f"the decoder {self.codec} does not preserve packet numbers"
                )
            yield frame.pts, frame


def _is_partial(codec: str, packet: Packet[VideoStream]) -> bool:
    """Whether a gif image is truncated, which demuxer and decoder accept."""
    return codec == "gif" and not gif_is_whole(bytes(packet))


def _is_hidden(codec: str, packet: Packet[VideoStream]) -> bool:
    """Whether the packet is decoded but never shown, as VP8's reference frames are."""
    return codec == "vp8" and not bytes(packet)[0] & 0x10


class FrameConverter:
    """Turns frames into (H, W, 3) uint8 RGB of the size and orientation of the first frame.

    Colors follow the matrix and range that the stream states (BT.601 limited where it states none,
    as players do); 10 and 12 bit become 8; transparency is dropped. A frame of a different size (a
    stream may change it) is scaled to the first one's.
    """

    def __init__(self, first: VideoFrame) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()  # one for all frames: creating it is slow
        self._stored_width, self._stored_height = first.width, first.height
        self._matrix = _display_matrix(first)
        turned = self._matrix is not None and _is_transposed(self._matrix)
        stored = (first.height, first.width)
        self.height, self.width = stored[::-1] if turned else stored

    def to_rgb(self, frame: VideoFrame) -> Pixels:
        """Upright (H, W, 3) uint8 RGB."""
        rgb = self._reformatter.reformat(
            frame, width=self._stored_width, height=self._stored_height, format="rgb24"
        )
        pixels: Pixels = np.asarray(rgb.to_ndarray(), np.uint8)
        return pixels if self._matrix is None else _upright(pixels, self._matrix)


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int] | None:
    """(a, b, c, d) of the container's display matrix: x' = a x + c y, y' = b x + d y."""
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
    """Applies the quarter turn and mirroring nearest to the matrix; a view, without a copy."""
    a, b, c, d = matrix
    if _is_transposed(matrix):
        pixels = pixels.transpose(1, 0, 2)
        a, d = c, b  # the axes are swapped
    if a < 0:
        pixels = pixels[:, ::-1]
    if d < 0:
        pixels = pixels[::-1]
    return pixels
