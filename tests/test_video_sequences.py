"""Which images of a folder are frames, TIFF pages, and what a folder contains."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media import Clip, numbered_frame, numbers_of, save_picture
from video_swin_transformer import ClipSampling, ConfigError, Predictor, cli, evaluate
from video_swin_transformer.data import CheckPlan, check_dataset, read_annotations
from video_swin_transformer.data.dataset import TrainClips
from video_swin_transformer.errors import VideoDecodeError
from video_swin_transformer.video import FrameFolder, VideoReader, images
from video_swin_transformer.video.discovery import (
    describe_passed_over,
    find_videos,
    video_suffixes,
)
from video_swin_transformer.video.images import IMAGE_SUFFIXES
from video_swin_transformer.video.sequences import AmbiguousImagesError, choose_sequence

FLOW = 900  # numbers of optical flow and other images that are not frames


def names(pattern: str, count: int, start: int = 1) -> list[str]:
    return [pattern.format(number) for number in range(start, start + count)]


def fill(folder: Path, files: list[str], first: int = 0) -> Path:
    """Numbered images under the given names."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(files, start=first):
        save_picture(folder / name, numbered_frame(number))
    return folder


# --- one pattern is one sequence ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "others"),
    [
        (names("img_{:05d}.jpg", 9), names("flow_x_{:05d}.jpg", 9) + names("flow_y_{:05d}.jpg", 8)),
        (names("image_{:04d}.png", 6), names("x_{:04d}.png", 6) + names("y_{:04d}.png", 6)),
        (names("frame{}.jpg", 12), names("frame_flow_{}.jpg", 11)),
        (names("rgb_{}.jpg", 4), names("depth_{}.png", 4)),
        (names("img_{}.jpg", 4), names("seg-{}.png", 9)),
        (names("{:06d}.jpg", 5), ["cover.jpg", "thumb.png"]),
        (names("{:06d}.jpg", 5), ["preview_1.png"]),
        (names("clip_a_{:04d}.jpg", 5), names("flow_{}.jpg", 5)),
        (names("a{}.jpg", 5), ["a3.png"]),  # one of them in another format
        (names("IMG_{}.JPG", 5), ["IMG_2.jpeg.png"]),
        (names("frame1_{:03d}.jpg", 5), []),
        (names("2024-05-01_12-59-{:02d}.jpg", 9) + names("2024-05-01_13-00-{:02d}.jpg", 9), []),
        (names("12h59m{:02d}s.jpg", 5) + names("13h00m{:02d}s.jpg", 5), []),
        (names("shot1_{:03d}.jpg", 5) + names("shot2_{:03d}.jpg", 5, 6), []),  # counted on
        (["a.png", "b.jpg", "c.webp"], []),
        (["2f9.jpg", "9ac1.jpg", "a.jpg", "b7.jpg"], []),
        (["1.jpg", "2.png", "10.bmp"], []),
    ],
)  # fmt: skip
def test_choose_sequence_takes_one_pattern(frames, others):
    found = choose_sequence([*reversed(frames), *others])
    assert list(found.names) == frames and set(found.passed_over) == set(others)
    assert found.num_images == len(frames)


def test_random_names_are_one_sequence():
    generator = np.random.default_rng(0)
    hashes = [f"{generator.integers(2**40):010x}.jpg" for _ in range(100)]
    assert set(choose_sequence(hashes).names) == set(hashes)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (names("cam1_{}.jpg", 5) + names("cam2_{}.jpg", 5), r"cam1_#\.jpg \(5 images\), cam2_#"),
        (names("left_{}.png", 5) + names("right_{}.png", 4), r"left_#\.png .*right_#\.png"),
        (names("a{}.jpg", 4) + names("b{}.jpg", 3) + ["c.jpg"], "several image sequences"),
        (names("img_{}.jpg", 5) + names("frame_{}.jpg", 5), "several image sequences"),
        (names("{}.jpg", 5) + names("{}.png", 5), r"5 \.jpg, 5 \.png"),
        (names("flow_x_{}.jpg", 5) + names("flow_y_{}.jpg", 5), "optical flow"),
        (names("v_a{}_f{}.jpg".replace("{}_f", "1_f"), 3) + names("v_a2_f{}.jpg", 3), r"v_a1_f#"),
        (["a.jpg", "a.png", "b.jpg", "b.png"], "different formats"),
    ],
)  # fmt: skip
def test_choose_sequence_rejects_several_sequences_by_name(files, message):
    with pytest.raises(AmbiguousImagesError, match=message):
        choose_sequence(files)


