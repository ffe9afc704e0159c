"""Reads image files with OpenCV, as frames of a video."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from .arrays import Ints, Pixels
from .container import (
    decode_error,
    reason,
    require_file,
    require_size,
    translate_errors,
)

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
_PNM_HEADER = re.compile(rb"P[1-6]\s+(?:#.*\n\s*)*(\d{1,9})\s+(?:#.*\n\s*)*(\d{1,9})\s")


class ImageFolder:
    """Image files as a video, without timestamps."""

    fps = None
    times_seconds = None

    def __init__(self, paths: list[Path], names: list[str]) -> None:
        self._paths, self._names = paths, names
        self.num_frames = len(paths)
        self._first = read_image(paths[0], names[0])
        self.height, self.width = self._first.shape[:2]

    @classmethod
    def from_folder(cls, folder: str, name: str) -> ImageFolder:
        """Uses all images in `folder`, in natural order (img_2 before img_10).

        Raises:
            VideoDecodeError: There are no images, or the folder cannot be listed.
        """
        try:
            found = [p for p in Path(folder).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES]
        except OSError as error:
            raise decode_error(name, reason(error)) from error
        found = [p for p in found if not p.name.startswith(".")]  # macOS leaves "._img.jpg"
        if not found:
            raise decode_error(
                name, "the folder contains no images (jpg, png, bmp, webp, tif, ppm)"
            )
        found.sort(key=lambda path: (natural_key(path.stem), path.name))
        return cls(found, [str(Path(name) / path.name) for path in found])

    def close(self) -> None:
        """Does nothing; no files are kept open."""

    def read(self, positions: Ints) -> Iterator[tuple[int, Pixels]]:
        """Yields the images at `positions`, each as (position, RGB pixels)."""
        for position in positions.tolist():
            image = self._first
            if position:
                image = read_image(self._paths[position], self._names[position])
            if image.shape != self._first.shape:
                raise decode_error(
                    self._names[position],
                    f"it is {image.shape[1]}x{image.shape[0]} pixels, but the first image "
                    f"of its folder is {self.width}x{self.height}",
                )
            yield position, image


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key that compares numbers in names by value: img_2 before img_10.

    Names that differ only in case or leading zeros are ordered by the name itself.
    """
    parts = re.split(r"([0-9]+)", name.lower())
    key = [(0, int(part), "") if index % 2 else (1, 0, part) for index, part in enumerate(parts)]
    return [*(item for item in key if item != (1, 0, "")), (-1, 0, name)]


def read_image(path: Path, name: str) -> Pixels:
    """Reads an image file.

    EXIF orientation is applied, grayscale is repeated to three channels, and alpha is dropped.

    Args:
        path: Path of the file.
        name: Name for messages.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        VideoDecodeError: The file is not an image, or is truncated or damaged.
    """
    require_file(str(path), name)
    with translate_errors(name, "reading it"):
        data = np.fromfile(path, np.uint8)  # cv2.imread cannot open every name on Windows
        raw = data.tobytes()
    size = header_size(raw)
    if size is None:
        raise decode_error(name, "it is not an image in a supported format")
    require_size(name, *size)
    if is_incomplete(raw):
        raise decode_error(name, "the image is truncated; copy or download it again")
    with translate_errors(name, "decoding it"), _quiet_opencv():
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR)
        if bgr is None:
            raise decode_error(name, "it is not an image, or it is damaged")
        require_size(name, bgr.shape[1], bgr.shape[0])
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Suppresses messages of OpenCV about invalid images on stderr."""
    logging = cv2.utils.logging
    previous = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(previous)


def header_size(data: bytes) -> tuple[int, int] | None:
    """Returns (width, height) from an image header; None if the format is unknown.

    Checked before decoding, since a small file can declare an image of many gigabytes.
    """
    size: tuple[int, int] | None = None
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            size = struct.unpack(">II", data[16:24])
        elif data[:2] == b"\xff\xd8":
            size = _jpeg_size(data)
        elif data[:2] == b"BM":
            is_old = data[14:18] == b"\x0c\0\0\0"
            size = struct.unpack(*(("<HH", data[18:22]) if is_old else ("<ii", data[18:26])))
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            size = _webp_size(data)
        elif data[:4] in (b"II*\0", b"MM\0*"):
            size = _tiff_size(data)
        elif header := _PNM_HEADER.match(data):
            size = (int(header[1]), int(header[2]))
    except (struct.error, IndexError):
        return None
    return None if size is None else (abs(size[0]), abs(size[1]))  # bmp: negative is top-down


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        elif marker in (0x01, *range(0xD0, 0xD9)):  # markers without content
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return width, height
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


def _tiff_size(data: bytes) -> tuple[int, int] | None:
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack(order + "I", data[4:8])
    (num_entries,) = struct.unpack(order + "H", data[start : start + 2])
    found: dict[int, int] = {}
    for at in range(start + 2, start + 2 + 12 * num_entries, 12):
        tag, kind = struct.unpack(order + "HH", data[at : at + 4])
        if tag in (256, 257):  # width, height; a short (3) or a long (4)
            layout, num_bytes = ("H", 2) if kind == 3 else ("I", 4)
            (found[tag],) = struct.unpack(order + layout, data[at + 8 : at + 8 + num_bytes])
    return (found[256], found[257]) if len(found) == 2 else None


def is_animated(data: bytes) -> bool:
    """Whether a png or webp is animated; OpenCV would read only its first frame."""
    if data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X":
        return bool(data[20] & 0x02)
    return data[:8] == b"\x89PNG\r\n\x1a\n" and b"acTL" in data[: data.find(b"IDAT")]


def is_incomplete(data: bytes) -> bool:
    """Whether image data is truncated; decoders fill the rest with gray without an error."""
    if data[:2] == b"\xff\xd8":  # these two markers do not occur in entropy-coded data
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    if data[:4] == b"\x89PNG":
        return b"IEND" not in data
    if data[:4] == b"RIFF":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    return False
