"""VideoReader on valid videos of unusual structure, and on damage that decoders do not report.

Every file is read as a short video (decoded when opened) and as a long one (indexed).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

import video_swin_transformer.video.video_file as video_file
from tests.media import Clip, Pixels, numbered_frame, numbers_of, reference_decode
from tests.odd_videos import (
    Coded,
    packets_of,
    parameter_sets,
    shifted,
    with_extra_nal,
    with_parameter_packets,
    without_video_usability,
    write,
    write_pcm,
)
from video_swin_transformer.errors import VideoDecodeError
from video_swin_transformer.video import VideoReader

X264 = "mbtree=0:scenecut=0:keyint=12:min-keyint=12:b-adapt=0"
X265 = "log-level=none:bframes=3:keyint=12:min-keyint=12:scenecut=0"
H264 = Clip(".mp4", num_frames=36, options={"x264-params": f"{X264}:bframes=3"})
OPEN_H264 = replace(H264, options={"x264-params": f"{X264}:bframes=3:open-gop=1"})
HEVC = Clip(".mp4", "libx265", num_frames=36, options={"x265-params": f"{X265}:open-gop=0"})
OPEN_HEVC = replace(HEVC, options={"x265-params": f"{X265}:open-gop=1"})
MPEG2 = Clip(".mp4", "mpeg2video", num_frames=36, options={"bf": "2", "q": "3"})
SOURCES = {
    "h264": H264,
    "h264-open-gop": OPEN_H264,
    "hevc": HEVC,
    "hevc-open-gop": OPEN_HEVC,
    "mpeg2": MPEG2,
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
    return {name: clip.make(folder / name) for name, clip in SOURCES.items()}


def assert_reads(path: Path, numbers: Sequence[int]) -> None:
    """The file has frames of these numbers, whatever is asked for first."""
    for first in (0, len(numbers) // 2, len(numbers) - 1):
        with VideoReader(path) as reader:
            assert reader.num_frames == len(numbers)
            assert numbers_of(reader.frames_at([first])) == [numbers[first]]
            assert reader.num_frames == len(numbers), "the number depends on what was read"
            assert numbers_of(reader.frames_at(range(len(numbers)))) == list(numbers)
            assert reader.fps == pytest.approx(25, rel=1e-3)
            assert reader.times_seconds is not None
            np.testing.assert_allclose(np.diff(reader.times_seconds), 0.04, atol=0.002)


def readable(path: Path) -> dict[int, Pixels]:
    """The frames that are not refused, by index."""
    frames: dict[int, Pixels] = {}
    with VideoReader(path) as reader:
        for index in range(reader.num_frames):
            try:
                frames[index] = reader.frames_at([index])[0]
            except VideoDecodeError:
                continue
    return frames


# One packet, one frame ---------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("after", [2, 20])
def test_video_reader_counts_no_frame_for_a_packet_of_parameter_sets(
    suffix: str, after: int, sources: dict[str, Path], tmp_path: Path, way: str
) -> None:
    source = sources["h264"]
    odd = with_parameter_packets(packets_of(source), parameter_sets(source), after=after)
    assert_reads(write(tmp_path / f"odd{suffix}", source, odd), range(36))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize(
    "is_field_pair",
    [lambda i: True, lambda i: i > 9, lambda i: i < 9, lambda i: i % 2 == 1, lambda i: i == 30],
    ids=["all", "late", "early", "every-second", "one"],
)
def test_video_reader_joins_packets_of_fields(
    suffix: str,
    is_field_pair: Callable[[int], bool],
    sources: dict[str, Path],
    tmp_path: Path,
    way: str,
) -> None:
    frames = [numbered_frame(number) for number in range(36)]
    path = write_pcm(tmp_path / f"fields{suffix}", sources["h264"], frames, is_field_pair)
    assert_reads(path, range(36))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("b_frames", [1, 3])
def test_video_reader_gives_all_frames_if_the_reorder_depth_is_not_stated(
    suffix: str, b_frames: int, tmp_path: Path, way: str
) -> None:
    clip = replace(H264, options={"x264-params": f"{X264}:bframes={b_frames}"})
    source = clip.make(tmp_path / "source")
    sps, *others = parameter_sets(source)
    sets = [without_video_usability(sps), *others]
    assert sets[0] != sps
    path = write(tmp_path / f"unstated{suffix}", source, packets_of(source), sets=sets)
    assert_reads(path, range(36))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_video_reader_refuses_frames_that_share_a_packet(
    suffix: str, sources: dict[str, Path], tmp_path: Path, way: str
) -> None:
    """FFmpeg decodes only one of them, and what follows refers to the other."""
    source = sources["h264"]
    packets = packets_of(source)
    shared = replace(packets[9], data=packets[9].data + packets[10].data)
    path = write(tmp_path / f"shared{suffix}", source, [*packets[:9], shared, *packets[11:]])
    frames = readable(path)
    assert numbers_of(frames.values()) == sorted(numbers_of(frames.values()))
    assert len(frames) < 35
    assert numbers_of(frames.values())[-24:] == list(range(12, 36))


STILLS = [
    *itertools.product(["libx264", "libx265", "mpeg2video"], [".mp4", ".mkv", ".ts"]),
    ("mpeg4", ".avi"),
    ("ffv1", ".mkv"),
]


@pytest.mark.parametrize(("codec", "suffix"), STILLS)
def test_video_reader_reads_still_pictures_of_a_few_bytes(
    codec: str, suffix: str, tmp_path: Path, way: str
) -> None:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {"bf": "2"}
    frames = [np.full((64, 96, 3), 128, np.uint8)] * 60
    clip = Clip(suffix, codec, gop=20, options=options)
    path = clip.make(tmp_path / "still", frames)
    expected = reference_decode(path)
    with VideoReader(path) as reader:
        np.testing.assert_array_equal(reader.frames_at(range(60)), expected)


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts bytes the Linux way")
def test_video_reader_opens_a_long_mp4_without_reading_its_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_file, "MAX_KEPT_BYTES", 0)
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    frames = (np.roll(noise, number * 7, axis=1) for number in range(240))
    path = Clip(height=240, width=320, options={"crf": "10"}).make(tmp_path / "noise", frames)
    num_bytes = path.stat().st_size
    assert num_bytes > 2_000_000

    def bytes_read() -> int:
        return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])

    with VideoReader(path):  # imports and FFmpeg's buffers
        pass
    before = bytes_read()
    with VideoReader(path) as reader:
        assert reader.num_frames == 240
        assert bytes_read() - before < num_bytes / 4  # the first frames are decoded as a check


# Complaints that are no damage -------------------------------------------------------------------

MESSAGES = {
    "h264-truncated-sei": bytes([6, 5, 200, 1, 2, 3]),
    "h264-endless-sei": bytes([6, 255, 255, 255, 255]),
    "h264-reserved": bytes([24, 1, 2, 3]),
    "h264-filler": bytes([12, 255, 255, 255, 128]),
    "hevc-truncated-sei": bytes([78, 1, 5, 200, 1, 2, 3]),
    "hevc-truncated-user-data": bytes([78, 1, 4, 90, 181, 0, 49]),
    "hevc-endless-sei": bytes([78, 1, 255, 255, 255, 255]),
    "hevc-reserved": bytes([94, 1, 2, 3]),
}
PLACES: dict[str, Callable[[int], bool]] = {
    "first": lambda index: index == 0,
    "one": lambda index: index == 17,
    "all": lambda index: True,
}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("message", MESSAGES)
def test_video_reader_ignores_broken_messages(
    message: str, place: str, suffix: str, sources: dict[str, Path], tmp_path: Path, way: str
) -> None:
    source = sources[message.split("-")[0]]
    odd = with_extra_nal(packets_of(source), MESSAGES[message], PLACES[place])
    path = write(tmp_path / f"odd{suffix}", source, odd)
    with VideoReader(path) as reader:
        np.testing.assert_array_equal(reader.frames_at(range(36)), reference_decode(source))


@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4"])
@pytest.mark.parametrize("start", [2, 5, 14])
@pytest.mark.parametrize("name", SOURCES)
def test_video_reader_gives_the_decodable_frames_of_a_cut_stream(
    name: str, start: int, suffix: str, sources: dict[str, Path], tmp_path: Path, way: str
) -> None:
    source = sources[name]
    packets = packets_of(source)
    cut = with_sets_in_band(packets[start:], source) if name == "h264-open-gop" else packets[start:]
    path = write(tmp_path / f"cut{suffix}", source, shifted(cut, 2**16))
    assert_reads(path, range(first_number(packets, start), 36))


def first_number(packets: Sequence[Coded], start: int) -> int:
    """Number of the first key frame from a packet on."""
    key = next(packet for packet in packets[start:] if packet.is_key)
    return sorted(packet.pts for packet in packets).index(key.pts)


def with_sets_in_band(packets: Sequence[Coded], source: Path) -> list[Coded]:
    """Transport streams have no header, and the muxer repeats the sets only for IDR frames."""
    sets = parameter_sets(source)
    return [p.with_nals([*sets, *p.nals]) if p.is_key else p for p in packets]


def test_video_reader_reads_a_codec_that_complains_about_every_frame(
    tmp_path: Path, way: str
) -> None:
    """FFmpeg's strict tiff decoder rejects tags that FFmpeg's own encoder writes."""
    path = Clip(".mov", "tiff", num_frames=12, pix_fmt="rgb24").make(tmp_path / "clip")
    with VideoReader(path) as reader:
        assert numbers_of(reader.frames_at(range(12))) == list(range(12))


# Clocks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 10**6, 10**8], ids=["restart", "jump", "hours"])
@pytest.mark.parametrize("start", [0, 12], ids=["whole", "cut"])
@pytest.mark.parametrize("name", SOURCES)
def test_video_reader_joins_the_clocks_of_transport_streams(
    name: str, start: int, offset: int, sources: dict[str, Path], tmp_path: Path, way: str
) -> None:
    source = sources[name]
    packets = packets_of(source)
    key = next(i for i, packet in enumerate(packets) if i >= start and packet.is_key)
    second = packets[key:]
    if name == "h264-open-gop":
        second = with_sets_in_band(second, source)
    parts = [shifted(packets, 10**5), shifted(second, offset + 10**5), shifted(packets, 10**5)]
    path = tmp_path / "joined.ts"
    data = b""
    for index, part in enumerate(parts):
        data += write(tmp_path / f"{index}.ts", source, part).read_bytes()
    path.write_bytes(data)
    assert_reads(path, [*range(36), *range(first_number(packets, key), 36), *range(36)])


def test_video_reader_joins_the_clocks_of_program_streams(tmp_path: Path, way: str) -> None:
    whole = Clip(".mpg", "mpeg2video", num_frames=50, options={"q": "3"}).make(tmp_path / "whole")
    path = tmp_path / "joined.mpg"
    path.write_bytes(2 * whole.read_bytes())
    with VideoReader(path) as reader:
        assert numbers_of(reader.frames_at(range(100))) == [*range(50), *range(50)]
        assert reader.fps == pytest.approx(25, rel=0.03)  # the muxer's own times are not exact
        assert reader.times_seconds is not None and np.all(np.diff(reader.times_seconds) > 0)


def test_video_reader_unwraps_a_clock_that_overflows(
    sources: dict[str, Path], tmp_path: Path, way: str
) -> None:
    """The 33 bits of a transport stream's clock last for 26.5 hours."""
    source = sources["h264"]
    ticks = (2**33 - 90_000 // 2) * 12_800 // 90_000
    path = write(
        tmp_path / "wrap.ts",
        source,
        shifted(packets_of(source), ticks),
        mux_options={"muxdelay": "0"},
    )
    assert_reads(path, range(36))


# Damage that decoders do not report --------------------------------------------------------------


def positions_of(path: Path) -> list[int]:
    """Where the packets are in the file."""
    with av.open(str(path)) as container:
        return [packet.pos or 0 for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("name", ["h264", "hevc", "mpeg2", "ffv1"])
@pytest.mark.parametrize("where", [0.3, 0.5, 0.7])
def test_video_reader_returns_no_frame_from_a_zeroed_block(
    name: str, where: float, sources: dict[str, Path], tmp_path: Path, way: str
) -> None:
    """As interrupted downloads and failing disks leave them."""
    source = tmp_path / "ffv1.mkv"
    if name == "ffv1":
        Clip(".mkv", "ffv1", num_frames=36, options={"slicecrc": "1", "level": "3"}).make(source)
    else:
        source = sources[name]
    expected = reference_decode(source)
    data = bytearray(source.read_bytes())
    start = positions_of(source)[int(36 * where)] + 10
    data[start : start + 128] = bytes(128)
    path = tmp_path / f"zeroed{source.suffix}"
    path.write_bytes(data)
    try:
        frames = readable(path)
    except VideoDecodeError:
        return
    assert len(frames) < 36
    for index, frame in frames.items():
        np.testing.assert_array_equal(frame, expected[index])


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
@pytest.mark.parametrize("seed", range(4))
def test_video_reader_refuses_a_file_whose_demuxer_skips_frames(
    suffix: str, seed: int, tmp_path: Path, way: str
) -> None:
    whole = Clip(suffix, "mpeg4", num_frames=36, options={"q": "3"}).make(tmp_path / "whole")
    data = whole.read_bytes()
    start = positions_of(whole)[5 + 7 * seed] - 12
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(data[:start] + bytes(300) + data[start + 300 :])
    with pytest.raises(VideoDecodeError, match="truncated or damaged"):
        VideoReader(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("name", ["h264", "hevc"])
@pytest.mark.parametrize("lost", [4, 9, 17, 26])
def test_video_reader_refuses_frames_that_refer_to_a_lost_one(
    name: str, lost: int, suffix: str, sources: dict[str, Path], tmp_path: Path, way: str
) -> None:
    source = sources[name]
    packets, expected = packets_of(source), reference_decode(source)
    path = write(tmp_path / f"lossy{suffix}", source, [*packets[:lost], *packets[lost + 1 :]])
    order = [packet.pts for packet in packets]
    kept = [n for n, pts in enumerate(sorted(order)) if pts != order[lost]]
    for index, frame in readable(path).items():
        np.testing.assert_array_equal(frame, expected[kept[index]])


VIDEO_PID = 256  # FFmpeg's first stream


@pytest.mark.parametrize("name", ["h264", "hevc", "mpeg2"])
@pytest.mark.parametrize("where", [0.3, 0.5, 0.7])
def test_video_reader_returns_no_frame_with_lost_transport_packets(
    name: str, where: float, sources: dict[str, Path], tmp_path: Path, way: str
) -> None:
    source = sources[name]
    expected = reference_decode(source)
    data = write(tmp_path / "whole.ts", source, packets_of(source)).read_bytes()
    starts = range(0, len(data), 188)
    of_video = [at for at in starts if (data[at + 1] & 31) << 8 | data[at + 2] == VIDEO_PID]
    at = of_video[int(len(of_video) * where)]
    path = tmp_path / "lossy.ts"
    path.write_bytes(data[:at] + data[at + 188 :])
    frames = list(readable(path).values())
    assert 0 < len(frames) < 36
    numbers = numbers_of(frames)
    assert numbers == sorted(set(numbers))
    for number, frame in zip(numbers, frames, strict=True):
        np.testing.assert_array_equal(frame, expected[number])
