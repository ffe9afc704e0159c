"""VideoReader on healthy videos: the right frames, times and sizes, whatever the file."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import video_swin_transformer.video.bitstream as bitstream
import video_swin_transformer.video.video_file as video_file
from tests import media
from tests.media import Clip, number_of, numbered_frame, numbers_of, reference_decode
from video_swin_transformer.errors import ConfigError, VideoDecodeError
from video_swin_transformer.video import VideoReader
from video_swin_transformer.video.video_file import PacketDecoder

QUIET_X265 = {"x265-params": "log-level=none:bframes=3:keyint=12:min-keyint=12"}
VP9 = {"cpu-used": "8", "deadline": "realtime"}
VP8_HIDDEN = {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good", "cpu-used": "5"}
# One thread: as root the encoder asks for real-time priority and starves everything else.
AV1 = {"preset": "10", "crf": "8", "svtav1-params": "lp=1"}
OPEN_GOP = {"x264-params": "open-gop=1:bframes=3:keyint=12:min-keyint=12:scenecut=0"}

CLIPS = {
    "mp4-h264": Clip(".mp4", options={"bf": "3"}),
    "mp4-h264-opengop": Clip(".mp4", options=OPEN_GOP),
    "mp4-h264-fragments": Clip(".mp4", mux_options={"movflags": "frag_keyframe+empty_moov"}),
    "mov-h264-no-b": Clip(".mov", options={"bf": "0"}),
    "mkv-h264": Clip(".mkv", options={"bf": "3"}),
    "avi-h264": Clip(".avi", options={"bf": "2"}),
    "ts-h264": Clip(".ts", options={"bf": "3"}),
    "flv-h264": Clip(".flv", options={"bf": "2"}),
    "raw-h264": Clip(".h264", options={"bf": "2"}),
    "mp4-hevc": Clip(".mp4", "libx265", options=QUIET_X265),
    "mkv-hevc": Clip(".mkv", "libx265", options=QUIET_X265),
    "webm-vp9": Clip(".webm", "libvpx-vp9", options=VP9),
    "mp4-vp9": Clip(".mp4", "libvpx-vp9", options=VP9),
    "webm-vp8-hidden": Clip(".webm", "libvpx", options=VP8_HIDDEN),
    "mp4-av1": Clip(".mp4", "libsvtav1", options=AV1),
    "webm-av1": Clip(".webm", "libsvtav1", options=AV1),
    "avi-mpeg4": Clip(".avi", "mpeg4", options={"bf": "2", "q": "3"}),
    "mp4-mpeg4": Clip(".mp4", "mpeg4", options={"bf": "2"}),
    "mpg-mpeg1": Clip(".mpg", "mpeg1video", options={"bf": "2"}),
    "mpg-mpeg2": Clip(".mpg", "mpeg2video", options={"bf": "2"}),
    "ts-mpeg2": Clip(".ts", "mpeg2video", options={"bf": "2"}),
    "mkv-mpeg2": Clip(".mkv", "mpeg2video", options={"bf": "2"}),
    "avi-mjpeg": Clip(".avi", "mjpeg", pix_fmt="yuvj420p"),
    "mkv-ffv1": Clip(".mkv", "ffv1"),
    "gif": Clip(".gif", "gif", pix_fmt="rgb8"),
    "apng": Clip(".apng", "apng", pix_fmt="rgb24"),
    "wmv": Clip(".wmv", "wmv2"),
}
PREDICTED = {name for name in CLIPS if name.split("-")[0] in ("mp4", "mov", "mkv", "webm")} - {
    "mp4-mpeg4",
    "mkv-mpeg2",
}


@pytest.fixture(scope="session", params=CLIPS)
def clip(request: pytest.FixtureRequest, clip_folder: Path) -> tuple[str, Path]:
    name: str = request.param
    path = (clip_folder / name).with_suffix(CLIPS[name].suffix)
    if not path.exists():
        CLIPS[name].make(clip_folder / name)
    return name, path


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture
def long_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treats short clips as if they were too long to be kept in memory."""
    monkeypatch.setattr(video_file, "MAX_KEPT_BYTES", 0)