@pytest.mark.parametrize(
    ("files", "num_frames", "expected"),
    [
        (names("left_{}.png", 5) + names("right_{}.png", 4), 4, names("right_{}.png", 4)),
        (names("img_{}.jpg", 6) + names("mask_{}.jpg", 5), 5, names("img_{}.jpg", 5)),
        (names("img_{}.jpg", 6), 4, names("img_{}.jpg", 4)),
        (names("img_{}.jpg", 3), 9, names("img_{}.jpg", 3)),
    ],
)
def test_choose_sequence_follows_the_annotated_number(files, num_frames, expected):
    assert list(choose_sequence(files, num_frames).names) == expected


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [
        ([1, 2, 3, 4], ()),
        ([1, 2, 4, 5, 8], (3, 6, 7)),
        ([0, 5, 10, 20], (15,)),  # every fifth frame
        ([0, 2, 4, 6], ()),
        ([17, 900, 31415], ()),  # times, not frames
    ],
)
def test_choose_sequence_lists_missing_numbers(numbers, missing):
    assert choose_sequence([f"img_{n:06d}.jpg" for n in numbers]).missing == missing


def test_video_reader_never_shows_optical_flow(tmp_path):
    folder = fill(tmp_path / "clip", names("img_{:05d}.png", 8))
    for axis in "xy":
        fill(folder, names(f"flow_{axis}_{{:05d}}.png", 7), FLOW)
    with VideoReader(folder) as reader:
        assert numbers_of(reader.frames_at(range(reader.num_frames))) == list(range(8))
    (tmp_path / "list.txt").write_text("clip 6 0\n")
    found = read_annotations(tmp_path / "list.txt")
    clips = TrainClips(found, ClipSampling(num_frames=32, stride=1, num_clips=1), short_side=64)
    seen = {n for epoch in range(4) for n in numbers_of(clips[epoch, 0].views[0])}
    assert seen <= set(range(6)), "the list says 6 frames"


def test_evaluate_reads_the_annotated_number_of_frames(tmp_path):
    """Frames after the annotated number are black and must not change the logits."""
    for name, count in (("long", 30), ("short", 12)):
        folder = fill(tmp_path / name, names("img_{:05d}.png", 12))
        for number in range(12, count):
            save_picture(folder / f"img_{number + 1:05d}.png", np.zeros((64, 96, 3), np.uint8))
    (tmp_path / "list.txt").write_text("long 12 0\nshort 12 0\nlong 30 0\n")
    predictor = Predictor.load(runtime="torch").with_views(1, 1)
    result = evaluate(predictor, tmp_path / "list.txt", tmp_path / "out")
    scores = [clip.label_score for clip in result.clips]
    assert scores[0] == scores[1] != scores[2]
    again = evaluate(predictor, tmp_path / "list.txt", tmp_path / "out", resume=True)
    assert [clip.label_score for clip in again.clips] == scores
    (tmp_path / "list.txt").write_text("long 13 0\nshort 12 0\nlong 30 0\n")
    with pytest.raises(ConfigError, match="clips or their labels have changed"):
        evaluate(predictor, tmp_path / "list.txt", tmp_path / "out", resume=True)


def test_frame_folder_with_too_few_images_is_rejected(tmp_path):
    folder = fill(tmp_path / "clip", names("img_{}.png", 3))
    with pytest.raises(VideoDecodeError, match="says 9 frames, but it contains 3 images"):
        VideoReader(FrameFolder(str(folder), 9))
    with pytest.raises(ConfigError, match="num_frames is 0"):
        FrameFolder(str(folder), 0)
    with VideoReader(FrameFolder(str(folder), 2)) as reader:
        assert reader.num_frames == 2 and str(folder) in repr(reader)


def test_check_data_reports_gaps_and_other_images(tmp_path):
    fill(tmp_path / "a", ["img_1.png", "img_2.png", "img_4.png", "img_5.png", "cover.png"])
    fill(tmp_path / "b", names("cam1_{}.png", 2) + names("cam2_{}.png", 2))
    (tmp_path / "l.txt").write_text("a 4 0\nb 4 0\n")
    report = check_dataset(
        {"l": read_annotations(tmp_path / "l.txt")},
        CheckPlan(ClipSampling(num_frames=4, stride=1, num_clips=1)),
    )
    assert [problem.detail for problem in report.of("gaps")] == [
        "1 numbers are missing among its images: 3"
    ]
    assert "1 images in the folder" in report.of("other_images")[0].detail
    assert "cam1_#.png (2 images), cam2_#.png" in report.of("unreadable")[0].detail


