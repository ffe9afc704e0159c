"""Small files that claim much: huge frames, samples without content, bad blocks."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from pathlib import Path

import av

import video_swin_transformer as vst
from tests.hostile.texts import SMALL
from tests.media import Clip
from video_swin_transformer.config import ClipSampling


def prepare(kind: str, folder: Path) -> Path:
    sampling = ClipSampling(num_frames=32, num_clips=1)
    bundle = dataclasses.replace(SMALL, sampling=sampling)
    vst.VideoSwinTransformer(bundle).save_pretrained(folder / "model")
    return _MAKERS[kind](folder)


def run(kind: str, seed: int, original: Path, folder: Path) -> str:
    vst.Predictor.load(folder / "model", runtime="torch").classify(original)
    return "read"


def _huge_gif(folder: Path) -> Path:
    """One color, 16000x6000: the picture of each of six frames is a few hundred bytes."""
    path = folder / "huge.gif"
    _encode(path, "gif", "rgb8", 16000, 6000, 3)
    return path


def _huge_h264(folder: Path) -> Path:
    path = folder / "huge.mp4"
    _encode(path, "libx264", "yuv420p", 8192, 8192, 12)
    return path


def _long_strip(folder: Path) -> Path:
    """16000x16: with a short side of 32 it would be 32000 pixels wide."""
    path = folder / "strip.mkv"
    _encode(path, "ffv1", "yuv420p", 16000, 16, 40)
    return path


def _encode(path: Path, codec: str, pix_fmt: str, width: int, height: int, count: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "crf": "51"}
        frame = av.VideoFrame(width, height, pix_fmt)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        for number in range(count):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _many_samples(folder: Path) -> Path:
    """A table of samples of equal size has no entries, only a count: here 80 million."""
    path = Clip(".mp4", num_frames=4).make(folder / "samples")
    data = bytearray(path.read_bytes())
    at = data.index(b"stsz") + 8  # version and flags come before
    data[at : at + 8] = struct.pack(">II", 1, 80_000_000)
    path.write_bytes(data)
    return path


def _many_bad_blocks(folder: Path) -> Path:
    """A million Matroska blocks whose content is no picture."""
    path = Clip(".mkv", num_frames=4).make(folder / "blocks")
    data = path.read_bytes()
    block = b"\xa3\x86\x81" + struct.pack(">hB", 0, 0) + b"\xff\xff"
    data = data.replace(b"\x1c\x53\xbb\x6b", b"\xec\x53\xbb\x6b")  # no cues
    path.write_bytes(data + b"\x1f\x43\xb6\x75\x01\xff\xff\xff\xff\xff\xff\xff\xe7\x81\x01")
    with path.open("ab") as file:
        file.write(block * 1_000_000)
    return path


_MAKERS: dict[str, Callable[[Path], Path]] = {
    "huge-gif": _huge_gif,
    "huge-h264": _huge_h264,
    "strip": _long_strip,
    "samples": _many_samples,
    "bad-blocks": _many_bad_blocks,
}
KINDS = tuple(_MAKERS)
