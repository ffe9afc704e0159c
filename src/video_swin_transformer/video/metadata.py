"""Metadata from the container header, which may differ from the decoded video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .container import (
    open_container,
    require_file,
    require_possible_samples,
    translate_errors,
)


@dataclass(frozen=True)
class ContainerMetadata:
    """Metadata of a video file.

    Attributes:
        num_frames: Number of frames; None if it is not in the header.
        rotation_degrees: Counterclockwise rotation for display, -180 to 180.
        codec: FFmpeg's name of the decoder.
    """

    num_frames: int | None
    rotation_degrees: int
    codec: str


@dataclass(frozen=True)
class StatedSize:
    """What the header of a video file says about its size; None: it does not.

    Attributes:
        pixels: Pixels of a frame.
        seconds: Length of the video.
        num_frames: Number of frames.
    """

    pixels: int | None
    seconds: float | None
    num_frames: int | None


def read_stated_size(path: str | Path) -> StatedSize:
    """Reads the header of a video file, without decoding anything.

    Args:
        path: Path of the file.

    Raises:
        VideoDecodeError: The file cannot be read.
    """
    name = str(path)
    require_file(name, name)
    require_possible_samples(name, name)
    container, stream = open_container(name, name)
    with container:
        codec = stream.codec_context
        pixels = codec.width * codec.height
        seconds = None if container.duration is None else container.duration / 1e6
        return StatedSize(pixels or None, seconds, stream.frames or None)


def read_metadata(path: str | Path) -> ContainerMetadata:
    """Reads the header and the first frame of a video file.

    Args:
        path: Path of the file.

    Returns:
        The metadata.

    Raises:
        VideoDecodeError: The file cannot be read.
    """
    name = str(path)
    require_file(name, name)
    require_possible_samples(name, name)
    container, stream = open_container(name, name)
    with container, translate_errors(name, "decoding its first frame"):
        frame = next(container.decode(stream), None)
        rotation = 0 if frame is None else int(frame.rotation)
        return ContainerMetadata(stream.frames or None, rotation, str(stream.codec_context.name))
