"""Opens a video file safely, and tells whether all of it is there.

Three safeguards, each of which stops some attacks and none all:
1. only an existing regular file is opened, never a URL, a pipe or a device;
2. FFmpeg gets `file:` + absolute path, so a file called "concat:a|b" is a name, not a protocol;
3. FFmpeg may use the `file` protocol only, and only demuxers that keep their media inside the one
   file: a playlist or concat list, whatever its name, is recognized and refused unread.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..errors import VideoDecodeError, VideoSwinError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

MAX_SIDE = 16384  # pixels; above this a header is a mistake or an attack
MAX_PIXELS = 100_000_000  # per frame: 300 MB as RGB
MIN_SIDE = 2

# FFmpeg names of demuxers that read one self-contained file. Left out on purpose: concat, hls,
# dash, image2, imf, sdp, rtsp, lavfi, vobsub, mlv and everything else that opens other files.
CONTAINER_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h261,h263,h264,hevc,vvc,"
    "obu,av1,ivf,mjpeg,mjpeg_2000,gif,apng,asf,asf_o,flv,live_flv,kux,ogg,wtv,mxf,dv,rm,nut,nsv,"
    "nuv,gxf,vc1,vc1test,cavsvideo,dirac,dnxhd,yuv4mpegpipe,swf,pva,ty,ipu,evc"
)
_HEAD_BYTES = 65536  # of a file, where containers state their length
_READABLE = "mp4, mov, mkv, webm, avi, mpeg, ts, gif, wmv, flv, ogv and their like"
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")

_REASONS = {
    errno.ENOENT: "there is no such file or folder",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.EACCES: "you may not read it (permission denied)",
    errno.EPERM: "you may not read it (operation not permitted)",
    errno.ENAMETOOLONG: "its name is longer than the file system allows",
    errno.ELOOP: "its symbolic links go round in a circle",
}


def decode_error(name: str, cause: str) -> VideoDecodeError:
    """The one shape of message: which input, and why it cannot be read."""
    return VideoDecodeError(f"Cannot read {name!r}: {cause}.")


def reason(error: BaseException) -> str:
    """What went wrong, in plain words, for an error of the system or of FFmpeg."""
    number = getattr(error, "errno", None)
    if isinstance(error, OSError) and number in _REASONS:
        return _REASONS[number]
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).strip().rstrip(".")


@contextmanager
def translated(name: str, doing: str) -> Iterator[None]:
    """Turns what FFmpeg, OpenCV or the system raises into VideoDecodeError.

    PyAV's errors derive from `Exception` only, some from ValueError or OSError as well, and a
    hostile file reaches corners that raise ArithmeticError or RuntimeError: all mean "bad input".
    """
    try:
        yield
    except VideoSwinError:
        raise
    except (OSError, ValueError, ArithmeticError, MemoryError, RuntimeError, LookupError) as error:
        raise decode_error(name, f"{doing} failed ({reason(error)})") from error
    except Exception as error:
        if not is_foreign(error):
            raise
        raise decode_error(name, f"{doing} failed ({reason(error)})") from error


def is_foreign(error: Exception) -> bool:
    """Does the error come from PyAV or OpenCV (and not from a mistake in our own code)?"""
    return any(kind.__module__.split(".")[0] in ("av", "cv2") for kind in type(error).__mro__)


def status_of(path: str, name: str) -> os.stat_result:
    """`os.stat` of what the user named. Raises VideoDecodeError if that is impossible."""
    try:
        return Path(path).stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        if path == "-" or re.match(r"[A-Za-z][A-Za-z0-9+.\-]+:", path):
            raise decode_error(
                name, "addresses and streams are not opened; give the path of a local file"
            ) from error
        raise decode_error(name, reason(error)) from error


def is_folder(path: str, name: str) -> bool:
    """Whether `path` is a folder; otherwise it is a regular, non-empty file.

    Raises VideoDecodeError for what does not exist, is empty, or is a pipe, device or socket
    (reading those may hang).
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
    """Refuses frames too small to mean anything and sizes no honest file has."""
    if min(width, height) < MIN_SIDE:
        raise decode_error(
            name,
            f"its picture is {width}x{height} pixels, but must be at least {MIN_SIDE}x{MIN_SIDE}",
        )
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise decode_error(
            name,
            f"it claims a picture of {width}x{height} pixels, but at most {MAX_SIDE} a side and "
            f"{MAX_PIXELS // 1_000_000} million in all are read",
        )


