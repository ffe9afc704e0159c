"""The exceptions of this package::

    VideoSwinError                      base class of all errors of this package
    |-- InputError(ValueError)          an input of the caller that cannot be used
    |   |-- ConfigError                 an invalid setting
    |   |-- UnknownNameError            a model, label or option name that does not exist
    |   |-- VideoDecodeError            a video, frame folder or array that cannot be read
    |   |   `-- VideoLimitError         a video that exceeds a limit of size, length or time
    |   |-- CheckpointError             weights that cannot be read or do not match the model
    |   |   `-- ImageWeightsError       image weights where video weights are needed
    |   `-- DataError                   a dataset, list or label file that contradicts itself
    |-- ExportError(RuntimeError)       an exported model differs from the original
    |-- RuntimeMismatchError(RuntimeError)   a compiled model differs, or cannot be compiled
    |-- DeviceMemoryError(RuntimeError)      a device has too little memory
    |-- TrainingDivergedError(RuntimeError)  training diverged: the loss is not finite
    `-- MissingExtraError(ImportError)  an optional library that is not installed

A message says what was given, what is allowed and what to do. Programs that only need to know
whether it was the input or a bug catch `VideoSwinError`.

Messages quote names and values from files, which may be hostile: control characters are escaped, so
that a terminal does not obey them, and the middle of a long message is left out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_MAX_CHARACTERS = 6000  # of a message
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Returns a count and a noun for a message.

    Args:
        count: The number.
        noun: The singular.
        plural: The plural; None appends "s".

    >>> counted(1, "clip"), counted(2, "clip"), counted(0, "class", "classes")
    ('1 clip', '2 clips', '0 classes')
    """
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


class VideoSwinError(Exception):
    """Base of all errors a user of this package can cause."""

    def __init__(self, message: str = "") -> None:
        super().__init__(_printable(message))


def _printable(message: str) -> str:
    if len(message) > _MAX_CHARACTERS:
        half = _MAX_CHARACTERS // 2
        message = f"{message[:half]} ... {message[-half:]}"
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), message)


class InputError(VideoSwinError, ValueError):
    """An input of the caller cannot be used."""


class VideoDecodeError(InputError):
    """A video, frame folder or array cannot be read; the message names it and the cause."""


class VideoLimitError(VideoDecodeError):
    """A video exceeds a limit of size, length, memory or time that the caller set."""


class CheckpointError(InputError):
    """Weights cannot be read, or do not match the model."""


class ImageWeightsError(CheckpointError):
    """Image weights were given where video weights are needed; they can be inflated."""


class ConfigError(InputError):
    """A setting is outside what is allowed; the message names the setting and its range."""


class DataError(InputError):
    """A dataset, annotation list or label file is contradictory or unreadable."""


class UnknownNameError(InputError):
    """A name does not exist; the message offers the nearest one that does."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
        super().__init__(f"Unknown {kind} {name!r}. {hint}Known: {listed}.")


class ExportError(VideoSwinError, RuntimeError):
    """The outputs of an exported model differ from the original model; nothing was written."""


class RuntimeMismatchError(VideoSwinError, RuntimeError):
    """A runtime cannot compile the model, or its outputs differ from the eager model."""


class DeviceMemoryError(VideoSwinError, RuntimeError):
    """A device does not have enough memory, even for the smallest batch."""


class TrainingDivergedError(VideoSwinError, RuntimeError):
    """Training diverged: the loss is not finite."""


class MissingExtraError(VideoSwinError, ImportError):
    """An optional library is needed; the message gives the command that installs it."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the library {library!r}, which is not installed. "
            f"Install it with: pip install 'video-swin-transformer[{extra}]'"
        )
