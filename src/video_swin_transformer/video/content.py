"""The digest of what a video contains, whatever its name is."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ..errors import VideoDecodeError
from ..files import sha256_file
from .images import FrameFolder
from .inputs import VideoSource, as_array, source_name
from .isolation import IsolatedVideo
from .segment import VideoSegment


def content_digest(source: VideoSource) -> str:
    """Returns the SHA-256 of a file, of the files of a folder, of bytes or of an array.

    Args:
        source: A video, as `VideoReader` takes it, but not a file object, which is read only once.

    Raises:
        OSError: A file cannot be read.
        VideoDecodeError: The source is a file object.
    """
    if isinstance(source, VideoSegment):
        times = f"{source.start} {source.end} {content_digest(source.path)}"
        return hashlib.sha256(times.encode()).hexdigest()
    if isinstance(source, IsolatedVideo):
        return sha256_file(Path(source.path))
    if isinstance(source, bytes | bytearray | memoryview):
        return hashlib.sha256(source).hexdigest()
    if not isinstance(source, str | Path | FrameFolder):
        array = as_array(source)
        if array is None:
            raise VideoDecodeError(
                f"{source_name(source)} can be read only once, so its content has no digest; give "
                "a path, bytes or an array."
            )
        digest = hashlib.sha256(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()
    path = Path(str(source))
    if not path.is_dir():
        return sha256_file(path)
    # Of a frame folder with a stated number of frames, that number is part of the content.
    digest = hashlib.sha256(repr(source).encode() if isinstance(source, FrameFolder) else b"")
    for file in sorted(path.iterdir()):
        if file.is_file():
            digest.update(f"{file.name}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()
