"""Small datasets and small networks for the tests of training."""

from __future__ import annotations

import contextlib
import csv
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.media import Clip

SIDE = 32
CLASSES = ("brighter", "darker", "left", "right")

# 4 frames of 32x32 through two stages of 16 and 32 channels: a step takes milliseconds.
TINY = """
model:
  init_from: scratch
  pretrained: optional
  sizes: {embed_dim: 16, depths: [2, 1], num_heads: [2, 2], patch_size: [2, 4, 4], window_size: [2, 4, 4]}
  drop_path_rate: 0.0
  head_drop_rate: 0.0
clip: {num_frames: 4, stride: 1, crop_size: 32, train_short_side: 36, test_clips: 2, test_crops: 3}
schedule: {epochs: 2, warmup_epochs: 0.5}
optimizer: {learning_rate: 3e-3, backbone_multiplier: 1.0}
batch_size: 8
micro_batch_size: 8
run: {workers: 0}
"""  # noqa: E501


def texture_frames(kind: str, seed: int, num_frames: int) -> list[NDArray[np.uint8]]:
    """Frames of 48x36 pixels with a random texture that gets brighter or darker, moves, or is
    striped; "striped+darker" combines kinds, "" has none."""
    kinds = kind.split("+")
    generator = np.random.default_rng(seed)
    texture = np.kron(generator.integers(60, 180, (5, 12)), np.ones((8, 8)))[:36]
    if "striped" in kinds:
        texture = np.where(np.arange(36)[:, None] // 4 % 2, 60.0, 180.0) + 0 * texture
    frames = []
    for number in range(num_frames):
        shift = sum({"left": 3, "right": -3}.get(one, 0) for one in kinds) * number
        change = sum({"brighter": 8, "darker": -8}.get(one, 0) for one in kinds) * number
        frame = np.roll(texture, -shift, axis=1)[:, 24:72] + change
        frames.append(np.repeat(frame.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2))
    return frames


def make_clip(path: Path, kind: str, seed: int, num_frames: int = 8) -> Path:
    """A file of such frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = texture_frames(kind, seed, num_frames)
    return Clip(height=36, width=48, num_frames=num_frames).make(path, frames)


def make_folder(folder: Path, num_clips: int, classes: tuple[str, ...] = CLASSES) -> Path:
    """A folder of classes with `num_clips` clips each."""
    for label, kind in enumerate(classes):
        for number in range(num_clips):
            make_clip(folder / kind / f"clip{number:02d}", kind, 100 * label + number)
    return folder


def write_tiny(folder: Path, text: str = TINY) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(text)
    return path


@contextlib.contextmanager
def log_messages() -> Iterator[list[str]]:
    """The messages that training logs; those above INFO begin with their level."""
    messages: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
            messages.append(level + record.getMessage())

    logger = logging.getLogger("video_swin_transformer.training")
    before, handler = logger.level, Collect()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "video_swin_transformer", "train", *map(str, arguments)]


def environment() -> dict[str, str]:
    """One thread, since tests share the cores."""
    return os.environ | {"OMP_NUM_THREADS": "1"}


def videoswin_train(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the command in a separate process."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=240, env=environment()
    )


def rows_of(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def losses_of(out: Path) -> list[float]:
    return [float(row["loss"]) for row in rows_of(out / "steps.csv")]
