"""Finds videos in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .images import IMAGE_SUFFIXES

# fmt: off
VIDEO_SUFFIXES = frozenset([
    ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v",
    ".vob", ".ts", ".mts", ".m2ts", ".flv", ".wmv", ".asf", ".ogv", ".mxf", ".gif", ".apng",
    ".h264", ".264", ".hevc", ".h265", ".265", ".ivf",
])
# fmt: on


def find_videos(folder: Path) -> Iterator[Path]:
    """Finds all videos in a folder and its subfolders.

    A folder that contains images is a video (of frames). Hidden files and symbolic links to
    folders are skipped.

    Args:
        folder: The folder.

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
    if any(entry.suffix.lower() in IMAGE_SUFFIXES for entry in visible):
        yield folder
    for entry in visible:
        if entry.is_dir():
            if not entry.is_symlink():  # a link may be circular
                yield from find_videos(entry)
        elif entry.suffix.lower() in VIDEO_SUFFIXES:
            yield entry