def count_packets(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by one entry for every packet that goes into a decoder."""
    sent: list[int] = []
    original = PacketDecoder._decoded

    def spy(self: PacketDecoder, packet: object, newest: int) -> object:
        if packet is not None:
            sent.append(newest)
        return original(self, packet, newest)  # type: ignore[arg-type]

    monkeypatch.setattr(PacketDecoder, "_decoded", spy)
    return sent


def test_every_frame_of_every_format(clip: tuple[str, Path]) -> None:
    name, path = clip
    expected = reference_decode(path)
    with VideoReader(path) as reader:
        assert reader.num_frames == len(expected) == 60
        frames = reader.frames_at(range(60))
        assert frames.dtype == np.uint8 and frames.shape == (60, 64, 96, 3)
        assert (reader.height, reader.width) == (64, 96)
        assert numbers_of(frames) == list(range(60))
        np.testing.assert_array_equal(frames, np.stack(expected))
        assert reader.fps == pytest.approx(25, rel=0.01)
        if name == "raw-h264":  # a bare stream has no times
            assert reader.times_seconds is None
            return
        assert reader.times_seconds is not None and reader.times_seconds.dtype == np.float64
        np.testing.assert_allclose(reader.times_seconds, np.arange(60) / 25, atol=0.0051)
        assert reader.times_seconds[0] == 0.0


def test_far_away_frames_of_every_format(clip: tuple[str, Path], long_ways: None) -> None:
    name, path = clip
    expected = reference_decode(path)
    random = np.random.default_rng(0)
    with VideoReader(path) as reader:
        assert reader.num_frames == 60
        if name in PREDICTED:
            assert reader._frames._timeline.one_to_one, "this clip should not need a full decode"
        for size in (1, 1, 2, 3, 7, 20):
            requested = random.integers(0, 60, size)
            frames = reader.frames_at(requested)
            assert numbers_of(frames) == requested.tolist()
            for frame, index in zip(frames, requested, strict=True):
                np.testing.assert_array_equal(frame, expected[index])
        if name in PREDICTED:
            assert reader._frames._can_seek, "nor a decode from the start"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "libvpx-vp9"])
def test_sparse_reading_of_a_long_video_seeks(
    codec: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long_ways: None
) -> None:
    options = {"libx264": {"bf": "3"}, "mpeg4": {"bf": "2"}, "libvpx-vp9": VP9}[codec]
    path = Clip(suffix, codec, num_frames=700, gop=30, options=options).make(tmp_path / "long")
    expected = reference_decode(path)
    with VideoReader(path) as reader:
        assert reader.num_frames == 700
        sent = count_packets(monkeypatch)
        requested = [650, 3, 320, 321, 650]
        frames = reader.frames_at(requested)
        assert numbers_of(frames) == requested
        assert len(sent) < 140, "at most one group of images a stretch, and some more to drain"
        for index in np.random.default_rng(1).integers(0, 700, 12).tolist():
            np.testing.assert_array_equal(reader.frames_at([index])[0], expected[index])


def test_only_a_short_stretch_is_decoded_for_a_clip_in_a_long_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long_ways: None
) -> None:
    path = Clip(num_frames=900, gop=50).make(tmp_path / "long")
    sent = count_packets(monkeypatch)
    with VideoReader(path) as reader:
        assert reader.num_frames == 900
        assert numbers_of(reader.frames_at(range(510, 542, 2))) == list(range(510, 542, 2))
    assert len(sent) < 80


def test_a_short_video_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Clip().make(tmp_path / "short")
    sent = count_packets(monkeypatch)
    with VideoReader(path) as reader:
        reader.frames_at(range(60))
        reader.frames_at([5, 3, 5])
    assert len(sent) == 60


def test_a_dense_read_of_a_long_video_is_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long_ways: None
) -> None:
    path = Clip(num_frames=200).make(tmp_path / "long")
    sent = count_packets(monkeypatch)
    with VideoReader(path) as reader:
        assert numbers_of(reader.frames_at(range(200))) == list(range(200))
    assert len(sent) <= 200 + 2 * video_file.NUM_HEAD_FRAMES


def test_unsorted_and_repeated_indices_share_one_decode(tmp_path: Path) -> None:
    path = Clip().make(tmp_path / "clip")
    requested = [59, 0, 30, 30, 2, 59, 0]
    with VideoReader(path) as reader:
        assert numbers_of(reader.frames_at(requested)) == requested
        assert numbers_of(reader.frames_at(np.array([7, 6], np.uint8))) == [7, 6]
        assert numbers_of(reader.frames_at(tuple(requested[:2]))) == requested[:2]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".gif", ".mpg", ".ts"])
def test_video_of_one_frame(suffix: str, tmp_path: Path) -> None:
    codec, pix_fmt = {
        ".gif": ("gif", "rgb8"),
        ".avi": ("mpeg4", "yuv420p"),
        ".mpg": ("mpeg1video", "yuv420p"),
    }.get(suffix, ("libx264", "yuv420p"))
    path = Clip(suffix, codec, num_frames=1, pix_fmt=pix_fmt).make(tmp_path / "one")
    with VideoReader(path) as reader:
        assert reader.num_frames == 1
        assert numbers_of(reader.frames_at([0, 0])) == [0, 0]
        assert reader.times_seconds is None or reader.times_seconds.tolist() == [0.0]


# Time --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_frame_rate(suffix: str, tmp_path: Path) -> None:
    gaps = np.random.default_rng(3).integers(10, 200, 59)
    pts = [0, *np.cumsum(gaps).tolist()]
    path = Clip(suffix, pts=pts, fps=1000).make(tmp_path / "vfr")
    with VideoReader(path) as reader:
        assert reader.times_seconds is not None
        np.testing.assert_allclose(reader.times_seconds, np.array(pts) / 1000, atol=0.0011)
        assert reader.fps == pytest.approx(59 / (pts[-1] / 1000), rel=0.02)
        assert numbers_of(reader.frames_at(range(60))) == list(range(60))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_times_begin_at_zero_whatever_the_file_says(suffix: str, tmp_path: Path) -> None:
    path = Clip(suffix, start=250).make(tmp_path / "late")
    with VideoReader(path) as reader:
        assert reader.times_seconds is not None
        np.testing.assert_allclose(reader.times_seconds, np.arange(60) / 25, atol=0.0011)
        assert numbers_of(reader.frames_at([0, 59])) == [0, 59]


def test_ntsc_rate_is_exact(tmp_path: Path) -> None:
    path = Clip(".mkv", fps=Fraction(30000, 1001)).make(tmp_path / "ntsc")
    with VideoReader(path) as reader:
        assert reader.fps == 30000 / 1001


@pytest.mark.parametrize("way", ["kept", "long"])
def test_edit_list_hides_frames(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Clip(options={"bf": "0"}).make(tmp_path / "edited")
    data = path.read_bytes()
    at = data.index(b"elst") + 8 + 4 + 4  # version and flags, count, duration
    (media_time,) = struct.unpack(">i", data[at : at + 4])
    ticks = struct.unpack(">I", data[data.index(b"mdhd") + 16 :][:4])[0] // 25
    path.write_bytes(media.patched(data, at, struct.pack(">i", media_time + 20 * ticks)))
    if way == "long":
        monkeypatch.setattr(video_file, "MAX_KEPT_BYTES", 0)
    expected = numbers_of(reference_decode(path))
    assert expected == list(range(20, 60)), "FFmpeg itself should hide 20 frames here"
    with VideoReader(path) as reader:
        assert reader.num_frames == 40
        assert numbers_of(reader.frames_at([0, 39, 5])) == [20, 59, 25]


# Containers that lie -----------------------------------------------------------------------------


@pytest.mark.parametrize("claim", [0, 7, 100000])
def test_lying_frame_count(claim: int, tmp_path: Path) -> None:
    path = Clip(".avi", "mpeg4").make(tmp_path / "liar")
    data = path.read_bytes()
    data = media.patched(data, data.index(b"avih") + 8 + 16, struct.pack("<I", claim))
    data = media.patched(data, data.index(b"strh") + 8 + 32, struct.pack("<I", claim))
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames in (claim, 0)
    with VideoReader(path) as reader:
        assert reader.num_frames == 60
        assert numbers_of(reader.frames_at([59, 0])) == [59, 0]


@pytest.mark.parametrize("claim", [1, 1000])
def test_lying_duration(claim: int, tmp_path: Path, long_ways: None) -> None:
    path = Clip().make(tmp_path / "liar")
    data = path.read_bytes()
    for box in (b"mvhd", b"mdhd"):
        data = media.patched(data, data.index(box) + 20, struct.pack(">I", claim))
    path.write_bytes(data)
    with VideoReader(path) as reader:
        assert reader.num_frames == 60
        assert numbers_of(reader.frames_at([59, 0])) == [59, 0]


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mpg"])
def test_containers_without_a_count(suffix: str, tmp_path: Path) -> None:
    codec = {".mkv": "libx264", ".webm": "libvpx-vp9", ".mpg": "mpeg1video"}[suffix]
    path = Clip(suffix, codec, num_frames=23).make(tmp_path / "uncounted")
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 0
    with VideoReader(path) as reader:
        assert reader.num_frames == 23


def test_a_wrong_prediction_is_noticed_and_corrected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long_ways: None
) -> None:
    """Were VP8's hidden frames counted, the decoder would give fewer frames than packets."""
    path = Clip(".webm", "libvpx", num_frames=120, options=VP8_HIDDEN).make(tmp_path / "hidden")
    monkeypatch.setitem(bitstream._CONTENT_OF, "vp8", lambda data: bitstream.PacketContent.FRAME)
    expected = reference_decode(path)
    with VideoReader(path) as reader:
        frames = reader.frames_at([0, 119, 60])
        assert reader.num_frames == 120
        for frame, index in zip(frames, [0, 119, 60], strict=True):
            np.testing.assert_array_equal(frame, expected[index])


def test_packed_b_frames(tmp_path: Path, long_ways: None) -> None:
    """DivX avi: a P and a B frame share a packet, a placeholder follows."""
    path = packed_avi(tmp_path / "packed.avi")
    expected = reference_decode(path)
    with VideoReader(path) as reader:
        assert reader.num_frames == len(expected)
        numbers = numbers_of(reader.frames_at(range(len(expected))))
        assert numbers == numbers_of(expected)
        assert numbers_of(reader.frames_at([5, 20])) == [numbers[5], numbers[20]]


def packed_avi(path: Path) -> Path:
    """Packs the packets of an mpeg4 clip with single B-frames two by two."""
    plain = Clip(".avi", "mpeg4", num_frames=41, options={"bf": "1", "b_strategy": "0"})
    source = plain.make(path.with_name("plain"))
    with av.open(str(source)) as container, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(container.streams.video[0])
        packets = [bytes(p) for p in container.demux(video=0) if p.size]
        kinds = [data[data.index(b"\0\0\1\xb6") + 4] >> 6 for data in packets]  # I 0, P 1, B 2
        packed: list[bytes] = []
        for data, kind in zip(packets, kinds, strict=True):
            if kind == 2:
                packed[-1] += data
                packed.append(b"\0\0\1\xb6\x50\x00\x7f")  # a frame that is not coded
            else:
                packed.append(data)
        first = packed[0].index(b"\0\0\1\xb6")
        packed[0] = packed[0][:first] + b"\0\0\1\xb2DivX503b1393p" + packed[0][first:]
        for number, data in enumerate(packed):
            packet = av.Packet(data)
            packet.stream, packet.dts, packet.pts = stream, number, number
            packet.time_base, packet.is_keyframe = Fraction(1, 25), number == 0
            out.mux(packet)
    return path


# Pixels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "suffix, codec, options",
    [
        (".mp4", "libx264", {}),
        (".mp4", "libx265", QUIET_X265),
        (".mp4", "libsvtav1", AV1),
    ],
)
def test_ten_bits_become_eight(
    suffix: str, codec: str, options: dict[str, str], tmp_path: Path
) -> None:
    clip = Clip(suffix, codec, num_frames=12, pix_fmt="yuv420p10le", options=options)
    path = clip.make(tmp_path / "ten")
    with VideoReader(path) as reader:
        frames = reader.frames_at(range(12))
    assert numbers_of(frames) == list(range(12))
    np.testing.assert_array_equal(frames, np.stack(reference_decode(path)))
    difference = np.abs(frames[5].astype(int) - numbered_frame(5))
    assert difference.mean() < 12, "brightness should be that of the source, not four times it"


