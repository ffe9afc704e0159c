"""VideoReader on what is no healthy local video: one clear sentence, nothing opened, no hang."""

from __future__ import annotations

import io
import os
import re
import socket
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import video_swin_transformer.video.video_file as video_file
from tests import media
from tests.media import Clip, numbers_of, reference_decode
from video_swin_transformer.errors import VideoDecodeError
from video_swin_transformer.video import VideoReader
from video_swin_transformer.video.container import (
    avi_end,
    expected_end,
    is_complete_gif,
    matroska_end,
)

pytestmark = pytest.mark.timeout(30)


def refusal(source: object) -> str:
    """The one sentence with which a source is refused; it names the source."""
    with pytest.raises(VideoDecodeError) as caught, VideoReader(source) as reader:  # type: ignore[arg-type]
        reader.frames_at(range(reader.num_frames))
    message = str(caught.value)
    assert str(source) in message.replace("\\\\", "\\") or "\0" in str(source)
    assert message.endswith(".") and "\n" not in message and "Traceback" not in message
    return message


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Clip(mux_options={"movflags": "faststart"}).make(tmp_path_factory.mktemp("clip") / "ok")


# Not a readable file -----------------------------------------------------------------------------


def test_absent(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "absent.mp4")
    assert "no such file" in refusal(str(tmp_path / "absent.mp4"))


def test_relative_path_is_named_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path) not in refusal("absent.mp4")


def test_part_of_the_path_is_a_file(clip: Path) -> None:
    assert "not a folder" in refusal(clip / "inner.mp4")


def test_name_too_long(tmp_path: Path) -> None:
    assert "longer" in refusal(tmp_path / ("x" * 5000 + ".mp4"))


def test_nul_in_the_name() -> None:
    assert "null" in refusal("a\0b.mp4")


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights on Windows")
def test_symbolic_links(tmp_path: Path, clip: Path) -> None:
    loop = tmp_path / "loop.mp4"
    loop.symlink_to(loop)
    assert "circular" in refusal(loop)
    dangling = tmp_path / "dangling.mp4"
    dangling.symlink_to(tmp_path / "absent.mp4")
    assert "no such file" in refusal(dangling)
    good = tmp_path / "good.mp4"
    good.symlink_to(clip)
    with VideoReader(good) as reader:
        assert reader.num_frames == 60


