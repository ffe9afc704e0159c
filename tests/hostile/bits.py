"""Single flipped bits and cuts: does the reader notice what changes the pictures?

Each file is also decoded as plain PyAV does it, to see whether FFmpeg reports an error.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import av
import av.logging
import numpy as np

from tests.media import Clip, Pixels, reference_decode
from video_swin_transformer.errors import VideoSwinError
from video_swin_transformer.video import VideoReader

_QUALITY = {"q": "3"}
CLIPS = {
    "mp4": Clip(".mp4", num_frames=60, options={"bf": "2"}),
    "fragments": Clip(".mp4", num_frames=60, mux_options={"movflags": "frag_keyframe+empty_moov"}),
    "mov": Clip(".mov", "mpeg4", num_frames=60, options=_QUALITY),
    "mkv": Clip(".mkv", num_frames=60, options={"bf": "2"}),
    "hevc": Clip(".mp4", "libx265", num_frames=60, options={"x265-params": "log-level=none"}),
    "webm": Clip(".webm", "libvpx-vp9", num_frames=60, options={"deadline": "realtime"}),
    "vp8": Clip(".webm", "libvpx", num_frames=60, options={"deadline": "realtime"}),
    "ffv1": Clip(".mkv", "ffv1", num_frames=30, options={"slicecrc": "1", "level": "3"}),
    "avi": Clip(".avi", "mpeg4", num_frames=60, options=_QUALITY),
    "mpg": Clip(".mpg", "mpeg2video", num_frames=60, options=_QUALITY),
    "ts": Clip(".ts", num_frames=60),
    "flv": Clip(".flv", num_frames=60),
    "wmv": Clip(".wmv", "wmv2", num_frames=60, options=_QUALITY),
    "ogv": Clip(".ogv", "libvpx", num_frames=60, options={"deadline": "realtime"}),
    "gif": Clip(".gif", "gif", num_frames=20, pix_fmt="rgb8", options={}),
    "apng": Clip(".apng", "apng", num_frames=20, pix_fmt="rgb24", options={}),
}
KINDS = tuple(CLIPS)


@dataclass(frozen=True)
class Original:
    """An intact file, its pictures, and where its packets are."""

    data: bytes
    frames: list[Pixels]
    positions: list[int]


def prepare(kind: str, folder: Path) -> Original:
    path = CLIPS[kind].make(folder / kind)
    with av.open(str(path)) as container:
        positions = [p.pos for p in container.demux(video=0) if p.size and p.pos]
    return Original(path.read_bytes(), reference_decode(path), positions)


def run(kind: str, seed: int, original: Original, folder: Path) -> str:
    path = folder / f"damaged{CLIPS[kind].suffix}"
    path.write_bytes(_damage(seed, original, random.Random(f"{kind} {seed}")))
    theirs = "FFmpeg reports it" if _ffmpeg_reports(path) else "FFmpeg is silent"
    try:
        with VideoReader(path) as reader:
            frames = list(reader.frames_at(range(reader.num_frames)))
    except VideoSwinError:
        return f"noticed ({theirs})"
    return "same" if _are_equal(frames, original.frames) else f"silently wrong ({theirs})"


def _damage(seed: int, original: Original, rng: random.Random) -> bytes:
    data = bytearray(original.data)
    match seed % 3:
        case 0:  # a bit anywhere
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 1:  # a bit just before a packet, where containers keep sizes and times
            positions = original.positions or [len(data) // 2]
            at = max(0, rng.choice(positions) - rng.randrange(1, 9))
            data[at] ^= 1 << rng.randrange(8)
        case 2:
            del data[rng.randrange(len(data) // 10, len(data)) :]
    return bytes(data)


def _are_equal(frames: list[Pixels], truth: list[Pixels]) -> bool:
    if len(frames) != len(truth):
        return False
    return all(
        a.shape == b.shape and np.array_equal(a, b) for a, b in zip(frames, truth, strict=True)
    )


def _ffmpeg_reports(path: Path) -> bool:
    """Whether FFmpeg logs an error or raises one while decoding."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as messages, av.open(str(path)) as container:
            container.streams.video[0].thread_count = 1
            for _ in container.decode(video=0):
                pass
    except (av.FFmpegError, IndexError):
        return True
    finally:
        av.logging.set_level(before)
    return any(level <= av.logging.ERROR for level, _, _ in messages)
