"""Trains the included weights: recipe `camera-motion` on generated clips.

    python -m camera_motion.train --out runs/camera
    python -m camera_motion.train --out runs/camera --resume   # after an interruption, bit-exact
    python -m camera_motion.train --out runs/try schedule.epochs=2

Needs no data. --out/start contains the initial weights, --out/val validation clips over images that
are never trained on, --out/model the finished model; everything else is as in docs/training.md.
"""

from __future__ import annotations

import argparse
import logging
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from video_swin_transformer.errors import VideoSwinError
from video_swin_transformer.training import ProgressDisplay, TrainingInterrupted, train

from .generator import ClipGenerator
from .labels import LABELS
from .model import write_start
from .video_files import write_video

_CLIPS_PER_EPOCH = 16_000
_CLIPS_TO_FULL_DIFFICULTY = 32_000
_VAL_SEED, _NUM_VAL_CLIPS = 20_000, 240
_VAL_FPS, _VAL_CRF = 10, 10  # 0.1 s apart; nearly lossless


@cache
def _generator(seed: int) -> ClipGenerator:
    """One per process."""
    cv2.setNumThreads(1)
    return ClipGenerator("train", seed)


@dataclass(frozen=True)
class MovingCamera:
    """Training clips whose difficulty grows over the first `ramp_clips`."""

    seed: int
    clips_per_epoch: int = _CLIPS_PER_EPOCH
    ramp_clips: int = _CLIPS_TO_FULL_DIFFICULTY
    classes: tuple[str, ...] = LABELS

    def make(self, label: int, number: int) -> NDArray[np.uint8]:
        """(8, 112, 112, 3) uint8 RGB."""
        difficulty = min(1.0, number / self.ramp_clips)
        return _generator(self.seed).numbered(label, number, difficulty)


def write_val_clips(folder: Path, num_clips: int) -> None:
    """Writes clips over images that are never trained on, one folder per class, atomically."""
    clips, labels = ClipGenerator("test", _VAL_SEED).batch(0, num_clips)
    unfinished = folder.with_name(folder.name + ".part")
    for number, (clip, label) in enumerate(zip(clips, labels, strict=True)):
        path = unfinished / LABELS[label] / f"{number:04d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, clip, _VAL_FPS, _VAL_CRF)
    unfinished.rename(folder)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of the recipe")
    parser.add_argument("--out", type=Path, required=True, help="the output folder")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--threads",
        type=int,
        default=max(1, (os.cpu_count() or 1) // 2),
        help="threads of the network; the other half of the cores generates clips",
    )
    parser.add_argument("--clips-per-epoch", type=int, default=_CLIPS_PER_EPOCH)
    parser.add_argument("--ramp-clips", type=int, default=_CLIPS_TO_FULL_DIFFICULTY)
    parser.add_argument("--val-clips", type=int, default=_NUM_VAL_CLIPS)
    return parser.parse_args()


def main() -> None:
    args = _parse()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    torch.set_num_threads(args.threads)
    start, val = args.out / "start", args.out / "val"
    if not start.exists():
        write_start(start, args.seed)
    if not val.exists():
        write_val_clips(val, args.val_clips)
    try:
        result = train(
            "camera-motion",
            args.out,
            overrides=[f"init_from={start}", f"data.val={val}", *args.settings],
            clips=MovingCamera(args.seed, args.clips_per_epoch, args.ramp_clips),
            resume=args.resume,
            device="cpu",
            seed=args.seed,
            progress=ProgressDisplay(),
        )
    except VideoSwinError as error:
        raise SystemExit(f"error: {error}") from None
    except TrainingInterrupted as stopped:
        raise SystemExit(f"{stopped}; continue with --resume") from None
    print(f"{result.steps} steps, {result.seconds / 60:.1f} minutes, {result.val_metric:.1%}")
    print(f"model: {result.model}")


if __name__ == "__main__":
    main()
