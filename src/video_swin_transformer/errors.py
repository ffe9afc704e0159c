"""The family of errors.

    VideoSwinError(ValueError)          everything this package raises on purpose
    |-- VideoDecodeError                a video, frame folder or array that cannot be read
    |-- CheckpointError                 weights that cannot be read or do not fit the network
    |-- ConfigError                     a setting outside what is allowed
    |-- ExportError                     an exported model that does not answer as the network does
    |-- UnknownNameError                a model, label or option name that does not exist
    |-- DataError                       a dataset, list or label file that contradicts itself
    `-- MissingExtraError(ImportError)  an optional library that is not installed

Every message says what was got, what is allowed, and what to do about it. Programs that only
want to know "was it the input or a bug?" catch `VideoSwinError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VideoSwinError(ValueError):
    """Base of all errors a user of this package can cause."""


class VideoDecodeError(VideoSwinError):
    """A video, frame folder or array cannot be read; the message names it and the cause."""


class CheckpointError(VideoSwinError):
    """Weights cannot be read, or do not fit the network they were asked to fill."""


class ConfigError(VideoSwinError):
    """A setting lies outside what is allowed; the message names the setting and its range."""


class ExportError(VideoSwinError):
    """An export whose answers are not those of the network; nothing was written."""


class UnknownNameError(VideoSwinError):
    """A name that does not exist; the message offers the nearest one that does."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
        super().__init__(f"Unknown {kind} {name!r}. {hint}Known: {listed}.")


class DataError(VideoSwinError):
    """A dataset, annotation list or label file is contradictory or unreadable."""


class MissingExtraError(VideoSwinError, ImportError):
    """An optional library is needed; the message gives the pip line that brings it."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the library {library!r}, which is not installed. "
            f"Install it with: pip install 'video-swin-transformer[{extra}]'"
        )