@pytest.mark.skipif(
    os.name == "nt" or (hasattr(os, "geteuid") and os.geteuid() == 0),
    reason="permissions do not hold root back",
)
def test_no_permission(tmp_path: Path, clip: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    (locked / "clip.mp4").write_bytes(clip.read_bytes())
    (locked / "clip.mp4").chmod(0)
    assert "permission" in refusal(locked / "clip.mp4")
    locked.chmod(0)
    try:
        assert "permission" in refusal(locked)
    finally:
        locked.chmod(0o700)


def test_system_errors_keep_their_meaning(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for what root cannot provoke: an error of the system while opening."""

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(av, "open", denied)
    assert "permission denied" in refusal(clip)
    monkeypatch.setattr(Path, "iterdir", denied)
    assert "permission denied" in refusal(clip.parent)


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.touch()
    assert "empty" in refusal(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".gif", ".txt", ".jpg", ".png"])
def test_text_by_another_name(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"notes{suffix}"
    path.write_text("These are notes, and no video.\n" * 100)
    assert "it is not a" in refusal(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_random_bytes(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"noise{suffix}"
    path.write_bytes(np.random.default_rng(0).bytes(20000))
    refusal(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_audio_only(suffix: str, tmp_path: Path) -> None:
    assert "no video stream (it contains audio)" in refusal(
        media.audio_only(tmp_path / f"a{suffix}")
    )


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_no_frames(suffix: str, tmp_path: Path) -> None:
    path = Clip(suffix, num_frames=0).make(tmp_path / "none")
    refusal(path)


def test_one_pixel(tmp_path: Path) -> None:
    image = media.save_picture(tmp_path / "dot.png", np.zeros((1, 1, 3), np.uint8))
    assert "1x1 pixels, but must be at least 2x2" in refusal(image)
    pixel = (np.zeros((1, 1, 3), np.uint8) for _ in range(3))
    video = Clip(".mkv", "ffv1", 3, "bgr0", height=1, width=1).make(tmp_path / "dots", pixel)
    assert "1x1 pixels, but must be at least 2x2" in refusal(video)


# Never beyond the local file ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/clip.mp4",
        "https://example.com/clip.mp4",
        "rtsp://127.0.0.1/stream",
        "concat:a.mp4|b.mp4",
        "pipe:0",
        "-",
        "data:video/mp4;base64,AAAA",
        "subfile,,start,0,end,9,,:clip.mp4",
        "crypto:clip.mp4",
        "lavfi:testsrc",
        "file:///etc/passwd",
    ],
)
def test_addresses(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it went online"))
    assert "URLs and streams" in refusal(url) or "no such file" in refusal(url)


def test_file_protocol_does_not_reach_an_existing_file(clip: Path) -> None:
    refusal(f"file:{clip}")


PLAYLISTS = {
    "concat": "ffconcat version 1.0\nfile '{target}'\n",
    "concat bare": "file '{target}'\n",
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:2.4,\n{target}\n"
    "#EXT-X-ENDLIST\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT2S"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="1" bandwidth="1"><BaseURL>{target}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\na=control:{target}\n",
    "asx": '<asx version="3.0"><entry><ref href="{target}"/></entry></asx>',
    "rtsp text": "RTSPtextrtsp://127.0.0.1/{target}\n",
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".ffconcat", ".mkv", ".ts", ".avi", ".jpg"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_playlists_are_not_followed(kind: str, suffix: str, clip: Path, tmp_path: Path) -> None:
    """Neither to a video, nor to a pipe: opening that would hang, so it shows what is touched."""
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    for target in (clip, pipe):
        path = tmp_path / f"list{suffix}"
        path.write_text(PLAYLISTS[kind].format(target=target))
        refusal(path)


def test_the_concat_test_would_notice(clip: Path, tmp_path: Path) -> None:
    """With the demuxers of PyAV's default, such a list does lead to the other file."""
    path = tmp_path / "list.mp4"
    path.write_text(PLAYLISTS["concat"].format(target=clip.name))
    (tmp_path / clip.name).write_bytes(clip.read_bytes())
    with av.open(str(path)) as container:
        assert container.format.name == "concat"
        assert len(list(container.decode(video=0))) == 60
    assert "not a video" in refusal(path)


def test_external_data_of_mov_is_not_followed(clip: Path, tmp_path: Path) -> None:
    """A mov may keep its media in another file, named in its `dref` box."""
    plain = Clip(".mov", options={"bf": "0"}).make(tmp_path / "plain")  # its moov comes last
    outside = tmp_path / "outside.bin"
    outside.write_bytes(plain.read_bytes())
    data = with_external_reference(plain.read_bytes(), str(outside))
    mdat = data.index(b"mdat") + 4
    data = data[:mdat] + bytes(data.index(b"moov") - 4 - mdat) + data[data.index(b"moov") - 4 :]
    path = tmp_path / "reference.mov"
    path.write_bytes(data)
    options = {"enable_drefs": "1", "use_absolute_path": "1"}
    with av.open(str(path), container_options=options) as container:
        frames = [
            np.asarray(f.to_ndarray(format="rgb24"), np.uint8) for f in container.decode(video=0)
        ]
    assert numbers_of(frames) == list(range(60)), "FFmpeg could not follow the reference either"
    refusal(path)


def with_external_reference(data: bytes, target: str) -> bytes:
    """A mov whose media are said to lie in `target` (an alias record, as QuickTime wrote them)."""
    name = target.encode()
    folder = name + b"\0" * (len(name) % 2)
    record = bytes(10) + bytes(28) + bytes(12) + bytes([1]) + b"x".ljust(63, b"\0") + bytes(16)
    record += struct.pack(">HH", 1, 1) + bytes(16)  # levels up and down; reserved
    record += struct.pack(">HH", 2, len(name)) + folder + struct.pack(">HH", 0xFFFF, 0)
    entry = b"alis" + bytes(4) + record
    box = b"dref" + bytes(4) + struct.pack(">I", 1) + struct.pack(">I", len(entry) + 4) + entry
    old = data.index(b"dref") - 4
    (old_size,) = struct.unpack(">I", data[old : old + 4])
    new = struct.pack(">I", len(box) + 4) + box
    grown = len(new) - old_size
    result = bytearray(data[:old] + new + data[old + old_size :])
    for parent in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        at = (data.rindex(parent, 0, old + 4) if parent != b"moov" else data.index(parent)) - 4
        (size,) = struct.unpack(">I", data[at : at + 4])
        result[at : at + 4] = struct.pack(">I", size + grown)
    return bytes(result)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("suffix", [".mp4", ".jpg"])
def test_pipes_do_not_hang(suffix: str, tmp_path: Path) -> None:
    pipe = tmp_path / f"pipe{suffix}"
    os.mkfifo(pipe)
    assert "regular file" in refusal(pipe)
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(folder / "img_1.jpg")
    with pytest.raises(VideoDecodeError, match=r"img_1\.jpg.*regular file"):
        VideoReader(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev and short socket names")
def test_devices_and_sockets(tmp_path: Path) -> None:
    assert "regular file" in refusal("/dev/zero")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket.mp4"))
    assert "regular file" in refusal(tmp_path / "socket.mp4")
    server.close()


# Cut off -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["kept", "long"])
@pytest.mark.parametrize("part", [0.4, 0.7, 0.95, -1])
def test_cut_off_mp4(
    part: float, way: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "long":
        monkeypatch.setattr(video_file, "MAX_KEPT_BYTES", 0)
    data = clip.read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: int(len(data) * part) if part > 0 else -1])
    message = refusal(path)
    assert "truncated or damaged after" in message
    count = int(message.split(" readable")[0].split()[-1])
    assert 0 < count < 60
    if part == -1:
        assert count == 59


def test_mp4_cut_exactly_between_two_packets(clip: Path, tmp_path: Path) -> None:
    with av.open(str(clip)) as container:
        ends = sorted(p.pos + p.size for p in container.demux(video=0) if p.pos is not None)
    path = tmp_path / "cut.mp4"
    path.write_bytes(clip.read_bytes()[: ends[29]])
    assert "after 30 readable frames" in refusal(path)


def test_mp4_without_its_index(tmp_path: Path) -> None:
    data = Clip().make(tmp_path / "whole").read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: data.index(b"moov") - 4])
    assert "truncated" in refusal(path)


