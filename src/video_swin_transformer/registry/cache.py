"""Where downloaded files lie on this machine. Nothing is downloaded here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..errors import ConfigError
from .card import ModelCard


def cache_folder() -> Path:
    """$VIDEOSWIN_HOME; else `videoswin` in the user's cache ($XDG_CACHE_HOME or ~/.cache; on
    Windows %LOCALAPPDATA%). Raises ConfigError for a user without a home."""
    own = os.environ.get("VIDEOSWIN_HOME")
    try:
        if own:
            return Path(own).expanduser().absolute()
        if sys.platform == "win32":
            base = os.environ.get("LOCALAPPDATA")
            return (Path(base) if base else Path.home() / "AppData" / "Local") / "videoswin"
        base = os.environ.get("XDG_CACHE_HOME")
        usable = base is not None and Path(base).is_absolute()  # the standard ignores relative ones
        return (Path(base) if base and usable else Path.home() / ".cache") / "videoswin"
    except RuntimeError as error:
        raise ConfigError(
            f"There is no home folder for downloads ({error}); set VIDEOSWIN_HOME to a folder."
        ) from error


def weights_path(card: ModelCard) -> Path | None:
    """Where the downloaded file of a card lies or would lie; None if there is none to download."""
    if card.weights is None or card.weights.file_name is None:
        return None
    return cache_folder() / "weights" / card.weights.file_name


def labels_path(url: str) -> Path:
    """Where a downloaded list of labels lies or would lie."""
    return cache_folder() / "labels" / "_".join(url.split("/")[-2:])


def is_there(path: Path) -> bool:
    """Whether there is such a file, as far as this user may know."""
    return os.path.isfile(path)  # noqa: PTH113 (pathlib raises for a forbidden parent)


def weights_state(card: ModelCard) -> str | None:
    """What is so of a card's weights: "on this machine", "to download" or "not released".

    None for an architecture, which has none.
    """
    if card.weights is None:
        return None
    path = weights_path(card)
    if card.weights.shipped_folder is not None or (path is not None and is_there(path)):
        return "on this machine"
    return "not released" if path is None else "to download"