@pytest.mark.parametrize("suffix, codec", [(".mov", "qtrle"), (".apng", "apng"), (".gif", "gif")])
def test_transparency_is_dropped(suffix: str, codec: str, tmp_path: Path) -> None:
    pix_fmt = {"qtrle": "argb", "apng": "rgba", "gif": "bgr8"}[codec]
    path = Clip(suffix, codec, num_frames=5, pix_fmt=pix_fmt).make(tmp_path / "alpha")
    with VideoReader(path) as reader:
        assert numbers_of(reader.frames_at(range(5))) == list(range(5))


def test_webm_with_alpha(tmp_path: Path) -> None:
    clip = Clip(".webm", "libvpx-vp9", 8, "yuva420p", options={**VP9, "auto-alt-ref": "0"})
    with VideoReader(clip.make(tmp_path / "alpha")) as reader:
        assert numbers_of(reader.frames_at(range(8))) == list(range(8))


@pytest.mark.parametrize("height, width", [(65, 97), (67, 101), (64, 99), (71, 96)])
@pytest.mark.parametrize("codec, pix_fmt", [("libx264", "yuv444p"), ("libvpx-vp9", "yuv420p")])
def test_odd_sizes(codec: str, pix_fmt: str, height: int, width: int, tmp_path: Path) -> None:
    suffix = ".mp4" if codec == "libx264" else ".webm"
    clip = Clip(suffix, codec, 10, pix_fmt, height=height, width=width)
    with VideoReader(clip.make(tmp_path / "odd")) as reader:
        frames = reader.frames_at(range(10))
    assert frames.shape == (10, height, width, 3)
    assert numbers_of(frames) == list(range(10))
    edges = numbered_frame(9, height, width).astype(int)
    for edge in (np.s_[:, -1], np.s_[-1, :], np.s_[:, 0], np.s_[0, :]):
        assert np.abs(frames[9][edge] - edges[edge]).mean() < 16, "a broken border"


