"""Makes videos as recorders, stream copies and joins leave them: valid, but unusual.

Clips are taken apart into coded pictures, changed, and written again without encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.media import Pixels


@dataclass(frozen=True)
class Coded:
    """One packet. H.264 and HEVC hold NAL units with four-byte lengths."""

    data: bytes
    pts: int
    dts: int
    is_key: bool

    @property
    def nals(self) -> list[bytes]:
        units, at = [], 0
        while at < len(self.data):
            size = int.from_bytes(self.data[at : at + 4], "big")
            units.append(self.data[at + 4 : at + 4 + size])
            at += 4 + size
        return units

    def with_nals(self, nals: Iterable[bytes]) -> Coded:
        return replace(self, data=with_lengths(nals))


def with_lengths(nals: Iterable[bytes]) -> bytes:
    return b"".join(len(nal).to_bytes(4, "big") + nal for nal in nals)


def packets_of(path: Path) -> list[Coded]:
    """The packets of an mp4 or mov clip."""
    with av.open(str(path)) as container:
        return [
            Coded(bytes(packet), packet.pts or 0, packet.dts or 0, packet.is_keyframe)
            for packet in container.demux(video=0)
            if packet.size
        ]


def write(
    path: Path,
    template: Path,
    packets: Sequence[Coded],
    *,
    sets: Sequence[bytes] = (),
    mux_options: dict[str, str] | None = None,
) -> Path:
    """Writes packets to a new file, for a stream like that of `template`.

    With `sets`, these parameter sets replace those of the template.
    """
    if sets:
        raw = path.with_suffix(".template.h264")
        raw.write_bytes(b"".join(map(annex_b, [*sets, *(n for p in packets[:3] for n in p.nals)])))
    with av.open(str(template)) as timed, av.open(str(raw if sets else template)) as source:
        time_base: Any = timed.streams.video[0].time_base
        times = np.unique([coded.pts for coded in packets])
        step = int(np.median(np.diff(times))) if len(times) > 1 else 1
        with av.open(str(path), "w", options=mux_options or {}) as container:
            stream: Any = container.add_stream_from_template(source.streams.video[0])
            for coded in packets:
                data = b"".join(map(annex_b, coded.nals)) if sets else coded.data
                packet = av.Packet(data)
                packet.pts, packet.dts, packet.time_base = coded.pts, coded.dts, time_base
                packet.duration = step
                packet.is_keyframe, packet.stream = coded.is_key, stream
                container.mux_one(packet)
    return path


def annex_b(nal: bytes) -> bytes:
    return b"\0\0\0\1" + nal


def shifted(packets: Sequence[Coded], ticks: int) -> list[Coded]:
    return [replace(p, pts=p.pts + ticks, dts=p.dts + ticks) for p in packets]


def parameter_sets(path: Path) -> list[bytes]:
    """The parameter sets in the configuration of an H.264 mp4 clip (avcC)."""
    with av.open(str(path)) as container:
        data = container.streams.video[0].codec_context.extradata or b""
    units, at = [], 5
    for mask in (31, 255):
        count = data[at] & mask
        at += 1
        for _ in range(count):
            size = int.from_bytes(data[at : at + 2], "big")
            units.append(data[at + 2 : at + 2 + size])
            at += 2 + size
    return units


def with_parameter_packets(
    packets: Sequence[Coded], sets: Sequence[bytes], *, after: int, every: int = 1
) -> list[Coded]:
    """Sends the parameter sets in packets of their own before key packets, as some recorders do."""
    result: list[Coded] = []
    num_keys = 0
    for index, packet in enumerate(packets):
        if index > after and packet.is_key:
            num_keys += 1
            if num_keys % every == 0:
                previous = packets[index - 1].dts
                time = (previous + packet.dts) // 2
                result.append(Coded(with_lengths(sets), time, time, False))
        result.append(packet)
    return result


def with_extra_nal(
    packets: Sequence[Coded], nal: bytes, where: Callable[[int], bool], *, at_end: bool = False
) -> list[Coded]:
    """Adds a NAL unit to the packets that `where` chooses."""
    result = []
    for index, packet in enumerate(packets):
        if where(index):
            nals = [*packet.nals, nal] if at_end else [nal, *packet.nals]
            packet = packet.with_nals(nals)
        result.append(packet)
    return result


# H.264 of uncompressed macroblocks: fields and frames as one likes --------------------------------


class _BitWriter:
    def __init__(self) -> None:
        self._bits: list[int] = []

    def put(self, value: int, num_bits: int) -> _BitWriter:
        self._bits += [value >> place & 1 for place in reversed(range(num_bits))]
        return self

    def ue(self, value: int) -> _BitWriter:
        length = (value + 1).bit_length()
        return self.put(0, length - 1).put(value + 1, length)

    def align(self) -> _BitWriter:
        return self.put(0, -len(self._bits) % 8)

    def append(self, data: bytes) -> _BitWriter:
        self._bits += np.unpackbits(np.frombuffer(data, np.uint8)).tolist()
        return self

    def nal(self, header: int) -> bytes:
        self.put(1, 1).align()
        payload = np.packbits(np.array(self._bits, np.uint8)).tobytes()
        escaped = bytearray()
        for byte in payload:
            if byte <= 3 and escaped[-2:] == b"\0\0":
                escaped.append(3)
            escaped.append(byte)
        return bytes([header]) + bytes(escaped)


@dataclass
class PcmH264:
    """An H.264 encoder of I_PCM macroblocks, for frames and field pairs of 96x64 pixels."""

    width: int = 96
    height: int = 64

    def sets(self) -> list[bytes]:
        sps = _BitWriter().put(77, 8).put(0, 8).put(30, 8)  # Main, level 3
        sps.ue(0).ue(0).ue(2)  # id, 4 bits of frame_num, order as decoded
        sps.ue(1).put(0, 1).ue(self.width // 16 - 1).ue(self.height // 32 - 1)
        sps.put(0, 1).put(0, 1).put(1, 1).put(0, 1).put(0, 1)  # fields allowed, no MBAFF
        pps = _BitWriter().ue(0).ue(0).put(0, 1).put(0, 1).ue(0).ue(0).ue(0)
        pps.put(0, 3).ue(0).ue(0).ue(0).put(1, 1).put(0, 2)  # deblocking can be switched off
        return [sps.nal(0x67), pps.nal(0x68)]

    def picture(self, pixels: Pixels, frame_number: int, field: str | None) -> bytes:
        """A NAL unit: a whole frame, or its "top" or "bottom" field. Gray pixels are written."""
        luma = pixels[:, :, 0]
        if field is not None:
            luma = luma[(field == "bottom") :: 2]
        is_idr = frame_number == 0 and field != "bottom"
        bits = _BitWriter().ue(0).ue(7).ue(0).put(frame_number % 16, 4)
        bits.put(field is not None, 1)
        if field is not None:
            bits.put(field == "bottom", 1)
        if is_idr:
            bits.ue(0)
        bits.put(0, 2 if is_idr else 1)  # no marking of references
        bits.put(1, 1).ue(1)  # slice_qp_delta 0, no deblocking
        for top in range(0, luma.shape[0], 16):
            for left in range(0, self.width, 16):
                bits.ue(25).align()  # I_PCM
                block = luma[top : top + 16, left : left + 16]
                bits.append(block.tobytes() + b"\x80" * 128)
        return bits.nal(0x65 if is_idr else 0x61)


def write_pcm(
    path: Path, template: Path, frames: Sequence[Pixels], is_field_pair: Callable[[int], bool]
) -> Path:
    """Writes frames at 25 frames per second, some as two packets of one field each."""
    encoder = PcmH264()
    with av.open(str(template)) as container:
        time_base = container.streams.video[0].time_base
    assert time_base is not None
    step = round(Fraction(1, 25) / time_base)
    packets = []
    for number, pixels in enumerate(frames):
        fields = ("top", "bottom") if is_field_pair(number) else (None,)
        for half, field in enumerate(fields):
            nal = encoder.picture(pixels, number, field)
            time = number * step + half * step // 2
            packets.append(Coded(with_lengths([nal]), time, time, number == half == 0))
    return write(path, template, packets, sets=encoder.sets())


def without_video_usability(sps: bytes) -> bytes:
    """Removes the part of an H.264 parameter set that states the reorder depth."""
    data = sps.replace(b"\0\0\3", b"\0\0")
    bits = np.unpackbits(np.frombuffer(data[1:], np.uint8)).tolist()
    at = _usability_flag(bits)
    writer = _BitWriter()
    for bit in bits[:at]:
        writer.put(int(bit), 1)
    return writer.put(0, 1).nal(sps[0])


def _usability_flag(bits: list[int]) -> int:
    """Position of vui_parameters_present_flag in a parameter set written by x264."""
    at = 24

    def ue() -> int:
        nonlocal at
        zeros = 0
        while not bits[at]:
            zeros, at = zeros + 1, at + 1
        value = int("".join(map(str, bits[at : at + zeros + 1])), 2) - 1
        at += zeros + 1
        return value

    profile = int("".join(map(str, bits[:8])), 2)
    ue()
    if profile >= 100:
        ue(), ue(), ue()
        assert bits[at + 1] == 0, "no scaling matrix is expected"
        at += 2
    ue()
    if ue() == 0:
        ue()
    ue()
    at += 1
    ue(), ue()
    at += 1 if bits[at] else 2
    at += 1
    if bits[at]:
        at += 1
        ue(), ue(), ue(), ue()
    else:
        at += 1
    return at
