"""Finds videos in a folder."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..file_names import one_line
from .container import CONTAINER_FORMATS
from .images import IMAGE_SUFFIXES
from .sequences import is_numbered_sequence

# Suffixes of readable formats that FFmpeg's demuxers do not register: they recognize the content.
# fmt: off
_OTHER_SUFFIXES = frozenset([
    ".qt", ".hdmov", ".mp4v", ".3gpp", ".3gp2", ".cmfv", ".m4s", ".insv", ".lrv", ".360",
    ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".mpv", ".mp2v", ".mpv2", ".m2p", ".vob", ".evo",
    ".mod", ".tod", ".ts", ".mts", ".m2ts", ".m2t", ".tp", ".trp", ".divx", ".xvid",
    ".wmv", ".asf", ".dvr-ms", ".wtv", ".ogv", ".ogm", ".mxf", ".rm", ".rmvb", ".rv", ".nsv",
    ".nuv", ".gxf", ".swf", ".pva", ".drc", ".dnxhd", ".dnxhr", ".cavs", ".h263", ".263", ".h261",
    ".261", ".ivf", ".av1", ".apng", ".mjp",
])
# Registered by demuxers that also read video, but by convention audio, subtitles, still images,
# manifests or scripts.
_NOT_VIDEO = frozenset([
    ".m4a", ".m4b", ".mka", ".mks", ".isma", ".ogg", ".oga", ".opus", ".spx", ".wma", ".ra",
    ".avif", ".heic", ".heif", ".mpo", ".j2k", ".jp2", ".ism", ".avs",
])
# fmt: on
_MAX_SUFFIXES = 8  # in a message
# Written into dataset folders by this package.
_OWN_FILES = frozenset({"quarantine.jsonl", "prepared.jsonl", "prepared.jsonl.lock"})


@functools.cache
def video_suffixes() -> frozenset[str]:
    """Returns the suffixes of the files that `VideoReader` can read, such as ".mp4".

    They are those of FFmpeg's demuxers for `CONTAINER_FORMATS` and a few that demuxers do not
    register, without the suffixes of images. A file with another suffix can still be read if it is
    named explicitly.
    """
    from av.format import ContainerFormat

    registered: set[str] = set()
    for name in CONTAINER_FORMATS.split(","):
        try:
            registered |= {f".{suffix.lower()}" for suffix in ContainerFormat(name).extensions}
        except ValueError:  # not in this build of FFmpeg
            continue
    return frozenset(registered | _OTHER_SUFFIXES) - _NOT_VIDEO - IMAGE_SUFFIXES


def find_videos(folder: Path, passed_over: Counter[str] | None = None) -> Iterator[Path]:
    """Finds all videos in a folder and its subfolders.

    A folder that contains images is a video (of frames). Images beside videos are not: they are
    thumbnails. Neither are images above videos, unless they are a numbered sequence. Hidden files
    and symbolic links to folders are skipped.

    Args:
        folder: The folder.
        passed_over: Counts the other files by suffix; see `describe_passed_over`.

    Yields:
        Paths of videos and frame folders, in sorted order. A folder that cannot be listed is
        yielded itself, so that reading it raises the error.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        yield folder
        return
    visible = [entry for entry in entries if not entry.name.startswith(".")]
    images: list[Path] = []
    found: list[Path] = []
    has_videos = False
    for entry in visible:
        suffix = entry.suffix.lower()
        if entry.is_dir():
            if not entry.is_symlink():  # a link may be circular
                found += find_videos(entry, passed_over)
        elif suffix in video_suffixes():
            found.append(entry)
            has_videos = True
        elif suffix in IMAGE_SUFFIXES:
            images.append(entry)
        elif passed_over is not None and entry.name not in _OWN_FILES:
            passed_over[suffix or "without suffix"] += 1
    is_sequence = not found or is_numbered_sequence([entry.name for entry in images])
    if images and not has_videos and is_sequence:
        yield folder
    elif passed_over is not None:
        passed_over.update(entry.suffix.lower() for entry in images)
    yield from found


def describe_passed_over(passed_over: Mapping[str, int]) -> str | None:
    """Describes the files that `find_videos` passed over.

    Args:
        passed_over: Number of files by suffix.

    Returns:
        One sentence, such as "12 files were passed over: 10 .txt, 2 .srt."; None without files.
    """
    total = sum(passed_over.values())
    if not total:
        return None
    counts = sorted(passed_over.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{count} {one_line(suffix)}" for suffix, count in counts[:_MAX_SUFFIXES])
    more = ", ..." if len(counts) > _MAX_SUFFIXES else ""
    return f"{total} file{' was' if total == 1 else 's were'} passed over: {listed}{more}."
