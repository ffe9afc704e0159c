"""Reads image files and TIFF pages with OpenCV, as frames of a video."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .arrays import Ints, Pixels
from .container import (
    decode_error,
    reason,
    require_file,
    require_size,
    translate_errors,
)
from .sequences import AmbiguousImagesError, ImageSequence, choose_sequence

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
TIFF_HEADS = (b"II*\0", b"MM\0*")
_TIFF_TAGS = frozenset({254, 256, 257, 258, 339})  # kind, width, height, bits, sample format
_TIFF_DESCRIPTION = 270
_TIFF_REDUCED, _TIFF_MASK = 1, 4  # bits of tag 254
MAX_TIFF_BYTES = 256 * 2**20  # of a file that is read as a whole
_MAX_TIFF_BITS = 16
_MAX_DESCRIPTION_BYTES = 4096
_PNM_HEADER = re.compile(rb"P[1-6]\s+(?:#.*\n\s*)*(\d{1,9})\s+(?:#.*\n\s*)*(\d{1,9})\s")


@dataclass(frozen=True)
class FrameFolder:
    """A folder of images of which an annotation states the number of frames.

    Attributes:
        path: Path of the folder.
        num_frames: Number of frames; further images are not frames. If there are fewer, the
            folder cannot be read.

    Raises:
        ConfigError: `num_frames` is less than 1.
    """

    path: str
    num_frames: int

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ConfigError(f"num_frames is {self.num_frames}, but must be 1 or more.")

    def __str__(self) -> str:
        return self.path


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
    def from_folder(cls, folder: str, name: str, num_frames: int | None = None) -> ImageFolder:
        """Uses the images in `folder` that are its frames, in natural order (img_2 before img_10).

        Raises:
            VideoDecodeError: There are no images, several sequences or fewer than `num_frames`
                images, or the folder cannot be listed.
        """
        found = find_frames(folder, name, num_frames)
        if num_frames is not None and found.num_images < num_frames:
            raise decode_error(name, missing_frames_reason(num_frames, found.num_images))
        frames = found.names
        return cls([Path(folder) / file for file in frames], [str(Path(name) / f) for f in frames])

    def close(self) -> None:
        """Does nothing; no files are kept open."""

    def read(self, positions: Ints) -> Iterator[tuple[int, Pixels]]:
        """Yields the images at `positions`, each as (position, RGB pixels)."""
        for position in positions.tolist():
            image = self._first
            if position:
                image = read_image(self._paths[position], self._names[position])
            _require_first_size(self._names[position], image, self._first, "image of its folder")
            yield position, image


class TiffPages:
    """The pages of a TIFF file as a video, without timestamps.

    Large files are mapped into memory, so that only the requested pages are loaded. Pages with a
    reduced copy or a mask of another page are not frames.
    """

    fps = None
    times_seconds = None

    def __init__(self, path: str, name: str) -> None:
        self._name = name
        self._data: NDArray[np.uint8]
        if Path(path).stat().st_size <= MAX_TIFF_BYTES:
            self._data = np.fromfile(path, np.uint8)
        else:  # a private copy-on-write mapping: `_page` changes its header, not the file
            self._data = np.memmap(path, np.uint8, mode="c")
        self._pages = tiff_pages(self._data.data, name)
        for number, page in enumerate(self._pages, start=1):
            _require_decodable(name if len(self._pages) == 1 else f"{name} (page {number})", page)
        self.num_frames = len(self._pages)
        self._first = self._page(0)
        self.height, self.width = self._first.shape[:2]

    def close(self) -> None:
        """Frees or unmaps the file."""
        del self._data

    def read(self, positions: Ints) -> Iterator[tuple[int, Pixels]]:
        """Yields the pages at `positions`, each as (position, RGB pixels)."""
        for position in positions.tolist():
            image = self._page(position) if position else self._first
            name = f"{self._name} (page {position + 1})"
            _require_first_size(name, image, self._first, "page")
            yield position, image

    def _page(self, position: int) -> Pixels:
        order = "little" if self._data[0] == ord("I") else "big"
        offset = self._pages[position].offset.to_bytes(4, order)  # type: ignore[arg-type]
        self._data[4:8] = np.frombuffer(offset, np.uint8)  # decoders start with this page
        return _decode(self._data, f"{self._name} (page {position + 1})")


def find_frames(folder: str | Path, name: str, num_frames: int | None = None) -> ImageSequence:
    """Lists a folder and chooses the images that are its frames; see `choose_sequence`.

    Args:
        folder: Path of the folder.
        name: Name for messages.
        num_frames: The number of frames according to an annotation.

    Returns:
        The sequence.

    Raises:
        VideoDecodeError: There are no images or several sequences, or the folder cannot be listed.
    """
    try:
        found = [p.name for p in Path(folder).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES]
    except OSError as error:
        raise decode_error(name, reason(error)) from error
    found = [file for file in found if not file.startswith(".")]  # macOS leaves "._img.jpg"
    if not found:
        raise decode_error(name, "the folder contains no images (jpg, png, bmp, webp, tif, ppm)")
    try:
        return choose_sequence(found, num_frames)
    except AmbiguousImagesError as error:
        raise decode_error(name, str(error)) from error


def missing_frames_reason(num_frames: int, num_images: int) -> str:
    """Describes a folder with fewer images than its annotation says."""
    return (
        f"its annotation says {num_frames} frames, but it contains {num_images} images; correct "
        "the annotation, or extract the frames again"
    )


def _require_first_size(name: str, image: Pixels, first: Pixels, what: str) -> None:
    if image.shape != first.shape:
        raise decode_error(
            name,
            f"it is {image.shape[1]}x{image.shape[0]} pixels, but the first {what} is "
            f"{first.shape[1]}x{first.shape[0]}",
        )


def read_image(path: Path, name: str) -> Pixels:
    """Reads an image file that contains a single image.

    EXIF orientation is applied, grayscale is repeated to three channels, and alpha is dropped.

    Args:
        path: Path of the file.
        name: Name for messages.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        VideoDecodeError: The file is not an image, is truncated or damaged, contains several
            images, or has pixels that have no defined brightness, such as floats.
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
    if is_animated(raw):
        raise decode_error(
            name,
            "it is animated, but an image in a folder must be a single frame; give the animation "
            "itself as a video, or move it out of the folder",
        )
    if raw[:4] in TIFF_HEADS:
        pages = tiff_pages(data.data, name)
        if len(pages) > 1:
            raise decode_error(
                name,
                f"it has {len(pages)} pages, but an image in a folder must be a single frame; give "
                "the file itself as a video, or save its pages as images",
            )
        for page in pages:
            _require_decodable(name, page)
    return _decode(data, name)


