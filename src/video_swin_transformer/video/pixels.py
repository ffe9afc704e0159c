"""Decoded frames -> upright RGB pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Pixels = NDArray[np.uint8]


class FrameConverter:
    """Turns frames into (H, W, 3) uint8 RGB of the size and orientation of the first frame.

    Colors follow what the stream says of its matrix and range (BT.601 limited where it is
    silent, as players do); 10 and 12 bit become 8; transparency is dropped. A frame of another
    size (a stream may change in the middle) is scaled to the first one's.
    """

    def __init__(self, first: VideoFrame) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()  # one for all: setting it up is not free
        self._stored_width, self._stored_height = first.width, first.height
        self._matrix = _display_matrix(first)
        turned = self._matrix is not None and _is_transposed(self._matrix)
        stored = (first.height, first.width)
        self.height, self.width = stored[::-1] if turned else stored

    def to_rgb(self, frame: VideoFrame) -> Pixels:
        """Upright (H, W, 3) uint8 RGB; a view that lives as long as it is referred to."""
        rgb = self._reformatter.reformat(
            frame, width=self._stored_width, height=self._stored_height, format="rgb24"
        )
        pixels: Pixels = np.asarray(rgb.to_ndarray(), np.uint8)
        return pixels if self._matrix is None else _upright(pixels, self._matrix)


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int] | None:
    """(a, b, c, d) of the container's display matrix: x' = a x + c y, y' = b x + d y."""
    try:
        data = frame.side_data["DISPLAYMATRIX"]  # type: ignore[typeddict-item]
    except (KeyError, ValueError):  # ValueError: PyAV meets side data it has no name for
        return None
    values = np.frombuffer(bytes(data), np.int32)
    if len(values) != 9:
        return None
    a, b, c, d = (int(values[i]) for i in (0, 1, 3, 4))
    return None if (a > 0 and d > 0 and b == c == 0) else (a, b, c, d)


def _is_transposed(matrix: tuple[int, int, int, int]) -> bool:
    a, b, c, d = matrix
    return abs(b) + abs(c) > abs(a) + abs(d)


def _upright(pixels: Pixels, matrix: tuple[int, int, int, int]) -> Pixels:
    """The quarter turn and mirroring nearest to the matrix; a view, nothing is copied."""
    a, b, c, d = matrix
    if _is_transposed(matrix):
        pixels = pixels.transpose(1, 0, 2)
        a, d = c, b  # the new x axis was y, and the other way round
    if a < 0:
        pixels = pixels[:, ::-1]
    if d < 0:
        pixels = pixels[::-1]
    return pixels
