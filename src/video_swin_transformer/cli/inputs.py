"""The inputs and the model that the user named."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..predictor import Predictor


def expand_inputs(inputs: Iterable[str]) -> list[str]:
    """The videos that files, folders and glob patterns stand for, in order, each once.

    A folder stands for every video below it, and for itself if it holds images (the frames of one
    video). A pattern with *, ? or [ is expanded if no file has that very name. An input that
    matches nothing is kept: reading it will report why.
    """
    found: dict[str, None] = {}
    for text in inputs:
        # os.path returns False where pathlib raises: a forbidden parent, a NUL in the name.
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


def describe_predictor(predictor: Predictor) -> str:
    """Model, runtime and views, and why this runtime was selected."""
    clips = predictor.bundle.sampling.num_clips
    crops = predictor.bundle.preprocessing.crops
    text = f"{predictor.name}: {predictor.runtime.description}, {clips}x{crops} views"
    reason = predictor.runtime.selection_reason
    return f"{text}\n{reason}" if reason else text


def exit_code(num_failed: int, num_inputs: int) -> int:
    """1 if inputs failed, which is counted on stderr if there were several; else 0."""
    if num_failed and num_inputs > 1:
        message = f"{num_failed} of {num_inputs} inputs could not be read; the others are done."
        print(message, file=sys.stderr, flush=True)
    return 1 if num_failed else 0
