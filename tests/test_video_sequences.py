"""Which images of a folder are frames, TIFF pages, and what a folder contains."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
import pytest

from tests.media import Clip, numbered_frame, numbers_of, save_picture
from video_swin_transformer.errors import VideoDecodeError
from video_swin_transformer.video import FrameFolder, VideoReader
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


def test_frame_folder_with_too_few_images_is_rejected(tmp_path):
    folder = fill(tmp_path / "clip", names("img_{}.png", 3))
    with pytest.raises(VideoDecodeError, match="says 9 frames, but it contains 3 images"):
        VideoReader(FrameFolder(str(folder), 9))
    with VideoReader(FrameFolder(str(folder), 2)) as reader:
        assert reader.num_frames == 2 and str(folder) in repr(reader)


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
def test_video_reader_reads_all_pages_of_a_tiff(tmp_path, suffix, dtype, order):
    pages = [page.astype(dtype) * (257 if dtype is np.uint16 else 1) for page in GRAY]
    path = raw_tiff(tmp_path / f"\u00fcber{suffix}", pages, order)
    with VideoReader(path) as reader:
        assert (reader.num_frames, reader.height, reader.width) == (5, 64, 96)
        assert numbers_of(reader.frames_at([4, 0, 2, 2, 1])) == [4, 0, 2, 2, 1]
        np.testing.assert_array_equal(reader.frames_at([3])[0], numbered_frame(3))
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