# --- several pages, animations and pixels without a range --------------------------------------


def tiff(path: Path, *pages: np.ndarray) -> Path:
    """A TIFF of several pages, as OpenCV writes it."""
    assert cv2.imwritemulti(
        str(path), [page[..., ::-1] if page.ndim == 3 else page for page in pages]
    )
    return path


def raw_tiff(
    path: Path,
    pages: list[np.ndarray],
    order: Literal["<", ">"] = "<",
    text: str = "",
    kinds: tuple[int, ...] = (),
) -> Path:
    """An uncompressed gray TIFF written byte by byte; `kinds` are values of tag 254."""
    data = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    link = 4
    for number, page in enumerate(pages):
        strip, note = len(data), text.encode() + b"\0"
        data += page.astype(page.dtype.newbyteorder(order)).tobytes()
        note_at = len(data)
        data += note + bytes(len(note) % 2)
        struct.pack_into(order + "I", data, link, len(data))
        sample_format = {"f": 3, "i": 2}.get(page.dtype.kind, 1)
        entries = [
            (254, 4, 1, kinds[number] if kinds else 0), (256, 4, 1, page.shape[1]),
            (257, 4, 1, page.shape[0]), (258, 3, 1, page.itemsize * 8), (259, 3, 1, 1),
            (262, 3, 1, 1), (270, 2, len(note), note_at), (273, 4, 1, strip), (277, 3, 1, 1),
            (278, 4, 1, page.shape[0]), (279, 4, 1, page.nbytes), (339, 3, 1, sample_format),
        ]  # fmt: skip
        data += struct.pack(order + "H", len(entries))
        for tag, kind, count, value in entries:
            packed = (
                struct.pack(order + "H", value) + b"\0\0"
                if kind == 3
                else struct.pack(order + "I", value)
            )
            data += struct.pack(order + "HHI", tag, kind, count) + packed
        link = len(data)
        data += bytes(4)
    path.write_bytes(data)
    return path


GRAY = [numbered_frame(n)[:, :, 0] for n in range(5)]


