"""Which files below a folder are videos."""

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


def videos_below(folder: Path) -> Iterator[Path]:
    """Every video below `folder`, in order; a folder that holds pictures is one (of frames).

    Hidden files and linked folders are passed over. A folder that may not be listed is handed
    on itself: reading it will say why.
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
            if not entry.is_symlink():  # a link could lead round in a circle
                yield from videos_below(entry)
        elif entry.suffix.lower() in VIDEO_SUFFIXES:
            yield entry
