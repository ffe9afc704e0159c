"""Opens video files safely and detects truncated files.

Safeguards:
1. Only existing regular files are opened, no URLs, pipes or devices.
2. FFmpeg gets `file:` + absolute path, so that a name such as "concat:a|b" is not parsed as a
   protocol.
3. FFmpeg is restricted to the `file` protocol and to demuxers of self-contained formats. Playlists
   and concat lists are rejected, whatever their name.
"""

from __future__ import annotations

import errno
import math
import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..errors import VideoDecodeError, VideoSwinError
from .sample_table import largest_sample_count

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

MAX_SIDE = 16384  # pixels; larger headers are damaged or malicious
MAX_PIXELS = 100_000_000  # per frame: 300 MB as RGB
MIN_SIDE = 2

# FFmpeg demuxers of self-contained formats. Excluded are those that open other files or streams:
# concat, hls, dash, image2, imf, sdp, rtsp, lavfi, vobsub, mlv and others.
CONTAINER_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h261,h263,h264,hevc,vvc,"
    "obu,av1,ivf,mjpeg,mjpeg_2000,gif,apng,asf,asf_o,flv,live_flv,kux,ogg,wtv,mxf,dv,rm,nut,nsv,"
    "nuv,gxf,vc1,vc1test,cavsvideo,dirac,dnxhd,yuv4mpegpipe,swf,pva,ty,ipu,evc"
)
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_FLV_FILE_SIZE = b"\x00\x08filesize\x00"  # the key, and the type: a number
_HEAD_BYTES = 65536  # of a file; contains the length fields of containers
_SUPPORTED_FORMATS = "mp4, mov, mkv, webm, avi, mpeg, ts, gif, wmv, flv, ogv and similar"
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")

_REASONS = {
    errno.ENOENT: "there is no such file or folder",
    errno.ENOTDIR: "a component of its path is a file, not a folder",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
    errno.ENAMETOOLONG: "its name is longer than the file system allows",
    errno.ELOOP: "its symbolic links are circular",
}


def decode_error(name: str, cause: str) -> VideoDecodeError:
    """Returns the error for an input that cannot be read.

    Args:
        name: The input, for the message.
        cause: Why it cannot be read.
    """
    return VideoDecodeError(f"Cannot read {name!r}: {cause}.")


def reason(error: BaseException) -> str:
    """Returns a short description of an operating system or FFmpeg error."""
    number = getattr(error, "errno", None)
    if isinstance(error, OSError) and number in _REASONS:
        return _REASONS[number]
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).strip().rstrip(".")


@contextmanager
def translate_errors(name: str, doing: str) -> Iterator[None]:
    """Converts exceptions of FFmpeg, OpenCV and the operating system to VideoDecodeError.

    PyAV's exceptions have no common base class except `Exception`, and malicious files can cause
    ArithmeticError or RuntimeError.
    """
    try:
        yield
    except VideoSwinError:
        raise
    except (OSError, ValueError, ArithmeticError, MemoryError, RuntimeError, LookupError) as error:
        raise decode_error(name, f"{doing} failed ({reason(error)})") from error
    except Exception as error:
        if not is_library_error(error):
            raise
        raise decode_error(name, f"{doing} failed ({reason(error)})") from error


def is_library_error(error: Exception) -> bool:
    """Whether an exception was raised by PyAV or OpenCV, as opposed to a bug in this package."""
    return any(kind.__module__.split(".")[0] in ("av", "cv2") for kind in type(error).__mro__)


def status_of(path: str, name: str) -> os.stat_result:
    """Calls `os.stat`. Raises VideoDecodeError if the path cannot be accessed."""
    try:
        return Path(path).stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        if path == "-" or re.match(r"[A-Za-z][A-Za-z0-9+.\-]+:", path):
            raise decode_error(
                name, "URLs and streams are not supported; give the path of a local file"
            ) from error
        raise decode_error(name, reason(error)) from error


