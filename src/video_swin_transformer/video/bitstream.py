"""Parses packet headers to find out what a packet contains, without decoding it.

In ordinary files, each packet is one frame. Some packets hold a single field, only parameter sets,
several pictures, or a picture that is not displayed. A `PacketParser` classifies the packets of a
stream; whatever it does not fully understand is UNCLEAR. It also recognizes damage that decoders
do not report.

PyAV does not expose FFmpeg's own parsers.
"""

from __future__ import annotations

import enum
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

_HEAD_BYTES = 64  # of a NAL unit; the headers read here are shorter
_START_CODE = re.compile(rb"\x00\x00\x01")
_LONG_PADDING = bytes(32)  # encoders align to less
_ILLEGAL_ZEROS = re.compile(rb"\x00{3,}[^\x00\x01]")
_ESCAPE, _ESCAPED = b"\0\0\3", b"\0\0"  # emulation prevention
_START_CODE_CODECS = frozenset({"mpeg1video", "mpeg2video", "mpeg4"})

Bytes: TypeAlias = bytes | memoryview
ReadBytes: TypeAlias = Callable[[int, int], bytes]


class PacketContent(enum.IntEnum):
    """What a packet contains.

    Attributes:
        FRAME: Exactly one displayed frame.
        HIDDEN: A picture that is decoded, but not displayed.
        NO_PICTURE: Only parameter sets, messages or padding.
        UNCLEAR: A field, several pictures, a picture that the decoder may not output, or
            something unknown.
        MALFORMED: Something that contradicts the format.
    """

    FRAME = 0
    HIDDEN = 1
    NO_PICTURE = 2
    UNCLEAR = 3
    MALFORMED = 4


class PacketParser:
    """Classifies the packets of a stream. This base class knows no codec: all are UNCLEAR.

    Attributes:
        lacks_reference: Whether the last classified packet refers to a frame that is missing.
    """

    lacks_reference = False

    def content(self, data: Bytes) -> PacketContent:
        """Classifies the next packet of the stream."""
        return PacketContent.UNCLEAR

    def is_damaged(self, data: Bytes) -> bool:
        """Whether a packet is certainly damaged."""
        return False


def parser_for(codec: str, extradata: bytes | None) -> PacketParser:
    """Returns a parser for a codec.

    Args:
        codec: FFmpeg's name of the decoder.
        extradata: The codec configuration of the stream.
    """
    if codec == "h264":
        return _H264Parser(extradata or b"")
    if codec == "hevc":
        return _HevcParser(extradata or b"")
    if codec in _START_CODE_CODECS:
        return _StartCodeParser()
    if codec == "ffv1":
        return _Ffv1Parser()
    if codec in _CONTENT_OF:
        return _SimpleParser(_CONTENT_OF[codec])
    return PacketParser()


class _SimpleParser(PacketParser):
    """A codec whose packets can be classified one by one."""

    def __init__(self, content_of: Callable[[Bytes], PacketContent]) -> None:
        self._content_of = content_of

    def content(self, data: Bytes) -> PacketContent:
        """Classifies the next packet of the stream."""
        try:
            return self._content_of(data)
        except IndexError:  # shorter than its header
            return PacketContent.MALFORMED


# H.264 and HEVC: packets of NAL units ------------------------------------------------------------


