"""Image folders and single images."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import media
from tests.media import Clip, numbered_frame, numbers_of, save_picture
from video_swin_transformer.errors import VideoDecodeError
from video_swin_transformer.video import VideoReader
from video_swin_transformer.video.images import header_size, is_incomplete
from video_swin_transformer.video.sequences import natural_key

LOSSLESS = [".png", ".bmp", ".ppm", ".tif", ".tiff"]
LOSSY = [".jpg", ".jpeg", ".webp"]


def folder_of(folder: Path, names: list[str]) -> Path:
    """Numbered images under the given names, in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        path = folder / name
        made = save_picture(path.with_suffix(path.suffix.lower()), numbered_frame(number))
        made.rename(path)
    return folder


def test_natural_order(tmp_path: Path) -> None:
    names = [f"img_{number}.png" for number in range(12)]  # img_10 sorts before img_2 as text
    folder = folder_of(tmp_path / "frames", names)
    with VideoReader(folder) as reader:
        assert reader.num_frames == 12
        assert reader.fps is None and reader.times_seconds is None
        assert (reader.height, reader.width) == (64, 96)
        requested = [11, 2, 10, 10, 0]
        frames = reader.frames_at(requested)
        assert numbers_of(frames) == requested
        np.testing.assert_array_equal(frames[1], numbered_frame(2))


def test_padded_names_and_mixed_kinds(tmp_path: Path) -> None:
    names = ["img_00001.jpg", "img_00002.PNG", "img_00003.Jpeg", "img_00010.bmp", "img_00011.webp"]
    folder = folder_of(tmp_path / "frames", names)
    (folder / "readme.txt").write_text("no picture")
    (folder / "._img_00001.jpg").write_bytes(b"left by macOS")
    (folder / "inner").mkdir()
    with VideoReader(str(folder)) as reader:
        assert reader.num_frames == 5
        assert numbers_of(reader.frames_at(range(5))) == [0, 1, 2, 3, 4]


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=20, unique=True))
def test_natural_key_sorts_numbers_as_numbers(numbers: list[int]) -> None:
    names = [f"clip7_frame{number}.jpg" for number in numbers]
    expected = [f"clip7_frame{number}.jpg" for number in sorted(numbers)]
    assert sorted(names, key=natural_key) == expected


@given(
    st.permutations(["a1", "A1", "a01", "a", "", "1", "1a", "a1b2", "a1b10", "\u0663", "a\u00b2"])
)
def test_natural_key_orders_any_names(names: list[str]) -> None:
    expected = ["", "1", "1a", "a", "A1", "a01", "a1", "a1b2", "a1b10", "a\u00b2", "\u0663"]
    assert sorted(names, key=natural_key) == expected


@pytest.mark.parametrize("suffix", LOSSLESS + LOSSY)
def test_a_image_is_a_video_of_one_frame(suffix: str, tmp_path: Path) -> None:
    path = save_picture(tmp_path / f"\u00fcber {suffix}", numbered_frame(77))
    with VideoReader(path) as reader:
        assert reader.num_frames == 1
        frames = reader.frames_at([0, 0])
        assert numbers_of(frames) == [77, 77]
        if suffix in LOSSLESS:
            np.testing.assert_array_equal(frames[0], numbered_frame(77))


def test_kinds_of_pixels(tmp_path: Path) -> None:
    color = numbered_frame(3).copy()
    color[:, :, 0] = 255  # red
    gray = numbered_frame(3)[:, :, 0]
    alpha = np.dstack([color, np.full(gray.shape, 9, np.uint8)])
    cases = {
        "color": (color, color),
        "gray": (gray, numbered_frame(3)),
        "alpha": (alpha, color),
        "deep": (gray.astype(np.uint16) * 257, numbered_frame(3)),
    }
    for name, (stored, expected) in cases.items():
        path = save_picture(tmp_path / f"{name}.png", stored)
        with VideoReader(path) as reader:
            np.testing.assert_array_equal(reader.frames_at([0])[0], expected)


def test_exif_orientation(tmp_path: Path) -> None:
    sideways = np.ascontiguousarray(np.rot90(numbered_frame(9), 1))
    data = save_picture(tmp_path / "plain.jpg", sideways).read_bytes()
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)  # 6: turn clockwise to see it upright
    tiff = b"MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    exif = b"Exif\0\0" + tiff
    path = tmp_path / "phone.jpg"
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    with VideoReader(path) as reader:
        assert (reader.height, reader.width) == (64, 96)
        assert numbers_of(reader.frames_at([0])) == [9]


