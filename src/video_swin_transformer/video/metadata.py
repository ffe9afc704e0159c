"""What a container says of its video, which may differ from what comes out of a decoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .container import open_container, require_file, translated


@dataclass(frozen=True)
class ContainerMetadata:
    """`rotation_degrees`: how far players turn the picture, counter-clockwise, -180 to 180."""

    num_frames: int | None  # None where the container does not say
    rotation_degrees: int
    codec: str


def read_metadata(path: str | Path) -> ContainerMetadata:
    """Reads the head of a video file and its first frame. Raises VideoDecodeError."""
    name = str(path)
    require_file(name, name)
    container, stream = open_container(name, name)
    with container, translated(name, "decoding its first frame"):
        frame = next(container.decode(stream), None)
        rotation = 0 if frame is None else int(frame.rotation)
        return ContainerMetadata(stream.frames or None, rotation, str(stream.codec_context.name))