class NalParser(PacketParser):
    """A parser of packets that consist of NAL units, with length fields or start codes.

    Attributes:
        length_bytes: Size of the length field before each NAL unit; 0 for start codes.
    """

    length_bytes = 0

    def content(self, data: Bytes) -> PacketContent:
        """Classifies the next packet of the stream."""
        if self.length_bytes == 0:
            heads = [nal[:_HEAD_BYTES] for nal in self._units(bytes(data))]
            return self._classified(heads) if heads else PacketContent.MALFORMED
        head = bytes(data[: self.length_bytes + _HEAD_BYTES])
        size = int.from_bytes(head[: self.length_bytes], "big") + self.length_bytes
        if size == len(data):  # one NAL unit, the usual case
            return self._classified((head[self.length_bytes :],))
        return self.content_by_parts(lambda start, end: bytes(data[start:end]), len(data))

    def content_by_parts(self, read: ReadBytes, size: int) -> PacketContent:
        """Classifies a packet with length fields, reading only the start of each NAL unit.

        Args:
            read: Returns the bytes of the packet from a start to an end position.
            size: Size of the packet in bytes.
        """
        heads = []
        at, length_bytes = 0, self.length_bytes
        while at < size:
            head = read(at, at + length_bytes + _HEAD_BYTES)
            at += length_bytes + int.from_bytes(head[:length_bytes], "big")
            if at > size:
                return PacketContent.MALFORMED
            heads.append(head[length_bytes:])
        return self._classified(heads)

    def is_damaged(self, data: Bytes) -> bool:
        """Whether a packet contains zero bytes that NAL units cannot contain."""
        whole = bytes(data)
        if b"\0\0\0" not in whole:
            return False
        return any(_has_illegal_zeros(nal) for nal in self._units(whole))

    def without_messages(self, data: bytes) -> bytes:
        """Returns a packet without the NAL units that influence no picture, such as user data."""
        kept = [nal for nal in self._units(data) if self._is_needed(nal)]
        if self.length_bytes == 0:
            return b"".join(b"\0\0\0\1" + nal for nal in kept)
        return b"".join(len(nal).to_bytes(self.length_bytes, "big") + nal for nal in kept)

    def _units(self, data: bytes) -> list[bytes]:
        """Splits a packet into NAL units, without length fields and start codes."""
        units = []
        if self.length_bytes == 0:
            starts = [match.end() for match in _START_CODE.finditer(data)]
            ends = [start - 3 for start in starts[1:]] + [len(data)]
            return [data[start:end] for start, end in zip(starts, ends, strict=False)]
        at = 0
        while at + self.length_bytes < len(data):
            start = at + self.length_bytes
            at = start + int.from_bytes(data[at:start], "big")
            units.append(data[start:at])
        return units

    def _classified(self, heads: Iterable[bytes]) -> PacketContent:
        """Classifies a packet from the first bytes of its NAL units."""
        try:
            return self._content_of(heads)
        except IndexError:  # a header ends early
            return PacketContent.MALFORMED

    def _content_of(self, heads: Iterable[bytes]) -> PacketContent:
        raise NotImplementedError

    def _is_needed(self, nal: bytes) -> bool:
        raise NotImplementedError


def _has_illegal_zeros(data: bytes) -> bool:
    """Whether data with start codes, or a NAL unit, contains zeros that no encoder writes.

    Three zero bytes occur only before a start code and, as padding, at the end. This reveals blocks
    of zeros in the files of interrupted downloads and failing disks, which decoders often do not
    notice.
    """
    if b"\0\0\0" not in data:
        return False
    return data.endswith(_LONG_PADDING) or _ILLEGAL_ZEROS.search(data) is not None


def _content_for_pictures(num_pictures: int, *, has_slices: bool) -> PacketContent:
    if num_pictures == 1:
        return PacketContent.FRAME
    if num_pictures == 0:
        return PacketContent.MALFORMED if has_slices else PacketContent.NO_PICTURE
    return PacketContent.UNCLEAR


@dataclass(frozen=True)
class _H264Layout:
    """The fields of a sequence parameter set that a slice header depends on."""

    frames_only: bool  # no fields
    has_separate_planes: bool
    frame_number_bits: int
    may_skip_numbers: bool  # frame numbers may be missing on purpose


