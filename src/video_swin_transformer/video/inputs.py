"""Videos that are neither files nor arrays: tensors, lists of frames, bytes and file objects."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .container import decode_error
from .images import FrameFolder
from .isolation import IsolatedVideo
from .segment import VideoSegment


class ArrayLike(Protocol):
    """An object that NumPy can convert, such as a torch tensor or a PIL image."""

    def __array__(self) -> NDArray[Any]: ...


VideoSource: TypeAlias = (
    str
    | Path
    | FrameFolder
    | VideoSegment
    | IsolatedVideo
    | NDArray[np.uint8]
    | ArrayLike
    | Sequence[ArrayLike]
    | bytes
    | BinaryIO
)


def source_name(source: VideoSource) -> str:
    """Returns the name of a video for messages.

    Args:
        source: A video, as `VideoReader` takes it.
    """
    if isinstance(source, str | Path | FrameFolder | VideoSegment | IsolatedVideo):
        return str(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return f"video of {len(source)} bytes"
    if hasattr(source, "shape"):
        return f"array {tuple(source.shape)}"
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        return name if isinstance(name, str) else "file object"
    if isinstance(source, list | tuple):
        return f"list of {len(source)} frames"
    return type(source).__name__


def is_frame(value: object) -> bool:
    """Whether an object is one frame, as opposed to a video.

    Args:
        value: An element of a list.
    """
    shape = getattr(value, "shape", None)
    if shape is None:
        return hasattr(value, "getbands")  # a PIL image
    return len(shape) == 2 or (len(shape) == 3 and 3 in (shape[0], shape[2]))


def as_array(source: VideoSource) -> NDArray[Any] | None:
    """Converts a tensor, array or list of frames to an array.

    Args:
        source: A video.

    Returns:
        (T, H, W, 3) or (T, H, W); (T, 3, H, W) is transposed. None for other sources.

    Raises:
        VideoDecodeError: The frames of a list differ in size, or there are none.
    """
    if isinstance(source, list | tuple):
        return _stack(source)
    if not hasattr(source, "shape"):
        return None
    array = _to_numpy(source)
    if array.ndim == 4 and array.shape[1] == 3 and array.shape[3] != 3:
        array = array.transpose(0, 2, 3, 1)  # (T, 3, H, W) -> (T, H, W, 3)
    return array


def layout_hint(shape: tuple[int, ...]) -> str:
    """Returns what to do about an array whose axes are in another order, or "".

    Args:
        shape: The shape that was given.
    """
    if len(shape) == 4 and shape[0] == 3:
        return (
            "; did you mean video.transpose(1, 2, 3, 0), which makes (T, H, W, 3) of (3, T, H, W)"
        )
    if len(shape) == 5:
        return "; did you mean the videos of this batch, one at a time, as with classify_many"
    return ""


def copy_to_file(source: bytes | BinaryIO) -> Path:
    """Copies bytes or the rest of a file object to a temporary file, which the caller deletes.

    Args:
        source: The content of a video file.
    """
    handle, name = tempfile.mkstemp(prefix="videoswin-")
    with os.fdopen(handle, "wb") as file:
        if isinstance(source, bytes | bytearray | memoryview):
            file.write(source)
        else:
            shutil.copyfileobj(source, file)
    return Path(name)


def _stack(frames: Sequence[Any]) -> NDArray[Any]:
    name = f"list of {len(frames)} frames"
    if not frames:
        raise decode_error(name, "it contains no frames")
    if not all(map(is_frame, frames)):
        raise decode_error(
            name, "its elements must be frames: PIL images, or arrays (H, W, 3), (3, H, W), (H, W)"
        )
    arrays = [_to_numpy(frame) for frame in frames]
    arrays = [
        one.transpose(1, 2, 0) if one.ndim == 3 and one.shape[2] != 3 else one for one in arrays
    ]
    shapes = sorted({one.shape for one in arrays})
    if len(shapes) > 1:
        raise decode_error(name, f"its frames have different shapes, {shapes[0]} and {shapes[1]}")
    return np.stack(arrays)


def _to_numpy(value: Any) -> NDArray[Any]:
    if hasattr(value, "getbands"):  # a PIL image, which may have a palette
        value = value.convert("RGB")
    elif hasattr(value, "detach"):  # a tensor, which may be on a GPU
        value = value.detach().cpu().numpy()
    return np.asarray(value)