TURNS = {
    "none": ((1, 0, 0, 1), lambda p: p),
    "quarter": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),  # phones held upright
    "half": ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    "three quarters": ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda p: p[::-1]),
    "transposed": ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
    "mirrored quarter": ((0, -1, -1, 0), lambda p: np.rot90(p, 2).transpose(1, 0, 2)),
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("way", ["kept", "long"])
def test_display_matrix(
    turn: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Clip(num_frames=20).make(tmp_path / "turned")
    stored = reference_decode(path)
    matrix, upright = TURNS[turn]
    if turn != "none":
        media.set_display_matrix(path, matrix)
    if way == "long":
        monkeypatch.setattr(video_file, "MAX_KEPT_BYTES", 0)
    with VideoReader(path) as reader:
        frames = reader.frames_at([3, 19])
        assert frames.shape[1:3] == (reader.height, reader.width)
    np.testing.assert_array_equal(frames[0], upright(stored[3]))
    np.testing.assert_array_equal(frames[1], upright(stored[19]))


def test_a_clip_filmed_sideways_comes_out_upright(tmp_path: Path) -> None:
    """From the viewer's side: what was turned before encoding is turned back by the matrix."""
    sideways = (np.rot90(numbered_frame(i), 1) for i in range(10))
    path = Clip(height=96, width=64).make(
        tmp_path / "phone", frames=map(np.ascontiguousarray, sideways)
    )
    media.set_display_matrix(path, (0, 1, -1, 0))
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).rotation == -90
    with VideoReader(path) as reader:
        assert (reader.height, reader.width) == (64, 96)
        assert numbers_of(reader.frames_at(range(10))) == list(range(10))