class _H264Parser(NalParser):
    def __init__(self, extradata: bytes) -> None:
        self._layouts: set[_H264Layout] = set()
        self._frame_number: int | None = None  # of the last reference frame
        if extradata[:1] == b"\1" and len(extradata) > 6:  # ISO/IEC 14496-15
            self.length_bytes = (extradata[4] & 3) + 1
            num_sets, at = extradata[5] & 31, 6
            for _ in range(num_sets):
                start = at + 2
                at = start + int.from_bytes(extradata[at:start], "big")
                self._add_parameter_set(extradata[start:at])
        else:
            for nal in self._units(extradata):
                if nal and nal[0] & 31 == 7:
                    self._add_parameter_set(nal)

    def _add_parameter_set(self, nal: bytes) -> None:
        try:
            self._layouts.add(_h264_layout(nal))
        except IndexError:
            return  # slices stay unclear without a parameter set

    def _content_of(self, heads: Iterable[bytes]) -> PacketContent:
        self.lacks_reference = False
        num_pictures, has_slices, has_field, is_empty = 0, False, False, True
        for head in heads:
            kind = head[0] & 31 if head else 0
            is_empty = is_empty and kind == 0
            if kind in (1, 5):
                has_slices = True
                if head[1] & 0x80:  # first_mb_in_slice is 0: the first slice of a picture
                    num_pictures += 1
                    has_field = self._is_field(head) or has_field
            elif kind == 7:
                self._add_parameter_set(head)
            elif kind in (2, 3, 4):  # data partitions
                return PacketContent.UNCLEAR
        if has_field:
            return PacketContent.UNCLEAR
        if is_empty or num_pictures > 1:  # pictures that are no fields have packets of their own
            return PacketContent.MALFORMED
        return _content_for_pictures(num_pictures, has_slices=has_slices)

    def _is_field(self, head: bytes) -> bool:
        """Whether a picture may be a field. Follows the numbers of reference frames."""
        if len(self._layouts) != 1:  # it is not known which parameter set is used
            return not self._layouts or not all(layout.frames_only for layout in self._layouts)
        (layout,) = self._layouts
        # Bits as text are faster than arithmetic here. The codes before the number are Exp-Golomb:
        # n zeros, then n + 1 digits.
        start = head[1:13].replace(_ESCAPE, _ESCAPED)[:8].ljust(8, b"\0")
        bits = f"{int.from_bytes(start, 'big'):064b}"
        at = 0
        for _ in ("first_mb_in_slice", "slice_type", "pic_parameter_set_id"):
            at = 2 * bits.index("1", at) - at + 1
        at += 2 * layout.has_separate_planes
        end = at + layout.frame_number_bits
        self._follow(int(bits[at:end], 2), head, layout)
        return not layout.frames_only and bits[end] == "1"  # field_pic_flag

    def _follow(self, number: int, head: bytes, layout: _H264Layout) -> None:
        previous = 0 if head[0] & 31 == 5 else self._frame_number
        if previous is not None and not layout.may_skip_numbers:
            following = (previous + 1) % (1 << layout.frame_number_bits)
            self.lacks_reference |= number not in (previous, following)
        if head[0] & 0x60:  # a reference frame
            self._frame_number = number

    def _is_needed(self, nal: bytes) -> bool:
        return bool(nal) and nal[0] & 31 in (1, 2, 3, 4, 5, 7, 8, 10, 11)


def _h264_layout(nal: bytes) -> _H264Layout:
    """Parses a sequence parameter set (ITU-T H.264, 7.3.2.1.1)."""
    profile = nal[1]
    bits = _Bits(nal[4:])
    bits.exp_golomb()  # seq_parameter_set_id
    has_separate_planes = False
    if profile in (44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244):
        chroma = bits.exp_golomb()
        has_separate_planes = chroma == 3 and bool(bits.take(1))
        bits.exp_golomb()  # bit_depth_luma_minus8
        bits.exp_golomb()  # bit_depth_chroma_minus8
        bits.take(1)  # qpprime_y_zero_transform_bypass_flag
        if bits.take(1):  # seq_scaling_matrix_present_flag
            for index in range(12 if chroma == 3 else 8):
                if bits.take(1):
                    _skip_scaling_list(bits, 16 if index < 6 else 64)
    frame_number_bits = bits.exp_golomb() + 4
    order_type = bits.exp_golomb()
    if order_type == 0:
        bits.exp_golomb()  # log2_max_pic_order_cnt_lsb_minus4
    elif order_type == 1:
        bits.take(1)  # delta_pic_order_always_zero_flag
        bits.exp_golomb()  # offset_for_non_ref_pic, signed, but equally long
        bits.exp_golomb()  # offset_for_top_to_bottom_field
        for _ in range(min(bits.exp_golomb(), 255)):
            bits.exp_golomb()
    bits.exp_golomb()  # max_num_ref_frames
    may_skip_numbers = bool(bits.take(1))  # gaps_in_frame_num_value_allowed_flag
    bits.exp_golomb()  # pic_width_in_mbs_minus1
    bits.exp_golomb()  # pic_height_in_map_units_minus1
    frames_only = bool(bits.take(1))
    return _H264Layout(frames_only, has_separate_planes, frame_number_bits, may_skip_numbers)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            code = bits.exp_golomb()
            delta = (code + 1) // 2 if code % 2 else -(code // 2)
            following = (last + delta) % 256
        last = following or last