@pytest.mark.parametrize("suffix", [".tif", ".TIFF"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("is_mapped", [False, True])
def test_video_reader_reads_all_pages_of_a_tiff(
    tmp_path, monkeypatch, suffix, dtype, order, is_mapped
):
    if is_mapped:
        monkeypatch.setattr(images, "MAX_TIFF_BYTES", 0)
    pages = [page.astype(dtype) * (257 if dtype is np.uint16 else 1) for page in GRAY]
    path = raw_tiff(tmp_path / f"\u00fcber{suffix}", pages, order)
    data = path.read_bytes()
    with VideoReader(path) as reader:
        assert (reader.num_frames, reader.height, reader.width) == (5, 64, 96)
        assert numbers_of(reader.frames_at([4, 0, 2, 2, 1])) == [4, 0, 2, 2, 1]
        np.testing.assert_array_equal(reader.frames_at([3])[0], numbered_frame(3))
    assert path.read_bytes() == data, "the mapping is private"
    compressed = tiff(tmp_path / f"c{suffix.lower()}", *map(numbered_frame, range(3)))
    with VideoReader(compressed) as reader:
        assert numbers_of(reader.frames_at(range(3))) == [0, 1, 2]


def test_reduced_copies_and_masks_are_not_frames(tmp_path):
    small = np.ascontiguousarray(GRAY[0][::2, ::2])
    path = raw_tiff(tmp_path / "a.tif", [GRAY[3], small, GRAY[4]], kinds=(0, 1, 2))
    with VideoReader(path) as reader:
        assert numbers_of(reader.frames_at(range(reader.num_frames))) == [3, 4]


@pytest.mark.parametrize(
    ("pages", "text", "message"),
    [
        ([GRAY[0].astype(np.float32)], "", "32-bit floats"),
        ([GRAY[0], GRAY[1].astype(np.float64)], "", r"page 2.*64-bit floats"),
        ([GRAY[0].astype(np.int16)], "", "16-bit signed integers"),
        ([GRAY[0].astype(np.uint32)], "", "32-bit numbers"),
        (GRAY, "ImageJ=1.53t\nimages=5\nchannels=5\n", "5 channels"),
        (GRAY[:1], "ImageJ=1.53t\nimages=900\nslices=900\n", "stack of 900 images"),
    ],
)  # fmt: skip
def test_a_tiff_without_frames_is_rejected_by_name(tmp_path, pages, text, message):
    path = raw_tiff(tmp_path / "stack.tif", pages, text=text)
    with pytest.raises(VideoDecodeError, match=rf"stack\.tif.*{message}"):
        VideoReader(path)


def test_pages_of_different_sizes_and_a_truncated_stack(tmp_path):
    path = raw_tiff(tmp_path / "a.tif", [GRAY[0], GRAY[1][:48]])
    with (
        VideoReader(path) as reader,
        pytest.raises(VideoDecodeError, match=r"page 2.*96x48.*96x64"),
    ):
        reader.frames_at([1])
    whole = raw_tiff(tmp_path / "b.tif", GRAY).read_bytes()
    for part in (0.3, 0.6, 0.95):
        (tmp_path / "b.tif").write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(VideoDecodeError, match="truncated or damaged"):
            VideoReader(tmp_path / "b.tif")


def test_pages_that_form_a_loop_end(tmp_path):
    path = raw_tiff(tmp_path / "a.tif", GRAY[:1])
    data = bytearray(path.read_bytes())
    data[-4:] = data[4:8]  # the last directory points to the first one
    path.write_bytes(data)
    with pytest.raises(VideoDecodeError, match="damaged"):
        VideoReader(path)


def test_overlapping_directories_end_quickly(tmp_path):
    """Half a million directories of 1000 entries each, one every eight bytes."""
    size = 4_000_000
    data = bytearray(b"II*\0\x08\0\0\0" + bytes(size + 20_000))
    for at in range(8, size, 8):
        struct.pack_into("<H", data, at, 1000)
        struct.pack_into("<I", data, at + 2 + 12 * 1000, at + 8)
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    start = time.monotonic()
    with pytest.raises(VideoDecodeError, match="truncated or damaged"):
        VideoReader(path)
    assert time.monotonic() - start < 10


@given(
    st.lists(
        st.from_regex(
            r"[a-z_\-]{0,4}[0-9]{0,3}[a-z_]{0,3}[0-9]{0,2}\.(jpg|png|tif)", fullmatch=True
        ),
        min_size=1,
        unique=True,
    ),
    st.none() | st.integers(1, 9),
)
def test_choose_sequence_of_any_names(files: list[str], num_frames: int | None) -> None:
    try:
        found = choose_sequence(files, num_frames)
    except AmbiguousImagesError:
        return
    assert set(found.names) <= set(files) and not set(found.names) & set(found.passed_over)
    assert len({Path(name).stem for name in found.names}) == len(found.names)
    assert found.num_images + len(found.passed_over) == len(files)
    assert len(found.names) == min(found.num_images, num_frames or found.num_images)


@pytest.mark.parametrize("kind", ["tif", "png", "webp"])
@pytest.mark.parametrize("at", [0, 2])
def test_an_image_with_several_frames_in_a_folder_is_rejected(tmp_path, kind, at):
    folder = fill(tmp_path / "frames", names("img_{}.png", 4))
    (folder / f"img_{at + 1}.png").unlink()
    bad = folder / f"img_{at + 1}.{kind}"
    if kind == "tif":
        tiff(bad, numbered_frame(1), numbered_frame(2))
    elif kind == "png":
        Clip(".apng", "apng", num_frames=3, pix_fmt="rgb24").make(bad).rename(bad)
    else:
        with av.open(str(bad), "w", format="webp") as container:
            stream = container.add_stream("libwebp_anim", rate=10)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            for number in range(3):
                frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
            container.mux(stream.encode(None))
    with pytest.raises(VideoDecodeError, match=rf"{bad.name}.*(2 pages|animated)"):  # noqa: SIM117
        with VideoReader(folder) as reader:
            reader.frames_at([at])


# --- folders --------------------------------------------------------------------------------------


def found_in(root: Path) -> tuple[list[str], Counter[str]]:
    passed_over: Counter[str] = Counter()
    paths = [path.relative_to(root).as_posix() for path in find_videos(root, passed_over)]
    return paths, passed_over


def touch(root: Path, *files: str) -> None:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


@pytest.mark.parametrize(
    ("files", "expected", "others"),
    [
        (["a/vid1.mp4", "a/vid1.jpg", "a/vid2.mp4"], ["a/vid1.mp4", "a/vid2.mp4"], {".jpg": 1}),
        (["a/1.mkv", "a/thumbs_1.png", "a/thumbs_2.png"], ["a/1.mkv"], {".png": 2}),
        (["a/b/1.mp4", "a/cover.jpg"], ["a/b/1.mp4"], {".jpg": 1}),
        (["a/img_1.jpg", "a/img_2.jpg", "a/b/1.mp4"], ["a", "a/b/1.mp4"], {}),
        (["a/1.jpg", "a/2.jpg", "a/notes.txt"], ["a"], {".txt": 1}),
        (["a/one.jpg"], ["a"], {}),
        (["a/b/img_1.jpg", "a/c/img_1.jpg", "a/x.png"], ["a/b", "a/c"], {".png": 1}),
        (["1.MP4", "1.srt", "README", ".hidden.jpg", "quarantine.jsonl"], ["1.MP4"],
         {".srt": 1, "without suffix": 1}),
    ],
)  # fmt: skip
def test_find_videos_takes_no_thumbnail_for_a_clip(tmp_path, files, expected, others):
    touch(tmp_path, *files)
    assert found_in(tmp_path) == (expected, Counter(others))


def test_thumbnails_beside_clips_add_nothing_to_a_class(tmp_path):
    touch(tmp_path, "run/1.mp4", "run/1.jpg", "run/notes.txt", "walk/2.mp4", "walk/2.jpg")
    found = read_annotations(tmp_path)
    assert [Path(item.path).name for item in found.items] == ["1.mp4", "2.mp4"]
    assert found.notes == ("3 files were passed over: 2 .jpg, 1 .txt.",)


READABLE = """
    mp4 m4v mov qt 3gp 3g2 3gpp mj2 f4v ismv mkv mk3d webm avi divx mpg mpeg mpe m1v m2v m2p vob mod
    tod ts mts m2ts m2t trp flv wmv asf ogv ogm mxf gif apng y4m dv dif mjpeg mjpg h261 h263 h264
    264 avc hevc h265 265 vvc 266 obu ivf nut rm rmvb wtv nsv nuv gxf swf pva vc1 drc dnxhd evc insv
    lrv
"""


def test_video_suffixes_are_those_that_the_reader_can_read():
    assert {f".{suffix}" for suffix in READABLE.split()} <= video_suffixes()
    audio = {".m4a", ".m4b", ".mka", ".oga", ".opus", ".mp3", ".wav", ".flac", ".wma"}
    others = {".txt", ".srt", ".json", ".avs", ".ism", ".heic", ".avif", ".mks", ".j2k", ".py"}
    assert not video_suffixes() & (audio | others | IMAGE_SUFFIXES)
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in video_suffixes())


@pytest.mark.parametrize(
    ("suffix", "muxer", "codec"),
    [
        (".qt", "mov", "libx264"),
        (".f4v", "mp4", "libx264"),
        (".y4m", "yuv4mpegpipe", "wrapped_avframe"),
        (".m2p", "vob", "mpeg2video"),
        (".mod", "vob", "mpeg2video"),
        (".divx", "avi", "mpeg4"),
        (".mjpeg", "mjpeg", "mjpeg"),
        (".m2t", "mpegts", "mpeg2video"),
        (".nut", "nut", "mpeg4"),
    ],
)
def test_find_videos_finds_what_the_reader_reads(tmp_path, suffix, muxer, codec):
    path = tmp_path / f"clip{suffix}"
    with av.open(str(path), "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 96, 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(6):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode(None))
    assert found_in(tmp_path) == ([path.name], Counter())
    with VideoReader(path) as reader:
        assert numbers_of(reader.frames_at(range(reader.num_frames))) == list(range(6))
    (tmp_path / "list.txt").write_text(f"clip{suffix} two words\n")
    assert read_annotations(tmp_path / "list.txt").classes == ("two words",)


def test_describe_passed_over():
    assert describe_passed_over({}) is None
    assert describe_passed_over({".txt": 1}) == "1 file was passed over: 1 .txt."
    many = {f".{n}": 1 for n in range(20)} | {".txt": 10}
    assert str(describe_passed_over(many)).startswith("30 files were passed over: 10 .txt, 1 .0,")
    assert str(describe_passed_over(many)).endswith(", ....")


def test_importing_discovery_loads_no_av():
    script = (
        "import sys, video_swin_transformer.data, video_swin_transformer.video.discovery\n"
        "sys.exit('av' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_folder_without_videos_says_what_it_contains(tmp_path, capsys):
    touch(tmp_path, "a.txt", "b.txt", "c.srt")
    assert cli.run(["classify", str(tmp_path)]) == 1
    assert "3 files were passed over: 2 .txt, 1 .srt." in capsys.readouterr().err
