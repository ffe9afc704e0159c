"""Paths of downloaded files. Nothing is downloaded here."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from ..errors import ConfigError
from .card import ModelCard


def cache_folder() -> Path:
    """Returns the folder for downloads and compiled models.

    It is $VIDEOSWIN_HOME if that is set, otherwise a folder in the user's cache.

    Returns:
        An absolute path; the folder may not exist.

    Raises:
        ConfigError: There is no home folder.
    """
    own = os.environ.get("VIDEOSWIN_HOME")
    try:
        if own:
            return Path(own).expanduser().absolute()
        folder = platformdirs.user_cache_path("videoswin", appauthor=False)
    except RuntimeError as error:
        raise _no_home(str(error)) from error
    if not folder.is_absolute():  # the home folder is unknown
        raise _no_home(str(folder))
    return folder


def _no_home(cause: str) -> ConfigError:
    return ConfigError(
        f"There is no home folder for the cache ({cause}); set VIDEOSWIN_HOME to a folder."
    )


def weights_path(card: ModelCard) -> Path | None:
    """Returns the cache path of downloadable weights.

    Args:
        card: The model card.

    Returns:
        The path; None if the weights are not downloadable.
    """
    if card.weights is None or card.weights.file_name is None:
        return None
    return cache_folder() / "weights" / card.weights.file_name


def labels_path(url: str) -> Path:
    """Returns the cache path of a downloadable label list.

    Args:
        url: URL of the list.
    """
    return cache_folder() / "labels" / "_".join(url.split("/")[-2:])


def file_exists(path: Path) -> bool:
    """Whether a file exists; False without permission to access it.

    Args:
        path: Path of the file.
    """
    return os.path.isfile(path)  # noqa: PTH113 (pathlib raises without permission on a parent)


def weights_state(card: ModelCard) -> str | None:
    """Describes the availability of weights.

    Args:
        card: The model card.

    Returns:
        "on this machine", "to download" or "not released"; None for an architecture.
    """
    if card.weights is None:
        return None
    path = weights_path(card)
    if card.weights.shipped_folder is not None or (path is not None and file_exists(path)):
        return "on this machine"
    return "not released" if path is None else "to download"