def is_folder(path: str, name: str) -> bool:
    """Whether `path` is a folder; otherwise it is a regular, non-empty file.

    Raises:
        VideoDecodeError: The path does not exist, or is an empty file, pipe, device or socket.
    """
    status = status_of(path, name)
    if stat.S_ISDIR(status.st_mode):
        return True
    if not stat.S_ISREG(status.st_mode):
        raise decode_error(name, "it is neither a regular file nor a folder")
    if status.st_size == 0:
        raise decode_error(name, "the file is empty")
    return False


def require_file(path: str, name: str) -> None:
    """Raises VideoDecodeError unless `path` is a regular, non-empty file."""
    if is_folder(path, name):
        raise decode_error(name, "it is a folder, not a file")


def require_size(name: str, width: int, height: int) -> None:
    """Raises VideoDecodeError if the frame size is too small or too large."""
    if min(width, height) < MIN_SIDE:
        raise decode_error(
            name,
            f"its frames are {width}x{height} pixels, but must be at least {MIN_SIDE}x{MIN_SIDE}",
        )
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise decode_error(
            name,
            f"it declares frames of {width}x{height} pixels, but the maximum is {MAX_SIDE} per "
            f"side and {MAX_PIXELS // 1_000_000} million in total",
        )


def require_possible_samples(path: str, name: str) -> None:
    """Raises VideoDecodeError if a file claims more samples than it has bytes.

    FFmpeg makes an index of all of them when it opens the file.
    """
    with translate_errors(name, "opening"):
        num_samples, num_bytes = largest_sample_count(path), Path(path).stat().st_size
    if num_samples > num_bytes:
        raise decode_error(
            name, f"it claims to have {num_samples} samples, but has only {num_bytes} bytes"
        )


def open_container(path: str, name: str) -> tuple[InputContainer, VideoStream]:
    """Opens a local video file and selects its video stream, without decoding.

    Args:
        path: Path of the file.
        name: Name for messages.

    Returns:
        The container and the stream.

    Raises:
        VideoDecodeError: The file is not a supported video.
    """
    import av

    options = {
        "protocol_whitelist": "file",
        "format_whitelist": CONTAINER_FORMATS,
        "enable_drefs": "0",  # mov: do not follow references to other files
        "use_absolute_path": "0",
    }
    try:
        container = av.open(
            "file:" + str(Path(path).absolute()),
            "r",
            options={"max_pixels": str(MAX_PIXELS)},  # for probing of streams
            container_options=options,
            metadata_errors="replace",
        )
    except Exception as error:
        if not (is_library_error(error) or isinstance(error, (OSError, ValueError, RuntimeError))):
            raise
        raise decode_error(name, _open_error_reason(path, error)) from error
    try:
        return container, _video_stream(container, name)
    except BaseException:
        container.close()
        raise


def _open_error_reason(path: str, error: Exception) -> str:
    if isinstance(error, (FileNotFoundError, PermissionError, NotADirectoryError)):
        return reason(error)
    with Path(path).open("rb") as file:
        head = file.read(12)
    looks_like_video = head[4:8] in _MP4_BOXES or head[:4] in (b"RIFF", b"\x1aE\xdf\xa3")
    # EINVAL: not in the format list.
    if looks_like_video and getattr(error, "errno", None) != errno.EINVAL:
        return (
            "the file is truncated or its header is damaged "
            f"({reason(error)}); copy or download it again"
        )
    return f"it is not a video in a supported format ({_SUPPORTED_FORMATS})"


def _video_stream(container: InputContainer, name: str) -> VideoStream:
    """Returns FFmpeg's best video stream, ignoring cover images of audio files."""
    from av.stream import Disposition

    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
        kinds = sorted({str(stream.type) for stream in container.streams}) or ["no streams"]
        raise decode_error(name, f"it has no video stream (it contains {', '.join(kinds)})")
    best = container.streams.best("video")
    stream = next((s for s in streams if best is not None and s.index == best.index), streams[0])
    # PyAV returns no context, despite its type hints, if FFmpeg has no decoder for the codec.
    if getattr(stream, "codec_context", None) is None:
        raise decode_error(name, "no decoder is available for its video codec")
    for other in container.streams:
        if other.index != stream.index and hasattr(other, "discard"):  # not in older PyAV
            other.discard = type(other.discard).all  # lets demuxers skip their data
    width, height = stream.codec_context.width, stream.codec_context.height
    if width and height:  # unknown (0) for some streams before the first frame
        require_size(name, width, height)
    return stream