def _decode(data: NDArray[np.uint8], name: str) -> Pixels:
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
        elif data[:4] in TIFF_HEADS:
            page = next(_iter_tiff_pages(memoryview(data)))
            size = (page.width, page.height) if page.width and page.height else None
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


@dataclass(frozen=True)
class TiffPage:
    """What the directory of a TIFF page declares.

    Attributes:
        offset: Position of the directory in the file.
        width: Width in pixels.
        height: Height in pixels.
        bits: Bits per sample.
        sample_format: 1 unsigned, 2 signed, 3 float, and others.
        is_auxiliary: Whether it is a reduced copy or a mask of another page.
        description: Text of the writing program, of the first page only.
    """

    offset: int
    width: int
    height: int
    bits: int
    sample_format: int
    is_auxiliary: bool
    description: str


def tiff_pages(data: memoryview, name: str) -> list[TiffPage]:
    """Lists the pages of a TIFF file, without reduced copies and masks.

    Args:
        data: The file.
        name: Name for messages.

    Returns:
        The pages.

    Raises:
        VideoDecodeError: The list of pages is truncated or damaged.
    """
    try:
        pages = list(_iter_tiff_pages(data))
    except (struct.error, IndexError) as error:
        raise decode_error(
            name, "its list of pages is truncated or damaged; copy or download it again"
        ) from error
    stated = re.search(r"^images=(\d{1,9})\s*$", pages[0].description, re.MULTILINE)
    if stated and pages[0].description.startswith("ImageJ=") and int(stated[1]) > len(pages):
        raise decode_error(
            name,
            f"it is an ImageJ stack of {stated[1]} images without a directory for each (as for "
            "stacks over 4 GB); save it as an image sequence",
        )
    return [page for page in pages if not page.is_auxiliary] or pages