def open_container(path: str, name: str) -> tuple[InputContainer, VideoStream]:
    """Opens a local video file and its video stream, ready to demux. Decodes nothing yet."""
    import av

    options = {
        "protocol_whitelist": "file",
        "format_whitelist": CONTAINER_FORMATS,
        "enable_drefs": "0",  # mov: never follow a reference to another file
        "use_absolute_path": "0",
    }
    try:
        container = av.open(
            "file:" + str(Path(path).absolute()),
            "r",
            options={"max_pixels": str(MAX_PIXELS)},  # for the decoders that probe the streams
            container_options=options,
            metadata_errors="replace",
        )
    except Exception as error:
        if not (is_foreign(error) or isinstance(error, (OSError, ValueError, RuntimeError))):
            raise
        raise decode_error(name, _why_not_opened(path, error)) from error
    try:
        return container, _video_stream(container, name)
    except BaseException:
        container.close()
        raise


def _why_not_opened(path: str, error: Exception) -> str:
    if isinstance(error, (FileNotFoundError, PermissionError, NotADirectoryError)):
        return reason(error)
    with Path(path).open("rb") as file:
        head = file.read(12)
    looks_like_video = head[4:8] in _MP4_BOXES or head[:4] in (b"RIFF", b"\x1aE\xdf\xa3")
    if looks_like_video and getattr(error, "errno", None) != errno.EINVAL:  # EINVAL: not our list
        return (
            "the file is truncated or its header is damaged "
            f"({reason(error)}); copy or download it again"
        )
    return f"it is not a video in a format that is read here ({_READABLE})"


def _video_stream(container: InputContainer, name: str) -> VideoStream:
    """The stream FFmpeg finds best; cover pictures of music files do not count."""
    from av.stream import Disposition

    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
        kinds = sorted({str(stream.type) for stream in container.streams}) or ["nothing"]
        raise decode_error(name, f"it has no video stream (it holds {', '.join(kinds)})")
    best = container.streams.best("video")
    stream = next((s for s in streams if best is not None and s.index == best.index), streams[0])
    # PyAV gives no context (whatever its types say) when FFmpeg has no decoder for the codec.
    if getattr(stream, "codec_context", None) is None:
        raise decode_error(name, "no decoder is available for its video codec")
    for other in container.streams:
        if other.index != stream.index and hasattr(other, "discard"):  # not in older PyAV
            other.discard = type(other.discard).all  # lets demuxers skip over their data
    width, height = stream.codec_context.width, stream.codec_context.height
    if width and height:  # unknown (0) for some streams before the first frame
        require_size(name, width, height)
    return stream


# --- is the file complete? ----------------------------------------------------------------------
#
# FFmpeg reads what is left of a truncated file and reports its end, where these containers say
# that more should follow.


def expected_end(container_format: str, file: BinaryIO) -> int | None:
    """Byte at which the frames of a file should end; None where nothing is said.

    `container_format` is FFmpeg's name of it.
    """
    if container_format == "mov":
        return fragments_end(file)
    if container_format == "matroska":
        return matroska_end(file.read(_HEAD_BYTES))
    return avi_end(file.read(_HEAD_BYTES)) if container_format == "avi" else None


def fragments_end(file: BinaryIO) -> int | None:
    """Where the last fragment of an mp4 should end; None where it has no fragments.

    FFmpeg notices a fragment whose frames are missing, but not one whose table is. A file that
    ends between two fragments is as whole as a recording that was stopped there.
    """
    length = file.seek(0, os.SEEK_END)
    at, end = 0, None
    while at + 8 <= length:
        file.seek(at)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        if size < 8:  # to the end of the file, or no box at all
            return end
        at += size
        if kind == b"moof" or (kind == b"mdat" and end is not None):
            end = at
    begun = end == at and at < length  # with fewer bytes than say what begins there
    return length + 1 if begun else end


def matroska_end(head: bytes) -> int | None:
    """Where a matroska file should end by its segment's size; None where it does not say."""
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
    """Where the list of frames in an avi should end."""
    at = 12  # after "RIFF", size, "AVI "
    while at + 12 <= len(head):
        size = int.from_bytes(head[at + 4 : at + 8], "little")
        if head[at : at + 4] == b"LIST" and head[at + 8 : at + 12] == b"movi":
            return at + 8 + size if size < 0xFFFFFFF0 else None  # not filled in while recording
        at += 8 + size + size % 2
    return None


def gif_is_whole(data: bytes) -> bool:
    """Do the blocks of one gif picture end where they should?"""
    at = 0
    while at < len(data):
        kind, is_picture = data[at], data[at] == 0x2C
        if is_picture:
            flags = data[at + 9] if at + 9 < len(data) else 0
            at += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)  # with its own palette
        elif kind == 0x21:  # an extension
            at += 2
        else:
            return True  # the end, or the header before the first picture
        while at < len(data) and data[at]:
            at += data[at] + 1
        if at >= len(data):
            return False
        at += 1
        if is_picture:
            return True
    return True