# --- truncated files ----------------------------------------------------------------------------
#
# FFmpeg reads truncated files without an error, although these containers declare their length.


def expected_end(container_format: str, file: BinaryIO) -> int | None:
    """Returns the byte position where the frames of a file should end; None if unknown.

    Args:
        container_format: FFmpeg's name of the format.
        file: The file, positioned at its start.
    """
    if container_format == "mov":
        return fragments_end(file)
    if container_format == "matroska":
        return matroska_end(file.read(_HEAD_BYTES))
    if container_format == "asf":
        return asf_end(file.read(_HEAD_BYTES))
    if container_format == "flv":
        return flv_end(file.read(_HEAD_BYTES))
    return avi_end(file.read(_HEAD_BYTES)) if container_format == "avi" else None


def fragments_end(file: BinaryIO) -> int | None:
    """Returns where the last fragment of an mp4 should end; None if it has no fragments.

    FFmpeg detects fragments with missing frames, but not those with a missing table. A file that
    ends between two fragments is considered complete.
    """
    length = file.seek(0, os.SEEK_END)
    at, end = 0, None
    while at + 8 <= length:
        file.seek(at)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        if size < 8:  # until the end of the file, or not a box
            return end
        at += size
        if kind == b"moof" or (kind == b"mdat" and end is not None):
            end = at
    has_partial_box = end == at and at < length  # shorter than a box header
    return length + 1 if has_partial_box else end


def matroska_end(head: bytes) -> int | None:
    """Returns where the segment of a matroska file should end; None if its size is unknown."""
    at, is_segment = 0, False
    while not is_segment:
        if at + 12 > len(head):
            return None
        id_length = 9 - head[at].bit_length()
        is_segment = head[at : at + id_length] == b"\x18\x53\x80\x67"
        at += id_length
        size_length = 9 - head[at].bit_length()
        if size_length > 8 or at + size_length > len(head):
            return None
        mask = (1 << 7 * size_length) - 1
        size = int.from_bytes(head[at : at + size_length], "big") & mask
        if size == mask:  # "unknown": written while recording
            return None
        at += size_length + size
    return at


def avi_end(head: bytes) -> int | None:
    """Returns where the list of frames in an avi file should end; None if unknown."""
    at = 12  # after "RIFF", size, "AVI "
    while at + 12 <= len(head):
        size = int.from_bytes(head[at + 4 : at + 8], "little")
        if head[at : at + 4] == b"LIST" and head[at + 8 : at + 12] == b"movi":
            return at + 8 + size if size < 0xFFFFFFF0 else None  # not filled in while recording
        at += 8 + size + size % 2
    return None


def asf_end(head: bytes) -> int | None:
    """Returns the size that an asf (wmv) file states; None if it is unknown."""
    at = head.find(_ASF_FILE_PROPERTIES)
    is_live = at < 0 or len(head) < at + 92 or head[at + 88] & 1
    return None if is_live else int.from_bytes(head[at + 40 : at + 48], "little")


def flv_end(head: bytes) -> int | None:
    """Returns the size that the metadata of an flv file state; None if it is unknown."""
    at = head.find(_FLV_FILE_SIZE) + len(_FLV_FILE_SIZE)
    if at < len(_FLV_FILE_SIZE) or len(head) < at + 8:
        return None
    (size,) = struct.unpack(">d", head[at : at + 8])
    return int(size) if math.isfinite(size) and size > 0 else None


def is_complete_gif(data: bytes) -> bool:
    """Whether the data blocks of a gif image are complete."""
    at = 0
    while at < len(data):
        kind, is_image = data[at], data[at] == 0x2C
        if is_image:
            flags = data[at + 9] if at + 9 < len(data) else 0
            at += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)  # including a local palette
        elif kind == 0x21:  # an extension
            at += 2
        else:
            return True  # trailer, or header before the first image
        while at < len(data) and data[at]:
            at += data[at] + 1
        if at >= len(data):
            return False
        at += 1
        if is_image:
            return True
    return True
