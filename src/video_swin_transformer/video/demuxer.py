"""One open video stream: packets in, numbered frames out.

To know which packet a frame came from, packets are numbered before they enter the decoder: a
decoder hands a packet's pts on to its frame, so the number (the *packet_index*, see index.py) is
written there. That works where pts are missing or repeated, and shows lost frames at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import VideoDecodeError
from .container import MAX_PIXELS, decode_error, is_foreign, open_container
from .packet_index import MAX_PACKETS, UNKNOWN, PacketIndex
from .truncation import expected_end, gif_is_whole

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    Numbered = Iterator[tuple[int, Packet[VideoStream]]]

# This decoder patches over damage and flags the frame, which tells more than an error does. All
# others patch in silence, or not at all: they are told to raise an error instead.
_FLAGGING_CODECS = frozenset({"h264"})

MIN_DECODED_BEFORE_WANTED = 8  # the nearest ones are always decoded, and so compared


class IndexMismatchError(Exception):
    """Packets or frames are not what the index says. Never leaves this package."""


class Tape:
    """A container and its decoder; `index` fills while the first pass over the packets runs.

    `faults` collects the packet_indices at which the decoder complained since it was last cleared.
    """

    def __init__(self, path: str, name: str) -> None:
        self._path, self._name = path, name
        self.index = PacketIndex()
        self._is_complete = False  # is the index?
        self.faults: list[int] = []
        self._is_fresh = False
        self.rewind()

    def rewind(self, *, single_threaded: bool = False) -> None:
        """A fresh container with a decoder that has seen nothing.

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
        """Gives the file back; may be called again."""
        if hasattr(self, "_container"):
            self._stream.codec_context.flush_buffers()  # lets decoder threads come to rest
            self._container.close()

    @property
    def flags_damage(self) -> bool:
        """Does the decoder flag damaged frames (surely so only in a single-threaded pass)?"""
        return self.codec in _FLAGGING_CODECS

    @property
    def rate(self) -> float | None:
        """Average frames a second as the container has it."""
        rate = self._stream.average_rate
        return float(rate) if rate else None

    @property
    def seconds_per_tick(self) -> float | None:
        """Unit of all times in the index."""
        time_base = self._stream.time_base
        return float(time_base) if time_base else None

    def estimated_bytes(self) -> float:
        """Memory all decoded frames would take (coded, not RGB); infinite if nobody knows."""
        num_frames = float(self._stream.frames)
        duration = self._container.duration  # microseconds
        if num_frames <= 0 and duration and self.rate:
            num_frames = duration / 1e6 * self.rate
        if num_frames <= 0:
            return float("inf")
        context = self._stream.codec_context
        return num_frames * context.width * context.height * 1.5

    # Packets -------------------------------------------------------------------------------

    def packets(self) -> Numbered:
        """All packets of a freshly opened tape. The first complete pass makes the index."""
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

    def packets_from(self, key_packet: int) -> Numbered:
        """Packets from the key packet `key_packet`, or from one before it, after a seek."""
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
                raise self._cut_off(len(self.index)) from error
            if packet is None:
                return
            if packet.size:  # empty: a frame left out (avi), or PyAV's signal of the end
                yield packet

    def _record(self, packet: Packet[VideoStream]) -> None:
        index = self.index
        if len(index) >= MAX_PACKETS:
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
        if packet_index >= len(index) or (index.pos[packet_index], index.size[packet_index]) != (
            pos,
            packet.size,
        ):
            raise IndexMismatchError

    def _landing(self, packet: Packet[VideoStream], key_packet: int) -> int:
        """Serial of the packet a seek arrived at: the key packet asked for, or one before."""
        for packet_index in self.index.keys[self.index.keys <= key_packet][::-1].tolist():
            if (
                self.index.pos[packet_index] == packet.pos
                and self.index.size[packet_index] == packet.size
            ):
                return int(packet_index)
        return -1

    def _require_whole(self) -> None:
        """Refuses a file that ends before what it promises."""
        index = self.index
        if len(index) == 0:
            raise decode_error(self._name, "its video stream holds no frames")
        promised = 0
        if self.format == "mov":
            # FFmpeg's table of samples; older versions of PyAV do not show it.
            promised = len(getattr(self._stream, "index_entries", ()))
        # The last packet may be the loose end of a partial one before it.
        is_partial = any(index.corrupt[-2:])
        if is_partial or promised > len(index) or self._ends_early():
            num_whole = len((index.corrupt[:-1] + b"\1").rstrip(b"\1"))
            raise self._cut_off(num_whole if is_partial else len(index))

    def _ends_early(self) -> bool:
        """Is the file shorter than its blocks say? FFmpeg takes that without a word."""
        with Path(self._path).open("rb") as file:
            end = expected_end(self.format, file)
            return end is not None and end > file.seek(0, os.SEEK_END)

    def _cut_off(self, num_frames: int) -> VideoDecodeError:
        return decode_error(
            self._name,
            f"the file is cut off or damaged after {num_frames} readable frames; "
            "copy or download it again",
        )

    # Frames --------------------------------------------------------------------------------

    def frames(
        self, packets: Numbered, last: int | None = None, needed: list[int] | None = None
    ) -> Iterator[tuple[int, VideoFrame]]:
        """(packet_index, frame) in order of output; what the decoder rejects goes to `faults`.

        After packet `last` the decoder is emptied and the frames end (None: after all packets).
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
                raise decode_error(self._name, f"the decoder {self.codec} loses track of frames")
            yield frame.pts, frame


def _is_partial(codec: str, packet: Packet[VideoStream]) -> bool:
    """Is a gif picture cut off? Demuxer and decoder do not mind, and give half a picture."""
    return codec == "gif" and not gif_is_whole(bytes(packet))


def _is_hidden(codec: str, packet: Packet[VideoStream]) -> bool:
    """Is the packet decoded but never shown? VP8 stores frames meant for reference like that."""
    return codec == "vp8" and not bytes(packet)[0] & 0x10
