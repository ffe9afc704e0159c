"""Frames as an H.264 video, which browsers and notebooks play."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import av
import numpy as np

from .frames import Frames


def encode_mp4(frames: Iterable[Frames], fps: Fraction) -> bytes:
    """Encodes frames as an MP4 file.

    Args:
        frames: One or more frames of one size, each (H, W, 3) uint8 RGB. An odd last row or column
            is repeated, since the format has even sizes only.
        fps: Frames per second.

    Returns:
        The file, the same bytes for the same frames.
    """
    data = io.BytesIO()
    with av.open(data, "w", format="mp4") as container:
        # Without the macroblock tree, which reads memory that nobody set.
        options = {"crf": "20", "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}
        stream: Any = container.add_stream("libx264", rate=fps, options=options)
        stream.pix_fmt = "yuv420p"
        for number, pixels in enumerate(frames):
            height, width = pixels.shape[:2]
            even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            if number == 0:
                stream.height, stream.width = even.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            frame.pts, frame.time_base = number, 1 / fps
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return data.getvalue()
