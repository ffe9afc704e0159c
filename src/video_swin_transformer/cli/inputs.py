"""What the user named on the command line -> the videos meant by it."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path


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
    from ..video.discovery import videos_below

    return [str(path) for path in videos_below(folder)]
