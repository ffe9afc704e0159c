"""One flipped bit in the structure of a file, or a cut, never makes a video shorter silently.

Bits are flipped just before packets, where containers keep their sizes, kinds and times. Flips
inside pictures are measured by `tests/hostile`.
"""

from __future__ import annotations

import random
from pathlib import Path

import av
import pytest

import video_swin_transformer.video.video_file as video_file
from tests.media import Clip
from video_swin_transformer.errors import VideoDecodeError
from video_swin_transformer.video import VideoReader

NUM_FRAMES = 30
QUALITY = {"q": "3"}
CLIPS = {
    "mp4": Clip(".mp4", num_frames=NUM_FRAMES),
    "fragments": Clip(
        ".mp4", num_frames=NUM_FRAMES, mux_options={"movflags": "frag_keyframe+empty_moov"}
    ),
    "mkv": Clip(".mkv", num_frames=NUM_FRAMES, options={"bf": "2"}),
    "mkv-ffv1": Clip(".mkv", "ffv1", num_frames=NUM_FRAMES, options={"slicecrc": "1"}),
    "webm": Clip(".webm", "libvpx-vp9", num_frames=NUM_FRAMES, options={"deadline": "realtime"}),
    "avi": Clip(".avi", "mpeg4", num_frames=NUM_FRAMES, options=QUALITY),
    "mpg": Clip(".mpg", "mpeg2video", num_frames=NUM_FRAMES, options=QUALITY),
    "ts": Clip(".ts", num_frames=NUM_FRAMES),
    "flv": Clip(".flv", num_frames=NUM_FRAMES),
    "wmv": Clip(".wmv", "wmv2", num_frames=NUM_FRAMES, options=QUALITY),
    "apng": Clip(".apng", "apng", num_frames=NUM_FRAMES, pix_fmt="rgb24"),
}


@pytest.fixture(params=["short", "long"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether files are read as short or as long videos."""
    if request.param == "long":
        monkeypatch.setattr(video_file, "MAX_KEPT_BYTES", 0)
    return str(request.param)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    return {name: clip.make(folder / name) for name, clip in CLIPS.items()}


def packet_positions(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [packet.pos for packet in container.demux(video=0) if packet.size and packet.pos]


def is_silently_short(path: Path) -> bool:
    """Whether the video opens with fewer frames, all of which can be read."""
    try:
        with VideoReader(path) as reader:
            reader.frames_at(range(reader.num_frames))
            return reader.num_frames < NUM_FRAMES
    except VideoDecodeError:
        return False


@pytest.mark.parametrize("name", CLIPS)
def test_video_reader_notices_a_flipped_bit_in_front_of_a_packet(
    name: str, sources: dict[str, Path], tmp_path: Path, way: str
) -> None:
    data, positions = sources[name].read_bytes(), packet_positions(sources[name])
    path = tmp_path / f"damaged{sources[name].suffix}"
    silent = []
    for seed in range(24):
        rng = random.Random(f"{name} {seed}")
        damaged = bytearray(data)
        at = max(0, rng.choice(positions) - rng.randrange(1, 9))
        damaged[at] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        if is_silently_short(path):
            silent.append((seed, at))
    assert not silent


@pytest.mark.parametrize("name", CLIPS)
def test_video_reader_notices_a_cut(
    name: str, sources: dict[str, Path], tmp_path: Path, way: str
) -> None:
    data = sources[name].read_bytes()
    path = tmp_path / f"cut{sources[name].suffix}"
    silent = []
    for seed in range(12):
        end = random.Random(f"{name} {seed}").randrange(len(data) // 10, len(data) - 8)
        path.write_bytes(data[:end])
        if is_silently_short(path):
            silent.append((seed, end))
    assert not silent