def test_animated_png_is_read_whole(tmp_path: Path) -> None:
    path = Clip(".apng", "apng", num_frames=4, pix_fmt="rgb24").make(tmp_path / "moving")
    path = path.rename(path.with_suffix(".png"))
    with VideoReader(path) as reader:
        assert numbers_of(reader.frames_at(range(4))) == [0, 1, 2, 3]


def test_animated_webp_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "moving.webp"
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02" + bytes(3) + bytes([95, 0, 0, 63, 0, 0])
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    with pytest.raises(VideoDecodeError, match="animated webp"):
        VideoReader(path)


@pytest.mark.parametrize("suffix", LOSSLESS[:4] + LOSSY)
@pytest.mark.parametrize("mode", [cv2.IMREAD_COLOR])
def test_stated_size(suffix: str, mode: int, tmp_path: Path) -> None:
    data = save_picture(tmp_path / f"p{suffix}", numbered_frame(1, 51, 77)).read_bytes()
    assert header_size(data) == (77, 51)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    assert decoded is not None and decoded.shape == (51, 77, 3)


HEADS = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"P6 ", b""]
HEADS += [b"RIFF\0\0\0\0WEBPVP8" + kind for kind in (b"X", b"L", b" ")]


@given(st.binary(max_size=60), st.sampled_from(HEADS))
def test_stated_size_survives_anything(tail: bytes, head: bytes) -> None:
    size = header_size(head + tail)
    assert size is None or len(size) == 2


# Folders and images that cannot be read --------------------------------------------------------


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(VideoDecodeError, match="contains no images"):
        VideoReader(tmp_path)


def test_another_size_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "frames", ["img_1.png", "img_2.png", "img_3.png"])
    save_picture(folder / "img_2.png", numbered_frame(1, 48, 48))
    with VideoReader(folder) as reader:
        assert numbers_of(reader.frames_at([0, 2])) == [0, 2]
        with pytest.raises(VideoDecodeError, match=r"img_2\.png.*48x48.*96x64"):
            reader.frames_at([0, 1])


@pytest.mark.parametrize("suffix", LOSSLESS[:4] + LOSSY)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_cut_off_image_is_named(part: float, suffix: str, tmp_path: Path) -> None:
    """Never a image whose lower half is gray."""
    folder = folder_of(tmp_path / "frames", [f"img_1{suffix}", f"img_2{suffix}"])
    bad = folder / f"img_2{suffix}"
    data = bad.read_bytes()
    bad.write_bytes(data[: int(len(data) * part)])
    with (
        VideoReader(folder) as reader,
        pytest.raises(VideoDecodeError, match=rf"img_2\{suffix}.*"),
    ):
        reader.frames_at([0, 1])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_incomplete_images_are_told_without_decoding(suffix: str, tmp_path: Path) -> None:
    """Some versions of OpenCV fill up the rest with gray."""
    data = save_picture(tmp_path / f"p{suffix}", numbered_frame(1)).read_bytes()
    assert not is_incomplete(data)
    assert not is_incomplete(data + b"\0" * 100), "padding at the end does no harm"
    for part in (0.5, 0.9):
        assert is_incomplete(data[: int(len(data) * part)])


def test_a_image_that_vanished_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "frames", ["img_1.png", "img_2.png"])
    with VideoReader(folder) as reader:
        (folder / "img_2.png").unlink()
        with pytest.raises(VideoDecodeError, match=r"img_2\.png.*no such file"):
            reader.frames_at([1])


def test_damaged_first_image(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "frames", ["img_1.png", "img_2.png"])
    data = (folder / "img_1.png").read_bytes()
    (folder / "img_1.png").write_bytes(media.patched(data, 60, b"\xff" * 30))
    with pytest.raises(VideoDecodeError, match=r"img_1\.png"):
        VideoReader(folder)


def test_opencv_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = save_picture(tmp_path / "p.bmp", numbered_frame(1))
    path.write_bytes(path.read_bytes()[:3000])
    level = cv2.utils.logging.getLogLevel()
    cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    assert "ERROR" in capfd.readouterr().err, "it usually does; else this test is in vain"
    with pytest.raises(VideoDecodeError, match="damaged"):
        VideoReader(path)
    assert capfd.readouterr().err == ""
    assert cv2.utils.logging.getLogLevel() == level, "and the setting of the program stays"
