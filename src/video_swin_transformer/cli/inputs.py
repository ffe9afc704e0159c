"""What the user named on the command line -> the videos meant by it."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

# fmt: off
VIDEO_SUFFIXES = frozenset([
    ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v",
    ".vob", ".ts", ".mts", ".m2ts", ".flv", ".wmv", ".asf", ".ogv", ".mxf", ".gif", ".apng",
    ".h264", ".264", ".hevc", ".h265", ".265", ".ivf",
])
# fmt: on


def expand_inputs(inputs: Iterable[str]) -> list[str]:
    """Files as they are, folders and patterns as the videos in them, in order, each once.

    A folder stands for every video below it, and for itself where it holds pictures (frames of
    one video). A pattern with *, ? or [ is expanded here if no file has that very name. What
    leads to nothing is kept as it is: reading it will say what is wrong.
    """
    found: dict[str, None] = {}
    for text in inputs:
        # os.path answers "no" where pathlib raises: a forbidden parent, a NUL in the name.
        if os.path.isdir(text):  # noqa: PTH112
            found.update(dict.fromkeys(_videos_below(Path(text)) or [text]))
        elif glob.has_magic(text) and not os.path.exists(text):  # noqa: PTH110
            matches = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 (takes any path)
            found.update(dict.fromkeys(expand_inputs(matches) if matches else [text]))
        else:
            found[text] = None
    return list(found)


def _videos_below(folder: Path) -> list[str]:
    from ..video.pictures import PICTURE_SUFFIXES

    return [str(path) for path in _walk(folder, PICTURE_SUFFIXES)]


def _walk(folder: Path, picture_suffixes: Collection[str]) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        yield folder  # reading it will say why it cannot be opened
        return
    visible = [entry for entry in entries if not entry.name.startswith(".")]
    if any(entry.suffix.lower() in picture_suffixes for entry in visible):
        yield folder
    for entry in visible:
        if entry.is_dir():
            if not entry.is_symlink():  # a link could lead round in a circle
                yield from _walk(entry, picture_suffixes)
        elif entry.suffix.lower() in VIDEO_SUFFIXES:
            yield entry