def _iter_tiff_pages(data: memoryview) -> Iterator[TiffPage]:
    """Yields all pages. Raises struct.error or IndexError if a directory is outside the file."""
    order = "<" if data[:2].tobytes() == b"II" else ">"
    (offset,) = struct.unpack(order + "I", data[4:8])
    first, num_bytes = offset, 0
    while offset or not num_bytes:  # the last directory points to 0
        (num_entries,) = struct.unpack(order + "H", data[offset : offset + 2])
        end = offset + 2 + 12 * num_entries
        num_bytes += end + 4 - offset
        if num_bytes > len(data):
            raise IndexError("the directories overlap or form a loop")
        yield _tiff_page(data, offset, num_entries, order, has_text=offset == first)
        (offset,) = struct.unpack(order + "I", data[end : end + 4])


def _tiff_page(
    data: memoryview, offset: int, num_entries: int, order: str, *, has_text: bool
) -> TiffPage:
    found: dict[int, int] = {}
    description = b""
    for at in range(offset + 2, offset + 2 + 12 * num_entries, 12):
        tag, kind, count = struct.unpack(order + "HHI", data[at : at + 8])
        num_bytes = {3: 2, 4: 4}.get(kind, 1)
        if num_bytes * count > 4:  # the entry holds the position of the values
            (place,) = struct.unpack(order + "I", data[at + 8 : at + 12])
        else:
            place = at + 8
        if tag in _TIFF_TAGS and count:
            layout = {2: "H", 4: "I"}.get(num_bytes, "B")
            (found[tag],) = struct.unpack(order + layout, data[place : place + num_bytes])
        elif has_text and tag == _TIFF_DESCRIPTION:
            description = data[place : place + min(count, _MAX_DESCRIPTION_BYTES)].tobytes()
    return TiffPage(
        offset,
        found.get(256, 0),
        found.get(257, 0),
        found.get(258, 1),
        found.get(339, 1),
        bool(found.get(254, 0) & (_TIFF_REDUCED | _TIFF_MASK)),
        description.decode("latin-1"),
    )


def _require_decodable(name: str, page: TiffPage) -> None:
    """Raises VideoDecodeError for pages whose size, pixels or order are not those of frames."""
    require_size(name, page.width, page.height)
    if page.sample_format != 1 or page.bits > _MAX_TIFF_BITS:
        kind = {2: "signed integers", 3: "floats"}.get(page.sample_format, "numbers")
        raise decode_error(
            name,
            f"its pixels are {page.bits}-bit {kind}, whose range of brightness is not defined; "
            "convert it to unsigned 8 or 16 bits",
        )
    if page.description.startswith("ImageJ="):
        stack = dict(re.findall(r"^(channels)=(\d+)", page.description, re.MULTILINE))
        if int(stack.get("channels", "1")) > 1:
            raise decode_error(
                name,
                f"it is an ImageJ stack of {stack['channels']} channels, one page each; save it as "
                "RGB",
            )


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
        return not _has_whole_png_chunks(data)
    if data[:4] == b"RIFF":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    return False


def _has_whole_png_chunks(data: bytes) -> bool:
    """Whether all chunks up to the last one are there. libpng reserves what a chunk claims."""
    at = 8
    while at + 12 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        at += 12 + size
        if kind == b"IEND":
            return at <= len(data)
    return False
