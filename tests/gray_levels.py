"""Clips whose frames carry their own number as a gray level, and a runtime that reads it back.

The runtime stands where a network would: it gets the views that the network would get. So what it
returns tells which frames a row has seen, whatever the file format did to their times.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tests.media import Clip, Pixels, patched
from video_swin_transformer import BundleConfig, ClipSampling, ModelConfig, Predictor, Preprocessing
from video_swin_transformer.postprocess import Floats, ViewOutputs
from video_swin_transformer.runtimes.protocol import RuntimeInfo

NUM_FRAMES = 70
LEVELS_PER_FRAME = 3
DARKEST = 24
BUNDLE = BundleConfig(
    model=ModelConfig(embed_dim=8, depths=(2,), num_heads=(2,), num_classes=0),
    sampling=ClipSampling(num_frames=4, stride=2, num_clips=1),
    preprocessing=Preprocessing(short_side=32, crop_size=32, num_crops=1),
)


def gray_frames(num_frames: int = NUM_FRAMES) -> list[Pixels]:
    """Flat frames, each three gray levels brighter than the one before."""
    levels = [DARKEST + LEVELS_PER_FRAME * number for number in range(num_frames)]
    return [np.full((48, 64, 3), level, np.uint8) for level in levels]


def flash_frames(at: int, num_frames: int = NUM_FRAMES) -> list[Pixels]:
    """Dark frames but one: an impulse."""
    return [np.full((48, 64, 3), 235 if i == at else 20, np.uint8) for i in range(num_frames)]


def irregular_times(num_frames: int = NUM_FRAMES) -> list[int]:
    """Milliseconds of a variable rate: phases of 20, 50 and 80 ms per frame."""
    steps = [20] * 25 + [50] * 25 + [80] * num_frames
    return [int(time) for time in np.cumsum([0, *steps])[:num_frames]]


class GrayLevels:
    """A runtime whose features are the numbers of the frames of a view: (V, T)."""

    info = RuntimeInfo("gray levels", "1", "cpu", "f32")
    description = "gray levels"
    selection_reason = ""

    def __init__(self, bundle: BundleConfig = BUNDLE) -> None:
        self.bundle = bundle

    def run(self, views: Floats) -> ViewOutputs:
        p = self.bundle.preprocessing
        mean, std = (np.array(v).reshape(1, -1, 1, 1, 1) for v in (p.mean, p.std))
        levels = (views * std + mean).mean(axis=(1, 3, 4))
        numbers = ((levels - DARKEST) / LEVELS_PER_FRAME).astype(np.float32)
        return ViewOutputs(numbers, numbers)


def reader_of_numbers(**sampling: Any) -> Predictor:
    """A predictor whose features are frame numbers."""
    changed = replace(BUNDLE, sampling=replace(BUNDLE.sampling, **sampling))
    return Predictor(GrayLevels(changed), "gray levels")


CLIPS = ("cfr", "ntsc", "vfr", "b-frames", "late", "edit list")


def make_clip(kind: str, folder: Path, frames: Sequence[Pixels] | None = None) -> tuple[Path, list]:
    """Writes a clip; returns it and the times in seconds of its frames, the first one at 0."""
    path = folder / kind.replace(" ", "_")
    size: dict[str, Any] = {
        "num_frames": NUM_FRAMES,
        "height": 48,
        "width": 64,
        "options": {"crf": "8"},
    }
    frames = gray_frames() if frames is None else frames
    if kind == "cfr":
        clip, times = Clip(**size), np.arange(NUM_FRAMES) / 25
    elif kind == "ntsc":
        rate = Fraction(30000, 1001)
        clip, times = Clip(".mkv", fps=rate, **size), np.arange(NUM_FRAMES) * 1001 / 30000
    elif kind == "vfr":
        milliseconds = irregular_times()
        clip, times = (
            Clip(".mkv", fps=1000, pts=milliseconds, **size),
            np.array(milliseconds) / 1000,
        )
    elif kind == "b-frames":
        size["options"] = {"crf": "8", "bf": "3", "x264-params": "mbtree=0:b-pyramid=2"}
        clip, times = Clip(gop=30, **size), np.arange(NUM_FRAMES) / 25
    elif kind == "late":
        clip, times = Clip(start=250, **size), np.arange(NUM_FRAMES) / 25
    else:
        size["options"] = {"crf": "8", "bf": "0"}
        path = hide_first(Clip(**size).make(path, frames), 20)
        return path, (np.arange(NUM_FRAMES - 20) / 25).tolist()
    return clip.make(path, frames), times.tolist()


def hide_first(path: Path, num_frames: int) -> Path:
    """Moves the edit list of a clip of 25 frames per second, so that it begins later."""
    data = path.read_bytes()
    at = data.index(b"elst") + 8 + 4 + 4  # version and flags, count, duration
    (media_time,) = struct.unpack(">i", data[at : at + 4])
    ticks = struct.unpack(">I", data[data.index(b"mdhd") + 16 :][:4])[0] // 25
    path.write_bytes(patched(data, at, struct.pack(">i", media_time + num_frames * ticks)))
    return path
