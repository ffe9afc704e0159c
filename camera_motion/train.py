"""Makes the weights that ship: recipe `camera-motion`, over clips that the generator makes.

    python -m camera_motion.train --out runs/camera
    python -m camera_motion.train --out runs/camera --resume   # after an interruption, exactly
    python -m camera_motion.train --out runs/try schedule.epochs=2

Needs no data: --out/start gets the weights to begin with, --out/watched clips over pictures that
are never trained on, --out/model the finished model; the rest is as in docs/training.md.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from video_swin_transformer.errors import VideoSwinError
from video_swin_transformer.training import Interrupted, find_recipe, load_recipe, train

from .generator import ClipGenerator
from .labels import LABELS
from .model import write_start
from .video_files import write_video

_CLIPS_PER_EPOCH = 16_000
_CLIPS_TO_FULL_DIFFICULTY = 32_000
_WATCHED_SEED, _NUM_WATCHED = 20_000, 240
_WATCHED_FPS, _WATCHED_CRF = 10, 10  # 0.1 s apart; nearly without loss


@cache
def _generator(seed: int) -> ClipGenerator:
    """One in each process."""
    cv2.setNumThreads(1)
    return ClipGenerator("train", seed)


@dataclass(frozen=True)
class MovingCamera:
    """The clips to learn from, harder and harder over the first `ramp_clips`."""

    seed: int
    clips_per_epoch: int = _CLIPS_PER_EPOCH
    ramp_clips: int = _CLIPS_TO_FULL_DIFFICULTY
    classes: tuple[str, ...] = LABELS

    def make(self, label: int, number: int) -> NDArray[np.uint8]:
        """(8, 112, 112, 3) uint8 RGB."""
        difficulty = min(1.0, number / self.ramp_clips)
        return _generator(self.seed).numbered(label, number, difficulty)


def write_watched(folder: Path, num_clips: int) -> None:
    """Clips of pictures never trained on as files, a folder a label; the folder comes whole."""
    clips, labels = ClipGenerator("test", _WATCHED_SEED).batch(0, num_clips)
    unfinished = folder.with_name(folder.name + ".part")
    for number, (clip, label) in enumerate(zip(clips, labels, strict=True)):
        path = unfinished / LABELS[label] / f"{number:04d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, clip, _WATCHED_FPS, _WATCHED_CRF)
    unfinished.rename(folder)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="of the recipe")
    parser.add_argument("--out", type=Path, required=True, help="folder for all that is written")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--threads",
        type=int,
        default=max(1, (os.cpu_count() or 1) // 2),
        help="of the network; the other half of the cores makes clips",
    )
    parser.add_argument("--clips-per-epoch", type=int, default=_CLIPS_PER_EPOCH)
    parser.add_argument("--ramp-clips", type=int, default=_CLIPS_TO_FULL_DIFFICULTY)
    parser.add_argument("--watched-clips", type=int, default=_NUM_WATCHED)
    return parser.parse_args()


def main() -> None:
    args = _parse()
    torch.set_num_threads(args.threads)
    begin, watched = args.out / "start", args.out / "watched"
    path, _ = find_recipe("camera-motion")
    try:
        settings = [f"from={begin}", f"data.val={watched}", f"seed={args.seed}", *args.settings]
        recipe = load_recipe(path, settings)
        if not begin.exists():
            write_start(begin, args.seed)
        if not watched.exists():
            write_watched(watched, args.watched_clips)
        maker = MovingCamera(args.seed, args.clips_per_epoch, args.ramp_clips)
        result = train(recipe, args.out, clips=maker, resume=args.resume, device="cpu", say=print)
    except VideoSwinError as error:
        raise SystemExit(f"error: {error}") from None
    except Interrupted as stopped:
        raise SystemExit(f"{stopped}; go on with --resume") from None
    if result is not None:
        print(f"{result.steps} steps, {result.seconds / 60:.1f} minutes, {result.val_top1:.1%}")
        print(f"model: {result.model}")


if __name__ == "__main__":
    main()