class _HevcParser(NalParser):
    def __init__(self, extradata: bytes) -> None:
        self._num_random_access = 0  # pictures at which decoding can start, so far
        self._is_after_end = False  # an end-of-sequence unit precedes
        self._may_hide_pictures = False  # a picture parameter set allows it
        if extradata[:1] == b"\1" and len(extradata) > 22:  # ISO/IEC 14496-15
            self.length_bytes = (extradata[21] & 3) + 1
            units = _hvcc_units(extradata)
        else:
            units = self._units(extradata)
        self._classified(unit for unit in units if unit)

    def _content_of(self, heads: Iterable[bytes]) -> PacketContent:
        num_pictures, has_slices, is_unclear, is_empty = 0, False, False, True
        for head in heads:
            if not head:
                continue
            is_empty = False
            kind = head[0] >> 1 & 63
            if (head[0] & 1) << 5 | head[1] >> 3:  # another layer, which FFmpeg skips
                continue
            if kind < 32:
                has_slices = True
                if head[2] & 0x80:  # first_slice_segment_in_pic_flag
                    num_pictures += 1
                    is_unclear = self._may_be_skipped(kind, head) or is_unclear
            elif kind == 34:
                bits = _Bits(head[2:])
                bits.exp_golomb()  # pps_pic_parameter_set_id
                bits.exp_golomb()  # pps_seq_parameter_set_id
                bits.take(1)  # dependent_slice_segments_enabled_flag
                self._may_hide_pictures |= bool(bits.take(1))  # output_flag_present_flag
            elif kind in (36, 37):  # end of sequence, end of bitstream
                self._is_after_end = True
        if is_empty:
            return PacketContent.MALFORMED
        if is_unclear or (has_slices and self._may_hide_pictures):
            return PacketContent.UNCLEAR
        return _content_for_pictures(num_pictures, has_slices=has_slices)

    def _may_be_skipped(self, kind: int, head: bytes) -> bool:
        """Whether this picture may not be output, or may keep others from being output."""
        if 16 <= kind <= 23:  # random access
            is_first = self._num_random_access == 0
            self._num_random_access += 1
            is_break = kind <= 18 or (kind == 21 and self._is_after_end)
            self._is_after_end = False
            drops_previous = bool(head[2] & 0x40)  # no_output_of_prior_pics_flag
            return not is_first and (is_break or drops_previous)
        if kind in (6, 7, 8, 9):  # leading pictures
            return self._num_random_access <= 1
        return self._num_random_access == 0

    def _is_needed(self, nal: bytes) -> bool:
        kind = nal[0] >> 1 & 63 if len(nal) > 2 else 63
        is_hash = kind in (39, 40) and nal[2] == 132  # of the decoded picture: proves damage
        return kind < 32 or kind in (32, 33, 34, 36, 37) or is_hash


def _hvcc_units(extradata: bytes) -> list[bytes]:
    """Returns the NAL units of an HEVC decoder configuration record."""
    units = []
    at = 23
    for _ in range(extradata[22]):
        num_units = int.from_bytes(extradata[at + 1 : at + 3], "big")
        at += 3
        for _ in range(num_units):
            start = at + 2
            at = start + int.from_bytes(extradata[at:start], "big")
            units.append(extradata[start:at])
            if at >= len(extradata):
                return units
    return units


# Other codecs ------------------------------------------------------------------------------------


class _StartCodeParser(PacketParser):
    """MPEG-1, MPEG-2 and MPEG-4 part 2, whose packets are not classified."""

    def is_damaged(self, data: Bytes) -> bool:
        """Whether a packet contains zero bytes that are impossible outside of start codes."""
        return _has_illegal_zeros(bytes(data))


class _Ffv1Parser(PacketParser):
    _has_checksums = False

    def content(self, data: Bytes) -> PacketContent:
        """Returns FRAME."""
        return PacketContent.FRAME

    def is_damaged(self, data: Bytes) -> bool:
        """Whether the checksum of a slice is wrong, which FFmpeg only logs (RFC 9043, 4.8)."""
        data = bytes(data)
        slices = []
        end = len(data)
        while end > 0:
            start = end - _FFV1_FOOTER_BYTES - int.from_bytes(data[end - 8 : end - 5], "big")
            if not 0 <= start < end:
                return self._has_checksums
            slices.append(data[start:end])
            end = start
        self._has_checksums = True
        # The checksum has its highest bit first; zlib's has the lowest first.
        mirrored = (content.translate(_MIRRORED_BYTES) for content in slices)
        return any(zlib.crc32(content, 0xFFFFFFFF) != 0xFFFFFFFF for content in mirrored)


