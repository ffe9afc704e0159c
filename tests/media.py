"""Makes the clips of the video tests. Every frame carries its own number where tests can read it.

A numbered frame is a grid of 3 x 4 cells, bright or dark: two fixed cells say which way is up,
the ten others are the number in binary. Cells are big and far apart in brightness, so the number
survives compression, and a test knows *which* frame came back, not only that one came.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("SVT_LOG", "0")  # the AV1 encoder talks a lot

ROWS, COLUMNS = 3, 4
DARK, BRIGHT = 40, 210
UPRIGHT = (0, 3)  # cell 0 (top left) is bright and cell 3 (top right) is dark in every frame

Pixels = NDArray[np.uint8]


def numbered_frame(number: int, height: int = 64, width: int = 96) -> Pixels:
    """(height, width, 3) uint8 RGB with `number` (0 to 1023) in it, and a little texture."""
    bits = [bool(number >> place & 1) for place in range(10)]
    cells = [True, *bits[:2], False, *bits[2:]]
    grid = np.where(np.array(cells).reshape(ROWS, COLUMNS), BRIGHT, DARK).astype(np.uint8)
    rows = np.arange(height) * ROWS // height
    columns = np.arange(width) * COLUMNS // width
    gray = grid[rows][:, columns]
    texture = (np.arange(height)[:, None] * 3 + np.arange(width) * 5 + number * 7) % 16
    return np.repeat((gray + texture.astype(np.uint8))[:, :, None], 3, axis=2)


def number_of(frame: Pixels) -> int:
    """The number a frame carries. Raises AssertionError for a frame that is no numbered one."""
    height, width = frame.shape[:2]
    cells = []
    for row in range(ROWS):
        for column in range(COLUMNS):
            top, left = height * row // ROWS, width * column // COLUMNS
            bottom, right = height * (row + 1) // ROWS, width * (column + 1) // COLUMNS
            inner = frame[top + 3 : bottom - 3, left + 3 : right - 3]
            cells.append(bool(inner.mean() > (DARK + BRIGHT) / 2))
    assert cells[UPRIGHT[0]] and not cells[UPRIGHT[1]], "not an upright numbered frame"
    bits = [*cells[1:3], *cells[4:]]
    return sum(bit << place for place, bit in enumerate(bits))


def numbers_of(frames: Iterable[Pixels]) -> list[int]:
    return [number_of(frame) for frame in frames]


@dataclass(frozen=True)
class Clip:
    """How to make a clip; `options` go to the encoder."""

    suffix: str = ".mp4"
    codec: str = "libx264"
    num_frames: int = 60
    pix_fmt: str = "yuv420p"
    fps: int | Fraction = 25
    height: int = 64
    width: int = 96
    gop: int = 12
    options: dict[str, str] = field(default_factory=dict)
    pts: Sequence[int] | None = None  # in 1/1000 s; None: one frame after the other
    start: int = 0  # first pts, in frames
    mux_options: dict[str, str] = field(default_factory=dict)

    def make(self, path: Path, frames: Iterable[Pixels] | None = None) -> Path:
        """Writes the clip to `path` + suffix, of numbered frames if not given others."""
        path = path.with_suffix(self.suffix)
        if frames is None:
            frames = (numbered_frame(i, self.height, self.width) for i in range(self.num_frames))
        with av.open(str(path), "w", options=self.mux_options) as container:
            # x264's macroblock tree reads memory that nobody set: other bytes in every run.
            fixed = {"x264-params": "mbtree=0"} if self.codec == "libx264" else {}
            stream: Any = container.add_stream(
                self.codec, rate=self.fps, options=fixed | self.options
            )
            stream.width, stream.height = self.width, self.height
            stream.pix_fmt, stream.gop_size = self.pix_fmt, self.gop
            # One thread: the same bytes every time, and libvpx's vp8 may hang in threads.
            stream.codec_context.thread_count = 1
            for number, pixels in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts = number + self.start
                frame.time_base = 1 / Fraction(self.fps)
                if self.pts is not None:
                    frame.pts, frame.time_base = self.pts[number], Fraction(1, 1000)
                container.mux(stream.encode(frame.reformat(format=self.pix_fmt)))
            container.mux(stream.encode(None))
        return path


def reference_decode(path: Path) -> list[Pixels]:
    """What counts as right: every frame a plain, complete PyAV decode outputs, as RGB."""
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in frames]


def peak_memory_megabytes() -> float:
    """The most memory this process has had at once.

    From the kernel's own count on Linux: getrusage's figure begins there with that of the process
    that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    import resource  # not on Windows

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def audio_only(path: Path) -> Path:
    """Half a second of silence in a container that could hold video."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=16000)
        stream.layout = "mono"
        for start in range(0, 8000, 1000):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def save_picture(path: Path, pixels: Pixels) -> Path:
    """Writes RGB, gray or 16 bit pixels as a image; the suffix chooses the format."""
    if pixels.ndim == 3:
        pixels = np.ascontiguousarray(
            np.concatenate([pixels[:, :, 2::-1], pixels[:, :, 3:]], axis=2)
        )
    done, data = cv2.imencode(path.suffix, pixels)
    assert done
    path.write_bytes(data.tobytes())
    return path


# mp4 boxes -------------------------------------------------------------------------------------


def patched(data: bytes, at: int, replacement: bytes) -> bytes:
    """`data` with the bytes from `at` on replaced, its length unchanged."""
    assert 0 <= at <= len(data) - len(replacement)
    return data[:at] + replacement + data[at + len(replacement) :]


def set_display_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Writes (a, b, c, d) into the track header of an mp4: x' = a x + c y, y' = b x + d y."""
    data = path.read_bytes()
    at = data.index(b"tkhd") + 44
    assert struct.unpack(">i", data[at : at + 4]) == (0x10000,), "the identity is expected here"
    a, b, c, d = (value * 0x10000 for value in matrix)
    path.write_bytes(patched(data, at, struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)))