@pytest.mark.parametrize("color", [(220, 30, 30), (30, 200, 40), (20, 40, 210), (128, 128, 128)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv444p"])
def test_colors_are_those_of_the_source(
    pix_fmt: str, color: tuple[int, int, int], tmp_path: Path
) -> None:
    """Channel order and range: red stays red, and gray keeps its brightness in both ranges."""
    frames = [np.full((64, 96, 3), color, np.uint8)] * 3
    codec = "mjpeg" if pix_fmt == "yuvj420p" else "libx264"
    path = Clip(".mkv", codec, pix_fmt=pix_fmt, options={"q": "2"}).make(tmp_path / "c", frames)
    with VideoReader(path) as reader:
        pixels = reader.frames_at([0, 1, 2]).reshape(-1, 3)
    assert np.abs(pixels.astype(int) - color).max() <= 6


def test_stream_that_changes_size_is_scaled_to_the_first(tmp_path: Path) -> None:
    small = Clip(".h264", num_frames=10, options={"bf": "0"}).make(tmp_path / "small")
    large = Clip(".h264", num_frames=10, height=128, width=192, options={"bf": "0"})
    joined = tmp_path / "joined.h264"
    joined.write_bytes(small.read_bytes() + large.make(tmp_path / "large").read_bytes())
    with VideoReader(joined) as reader:
        assert reader.num_frames == 20
        frames = reader.frames_at(range(20))
    assert frames.shape == (20, 64, 96, 3)
    assert numbers_of(frames) == [*range(10), *range(10)]


def test_the_video_stream_is_found_behind_the_audio(tmp_path: Path) -> None:
    video = Clip().make(tmp_path / "video")
    audio = media.audio_only(tmp_path / "audio.mp4")
    path = tmp_path / "both.mp4"
    with av.open(str(audio)) as a, av.open(str(video)) as v, av.open(str(path), "w") as out:
        streams = [(c, out.add_stream_from_template(c.streams[0])) for c in (a, v)]
        for container, stream in streams:
            for packet in container.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
    with VideoReader(path) as reader:
        assert numbers_of(reader.frames_at([0, 59, 30])) == [0, 59, 30]


# The object --------------------------------------------------------------------------------------


def test_asking_again_after_seeking_back_and_forth(tmp_path: Path, long_ways: None) -> None:
    path = Clip(num_frames=150).make(tmp_path / "clip")
    with VideoReader(path) as reader:
        for requested in ([149], [0], [75, 74], [0, 149], [149], list(range(150))):
            assert numbers_of(reader.frames_at(requested)) == requested


def test_close(tmp_path: Path) -> None:
    reader = VideoReader(Clip().make(tmp_path / "clip"))
    reader.close()
    reader.close()
    assert reader.num_frames == 60
    with pytest.raises(VideoDecodeError, match="closed"):
        reader.frames_at([0])


def test_paths_of_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = Clip(num_frames=3).make(tmp_path / "clip")
    monkeypatch.chdir(tmp_path)
    names = [
        "concat:a|b",
        "http:x.mp4",
        "-",
        "a b%d*?.mp4",
        "\u00fcb\u00e9r \u6620\u753b.mp4",
        "pipe:0",
    ]
    for name in names:
        Path(name).write_bytes(clip.read_bytes())
        for source in (name, Path(name), tmp_path / name):
            with VideoReader(source) as reader:
                assert numbers_of(reader.frames_at([2])) == [2]


@pytest.mark.parametrize(
    "indices, match",
    [
        ([60], "60.*0 to 59"),
        ([0, -1], "-1.*0 to 59"),
        ([], "non-empty"),
        ([1.0], "1.0.*integers"),
        ([True], "True.*integers"),
        (["1"], "integers"),
        ([[0, 1]], "shape"),
        ([[0], [1, 2]], "must be a list"),
        (3, "shape"),
        ([2**70], "integers"),
        (np.array([2**64 - 1], np.uint64), "out of range"),
    ],
)
def test_wrong_indices(indices: object, match: str) -> None:
    with VideoReader(np.zeros((60, 8, 8, 3), np.uint8)) as reader:
        with pytest.raises(ConfigError, match=match):
            reader.frames_at(indices)  # type: ignore[arg-type]
        assert reader.frames_at([59]).shape == (1, 8, 8, 3)


def test_arrays() -> None:
    array = np.stack([numbered_frame(i) for i in range(12)])
    with VideoReader(array) as reader:
        assert (reader.num_frames, reader.height, reader.width) == (12, 64, 96)
        assert reader.fps is None and reader.times_seconds is None
        frames = reader.frames_at([11, 0, 0])
        assert numbers_of(frames) == [11, 0, 0]
        frames[:] = 0
        assert number_of(array[11]) == 11, "the caller's array must not be touched"


def test_grey_arrays() -> None:
    array = np.stack([numbered_frame(i)[:, :, 0] for i in range(5)])
    with VideoReader(array) as reader:
        frames = reader.frames_at([4, 1])
    assert frames.shape == (2, 64, 96, 3)
    np.testing.assert_array_equal(frames, np.repeat(array[[4, 1], :, :, None], 3, axis=3))


@pytest.mark.parametrize(
    "array, match",
    [
        (np.zeros((2, 8, 8, 3), np.float32), "float32"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"\(2, 8, 8, 4\)"),
        (np.zeros((8, 8), np.uint8), r"\(8, 8\)"),
        (np.zeros((8, 8, 3), np.uint8), "single color image"),
        (np.zeros((0, 8, 8, 3), np.uint8), "no frames"),
        (np.zeros((4, 1, 8, 3), np.uint8), "8x1"),
    ],
)
def test_wrong_arrays(array: np.ndarray, match: str) -> None:
    with pytest.raises(VideoDecodeError, match=match):
        VideoReader(array)


@pytest.mark.parametrize("source", [None, 3, b"clip.mp4", [1, 2]])
def test_wrong_sources(source: object) -> None:
    with pytest.raises(VideoDecodeError, match=type(source).__name__):
        VideoReader(source)  # type: ignore[arg-type]