_FFV1_FOOTER_BYTES = 8  # slice size (3), error status (1), checksum (4)
_MIRRORED_BYTES = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _vp8_content(data: Bytes) -> PacketContent:
    return PacketContent.FRAME if data[0] & 0x10 else PacketContent.HIDDEN  # show_frame


def _vp9_content(data: Bytes) -> PacketContent:
    """Counts the displayed frames of a superframe (VP9 bitstream specification, annex B)."""
    frames = [data]
    marker = data[len(data) - 1]
    if marker & 0xE0 == 0xC0:
        num_frames, size_bytes = (marker & 7) + 1, (marker >> 3 & 3) + 1
        at = len(data) - 2 - num_frames * size_bytes
        if at >= 0 and data[at] == marker:
            start, frames = 0, []
            for index in range(num_frames):
                field = at + 1 + index * size_bytes
                size = int.from_bytes(data[field : field + size_bytes], "little")
                if size:
                    frames.append(data[start : start + size])
                start += size
    return _content_for_shown([_is_shown_vp9(frame) for frame in frames])


def _is_shown_vp9(frame: Bytes) -> bool:
    bits = _Bits(bytes(frame[:4]))
    bits.take(2)  # frame_marker
    profile = bits.take(1) | bits.take(1) << 1
    if profile == 3:
        bits.take(1)
    if bits.take(1):  # show_existing_frame
        return True
    bits.take(1)  # frame_type
    return bool(bits.take(1))  # show_frame


def _av1_content(data: Bytes) -> PacketContent:
    """Counts the displayed frames of a temporal unit (AV1 bitstream specification, 5.3)."""
    at, shown = 0, []
    is_reduced = False  # a still picture
    while at < len(data):
        header = data[at]
        kind, has_extension, has_size = header >> 3 & 15, header & 4, header & 2
        if has_extension and data[at + 1] >> 3 & 3:  # spatial layers
            return PacketContent.UNCLEAR
        at += 2 if has_extension else 1
        size, shift = 0, 0
        while has_size:
            size |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if not data[at - 1] & 128:
                break
            if shift > 28:
                return PacketContent.UNCLEAR
        size = size if has_size else len(data) - at
        if kind == 1:  # sequence header
            is_reduced = bool(data[at] & 0x08)
        elif kind in (3, 6):  # frame header, frame
            first = data[at]
            shown.append(is_reduced or bool(first & 0x80) or bool(first & 0x10))
        at += size
    return _content_for_shown(shown)


def _content_for_shown(shown: list[bool]) -> PacketContent:
    if not shown:
        return PacketContent.NO_PICTURE
    kinds = (PacketContent.HIDDEN, PacketContent.FRAME)
    return kinds[sum(shown)] if sum(shown) < len(kinds) else PacketContent.UNCLEAR


def _mjpeg_content(data: Bytes) -> PacketContent:
    head = bytes(data[:32])
    at = head.find(b"AVI1")  # followed by the field of an interlaced picture; 0 for a frame
    is_frame = head.startswith(b"\xff\xd8") and (at < 0 or head[at + 4] == 0)
    return PacketContent.FRAME if is_frame else PacketContent.UNCLEAR


def _prores_content(data: Bytes) -> PacketContent:
    return PacketContent.FRAME if data[4:8] == b"icpf" else PacketContent.UNCLEAR


def _intra_content(data: Bytes) -> PacketContent:
    return PacketContent.FRAME


_CONTENT_OF: dict[str, Callable[[Bytes], PacketContent]] = {
    "vp8": _vp8_content,
    "vp9": _vp9_content,
    "av1": _av1_content,
    "libdav1d": _av1_content,
    "mjpeg": _mjpeg_content,
    "prores": _prores_content,
    "dnxhd": _intra_content,
}


class _Bits:
    """Reads bits of a NAL unit, removing emulation prevention bytes. IndexError at the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data.replace(_ESCAPE, _ESCAPED)
        self._at = 0

    def take(self, num_bits: int) -> int:
        value = 0
        for _ in range(num_bits):
            byte, bit = divmod(self._at, 8)
            value = value << 1 | self._data[byte] >> 7 - bit & 1
            self._at += 1
        return value

    def exp_golomb(self) -> int:
        num_zeros = 0
        while not self.take(1):
            num_zeros += 1
        return (1 << num_zeros) - 1 + self.take(num_zeros)