@pytest.mark.parametrize(
    "clip_kind",
    [
        Clip(".mkv"),
        Clip(".webm", "libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}),
        Clip(".avi", "mpeg4"),
        Clip(".avi", "mjpeg", pix_fmt="yuvj420p"),
        Clip(".flv"),
        Clip(".mpg", "mpeg1video"),
        Clip(".gif", "gif", pix_fmt="rgb8"),
        Clip(".mp4", mux_options={"movflags": "frag_keyframe+empty_moov"}),
    ],
    ids=lambda clip: clip.suffix[1:] + "-" + clip.codec,
)
def test_cut_off_in_other_containers(clip_kind: Clip, tmp_path: Path) -> None:
    data = clip_kind.make(tmp_path / "whole").read_bytes()
    path = tmp_path / f"cut{clip_kind.suffix}"
    for percent in (60, 75):
        path.write_bytes(data[: len(data) * percent // 100 + 7])
        assert "truncated" in refusal(path)


def test_fragmented_mp4_cut_anywhere(tmp_path: Path) -> None:
    """Refused wherever frames are missing, unless it ends between two fragments."""
    whole = Clip(mux_options={"movflags": "frag_keyframe+empty_moov"}).make(tmp_path / "whole")
    data, fragment = whole.read_bytes(), re.compile(b"....(?:moof|mfra)", re.DOTALL)
    *_, last, index = (found.start() for found in fragment.finditer(data))
    path = tmp_path / "cut.mp4"
    for end in (last + 1, last + 7, last + 8, last + 40, last + 300, index - 1):
        path.write_bytes(data[:end])
        assert "truncated" in refusal(path)
    for end in (last, index, index + 20):
        path.write_bytes(data[:end])
        with VideoReader(path) as reader:
            assert (reader.num_frames == 60) == (end >= index)
            assert len(reader.frames_at(range(reader.num_frames))) == reader.num_frames


def test_live_matroska_without_sizes_is_read_to_its_end(tmp_path: Path) -> None:
    whole = Clip(".mkv", mux_options={"live": "1"}).make(tmp_path / "live")
    assert matroska_end(whole.read_bytes()) is None
    with VideoReader(whole) as reader:
        assert reader.num_frames == 60


def test_matroska_end(tmp_path: Path) -> None:
    data = Clip(".mkv", num_frames=5).make(tmp_path / "clip").read_bytes()
    assert matroska_end(data) == len(data)
    assert matroska_end(data[:20]) is None


def test_avi_end(tmp_path: Path) -> None:
    data = Clip(".avi", "mpeg4", num_frames=5).make(tmp_path / "clip").read_bytes()
    assert avi_end(data) == data.rindex(b"idx1"), "the index follows the frames"
    at = data.index(b"movi") - 4
    assert avi_end(media.patched(data, at, b"\xff" * 4)) is None
    assert avi_end(data[:100]) is None


@given(st.binary(max_size=80))
def test_lengths_of_anything(data: bytes) -> None:
    for container_format in ("matroska", "avi", "mov"):
        end = expected_end(container_format, io.BytesIO(data))
        assert end is None or end >= 0
    assert is_complete_gif(b"\x2c" + data) in (True, False)


# Damaged in the middle ---------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["kept", "long"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_around_damage_stay_readable(
    suffix: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Clip(suffix, options={"bf": "0", "x264-params": "scenecut=0"}).make(tmp_path / "clip")
    expected = reference_decode(path)
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][30]
        start = path.read_bytes().index(bytes(packet))
        size = packet.size
    path.write_bytes(media.patched(path.read_bytes(), start + 9, b"\xff" * (size - 9)))
    if way == "long":
        monkeypatch.setattr(video_file, "MAX_KEPT_BYTES", 0)
    with VideoReader(path) as reader:
        assert reader.num_frames == 60
        with pytest.raises(VideoDecodeError, match=r"clip.*frame 30 of 60 is damaged"):
            reader.frames_at([2, 30])
        for index in (35, 31):  # they build on frame 30
            with pytest.raises(VideoDecodeError, match=f"frame {index} of 60"):
                reader.frames_at([index])
        fine = [29, 0, 36, 59]
        frames = reader.frames_at(fine)
        assert numbers_of(frames) == fine
        for frame, index in zip(frames, fine, strict=True):
            np.testing.assert_array_equal(frame, expected[index])


@pytest.mark.parametrize("offset", [9, 16, 30])
@pytest.mark.parametrize(
    "number, way",
    [
        (13, "kept"),
        (14, "kept"),
        (15, "kept"),
        (16, "kept"),
        (20, "kept"),
        (13, "long"),  # only those that others build on: see PacketDecoder.rewind
        (17, "long"),
    ],
)
def test_frames_shown_before_the_damaged_one_they_build_on(
    number: int, way: str, offset: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked one by one, each frame is either refused or right, B-frames included."""
    if way == "long":
        monkeypatch.setattr(video_file, "MAX_KEPT_BYTES", 0)
    # Without the macroblock tree, x264 writes the same bytes every time.
    options = {"bf": "3", "x264-params": "mbtree=0:scenecut=0:b-adapt=0"}
    path = Clip(num_frames=30, options=options).make(tmp_path / "clip")
    expected = reference_decode(path)
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][number]
    data = path.read_bytes()
    damage = b"\xff" * max(packet.size - offset, 0)
    path.write_bytes(media.patched(data, data.index(bytes(packet)) + offset, damage))
    num_refused = 0
    for index in range(30):
        with VideoReader(path) as reader:
            try:
                frame = reader.frames_at([index])[0]
            except VideoDecodeError as error:
                num_refused += 1
                assert f"frame {index} of 30" in str(error)
            else:
                np.testing.assert_array_equal(frame, expected[index])
    assert 0 < num_refused <= 12, "a group of pictures at most"


def test_damaged_avi_gives_no_frame_with_an_uncertain_number(tmp_path: Path) -> None:
    path = Clip(".avi", "mpeg4", options={"bf": "2"}).make(tmp_path / "clip")
    expected = reference_decode(path)
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][30]
        start = path.read_bytes().index(bytes(packet))
    path.write_bytes(media.patched(path.read_bytes(), start + 8, bytes(packet.size - 8)))
    with VideoReader(path) as reader:
        np.testing.assert_array_equal(reader.frames_at([10])[0], expected[10])
        for index in (30, reader.num_frames - 1):
            with pytest.raises(VideoDecodeError, match="damaged"):
                reader.frames_at([index])


# Claims of the impossible ------------------------------------------------------------------------


def huge_gif() -> bytes:
    return (
        b"GIF89a" + struct.pack("<HH", 60000, 60000) + b"\x80\0\0" + bytes(6)
        + b"\x2c" + struct.pack("<HHHH", 0, 0, 60000, 60000) + b"\0\x02\x02\x4c\x01\0;"
    )  # fmt: skip


def huge_h264() -> bytes:
    """A raw h264 stream whose parameters ask for 60000x60000."""
    bits = ""

    def put(value: int, length: int | None = None) -> None:
        nonlocal bits
        if length is None:  # exp-golomb
            code = bin(value + 1)[2:]
            bits += "0" * (len(code) - 1) + code
        else:
            bits += format(value, f"0{length}b")

    def unit(header: int) -> bytes:
        nonlocal bits
        bits += "1"
        bits += "0" * (-len(bits) % 8)
        body = int(bits, 2).to_bytes(len(bits) // 8, "big")
        bits = ""
        for last in range(4):  # emulation prevention
            body = body.replace(bytes([0, 0, last]), bytes([0, 0, 3, last]))
        return b"\0\0\0\1" + bytes([header]) + body

    for value in (66, 0, 51):
        put(value, 8)
    for value in (0, 0, 2, 1):  # id, frame number bits, order type, reference frames
        put(value)
    put(0, 1)
    put(60000 // 16 - 1)
    put(60000 // 16 - 1)
    put(0b1100, 4)
    sps = unit(0x67)
    put(0)
    put(0)
    put(0b00, 2)
    for value in (0, 0, 0):
        put(value)
    put(0, 3)
    for value in (0, 0, 0):
        put(value)
    put(0, 3)
    pps = unit(0x68)
    for value in (0, 7, 0):
        put(value)
    put(0, 4)
    put(0)
    put(0, 2)
    put(0)
    put(0, 40)
    return (sps + pps + unit(0x65)) * 3


def huge_png() -> bytes:
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + chunk(b"IDAT", zlib.compress(bytes(99)))
        + chunk(b"IEND", b"")
    )


def huge_jpeg() -> bytes:
    import cv2

    data = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    at = data.index(b"\xff\xc0")
    return media.patched(data, at + 5, struct.pack(">HH", 60000, 60000))


def huge_mkv(tmp_path: Path) -> bytes:
    path = Clip(".mkv", "ffv1", 2, height=260, width=300).make(tmp_path / "small")
    data = path.read_bytes()
    at = data.index(b"\xb0\x82\x01\x2c\xba\x82\x01\x04")  # width and height of the track
    return media.patched(data, at, b"\xb0\x82\xea\x60\xba\x82\xea\x60")


def huge_avi(tmp_path: Path) -> bytes:
    path = Clip(".avi", "mjpeg", 2, "yuvj420p").make(tmp_path / "small")
    data = path.read_bytes()
    at = data.index(b"strf") + 8 + 4
    data = media.patched(data, at, struct.pack("<ii", 60000, 60000))
    for number in range(2):  # inside the images, too
        at = -1
        for _ in range(number + 1):
            at = data.index(b"\xff\xc0", at + 1)
        data = media.patched(data, at + 5, struct.pack(">HH", 60000, 60000))
    return data


@pytest.mark.skipif(sys.platform == "win32", reason="measures memory the POSIX way")
@pytest.mark.parametrize("kind", ["gif", "h264", "png", "jpg", "bmp", "mkv", "avi"])
def test_huge_claims_take_no_memory(kind: str, tmp_path: Path) -> None:
    data = {
        "gif": huge_gif,
        "h264": huge_h264,
        "png": huge_png,
        "jpg": huge_jpeg,
        "bmp": lambda: (
            b"BM" + bytes(12) + struct.pack("<Iiihh", 40, 60000, 60000, 1, 24) + bytes(99)
        ),
        "mkv": lambda: huge_mkv(tmp_path),
        "avi": lambda: huge_avi(tmp_path),
    }[kind]()
    path = tmp_path / f"huge.{kind}"
    path.write_bytes(data)
    message = run_limited(path, megabytes=300)
    # What only a decoder sees is refused by it, and then nothing is left to read.
    assert "60000x60000" in message or (kind in "gif h264 mkv avi" and "damaged" in message)


def run_limited(path: Path, megabytes: int) -> str:
    """Reads `path` in a process of its own; returns the refusal, checks memory actually used."""
    program = """
        import resource, sys
        import av, cv2, numpy
        from tests import media
        from video_swin_transformer.errors import VideoDecodeError
        from video_swin_transformer.video import VideoReader
        resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))
        before = media.peak_memory_megabytes()
        try:
            VideoReader(sys.argv[1])
        except VideoDecodeError as error:
            print(error)
        else:
            sys.exit("it was read")
        used = media.peak_memory_megabytes() - before
        if used > float(sys.argv[2]):
            sys.exit(f"it took {used} MB")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(path), str(megabytes)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "nothing but the error itself should be said"
    return done.stdout


def test_too_many_packets(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("video_swin_transformer.video.video_file.MAX_PACKETS", 59)
    assert "more than 59 packets" in refusal(clip)


# Quiet -------------------------------------------------------------------------------------------


def test_nothing_is_said_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = Clip(".mkv", options={"bf": "2"}).make(tmp_path / "clip").read_bytes()
    for number in range(10):
        path = tmp_path / f"bad{number}.mkv"
        at = len(data) * (number + 2) // 13
        path.write_bytes(media.patched(data, at, b"\xa5" * 40))
        try:
            with VideoReader(path) as reader:
                reader.frames_at(range(reader.num_frames))
        except VideoDecodeError:
            pass
    captured = capfd.readouterr()
    assert captured.err == "" and captured.out == ""


@pytest.mark.parametrize(
    ("suffix", "codec", "mux"),
    [
        (".mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
        (".mp4", "libx264", {"movflags": "faststart"}),
        (".mkv", "libx264", {}),
        (".avi", "mpeg4", {}),
        (".ts", "libx264", {}),
        (".mpg", "mpeg2video", {}),
    ],
)
def test_allow_truncated_reads_up_to_the_last_intact_frame(suffix, codec, mux, tmp_path, caplog):
    clip = Clip(suffix, codec, num_frames=40, mux_options=mux, options={"g": "10"})
    path = clip.make(tmp_path / "whole")
    truth = reference_decode(path)
    with av.open(str(path)) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.pos]
    path.write_bytes(path.read_bytes()[: positions[len(positions) * 7 // 8] + 10])
    with pytest.raises(VideoDecodeError, match=r"truncated|damaged"), VideoReader(path) as video:
        video.frames_at(range(video.num_frames))
    with VideoReader(path, allow_truncated=True) as video:
        assert 20 <= video.num_frames < 40
        frames = video.frames_at(range(video.num_frames))
    assert all(np.array_equal(a, b) for a, b in zip(frames, truth, strict=False))
    assert "truncated" in caplog.text or suffix == ".ts"  # which has no end to miss


def test_allow_truncated_changes_nothing_for_whole_files(tmp_path, caplog):
    path = Clip(".mp4", num_frames=20).make(tmp_path / "whole")
    with VideoReader(path, allow_truncated=True) as video, VideoReader(path) as other:
        assert video.num_frames == other.num_frames == 20
        assert np.array_equal(video.frames_at(range(20)), other.frames_at(range(20)))
    assert caplog.text == ""
