"""Accuracy against cost of adaptive views, on the camera-motion model or another one.

    python -m benchmarks.adaptive_views [--videos 1000] [--out FILE]
    python -m benchmarks.adaptive_views --model FOLDER --data LIST [--root FOLDER]

Without --data: rendered videos of 2.4 s and 160 x 112 pixels over pictures never trained on, with a
seed of their own: four clips of 0.8 s, three overlapping crops each. The scores of all twelve views
are computed once; what each error rate would have used and answered follows from them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camera_motion.degrade import degrade
from camera_motion.images import PicturePool
from camera_motion.labels import LABELS
from camera_motion.render import View, add_things, make_masks, render_background
from camera_motion.video_files import smooth_path
from video_swin_transformer import Predictor
from video_swin_transformer.adaptive_views import is_decided, view_order
from video_swin_transformer.data import read_annotations
from video_swin_transformer.postprocess import average_views
from video_swin_transformer.predictor import Source
from video_swin_transformer.registry import DEFAULT_MODEL

ERROR_RATES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001)
NUM_CLIPS, NUM_CROPS = 4, 3
_SEED = 71_000  # neither of the training nor of any test of it
_WIDTH, _HEIGHT = 160, 112
_NUM_MOMENTS, _FRAMES_BETWEEN = 25, 3  # 2.4 s at 30 frames per second
_DIFFICULTY = 0.8
_VIDEOS_PER_POOL = 20


def wide_videos(num_videos: int, seed: int) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Yields videos (T, 112, 160, 3) uint8 RGB, 30 frames per second, and their labels."""
    for number in range(num_videos):
        if number % _VIDEOS_PER_POOL == 0:
            pool = PicturePool("test", seed + number, num_slots=12)
            pool.turn_to(0)
        rng = np.random.default_rng((seed, number))
        label = number % len(LABELS)
        path, times = smooth_path(label, _NUM_MOMENTS, _FRAMES_BETWEEN, _DIFFICULTY, rng)
        # A path is meant for a clip: the same speed for the whole video.
        canvas = pool.draw(rng)
        height, width = canvas.levels[0].shape[:2]
        view = View(np.array([width, height]) / 2, min(height, width) / _WIDTH / 1.6)
        frames = render_background(canvas, path, view, _WIDTH)
        if rng.random() < 0.4:
            add_things(frames, path, times, pool, make_masks(rng), rng)
        frames = degrade(frames, _DIFFICULTY, rng)
        top = (_WIDTH - _HEIGHT) // 2
        yield np.ascontiguousarray(frames[:, top : top + _HEIGHT]), label


def listed_videos(data: Path, root: Path | None) -> Iterator[tuple[str, int]]:
    """Yields the paths and labels of an annotation list."""
    for item in read_annotations(data, root=root).items:
        yield item.path, item.labels[0]


def all_view_scores(
    model: str, videos: Iterable[tuple[Source, int]]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores (N, 12, K) of all views in the order of `view_order`, and labels (N,)."""
    predictor = Predictor.load(model, runtime="torch").with_views(NUM_CLIPS, NUM_CROPS)
    order = [crop * NUM_CLIPS + clip for clip, crop in view_order(NUM_CLIPS, NUM_CROPS)]
    scores, labels = [], []
    for source, label in videos:
        logits = predictor.runtime.run(predictor.views(source)).logits
        scores.append(average_views(logits[order], "prob", False)[1])
        labels.append(label)
    return np.stack(scores), np.array(labels)


def curve(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, dict[str, Any]]:
    """Accuracy, views per video and agreement with all views for each way to add views."""
    num_views = scores.shape[1]
    everything = scores.mean(axis=1).argmax(axis=1)

    def row(used: NDArray[np.int64]) -> dict[str, Any]:
        answers = np.array([s[:n].mean(axis=0).argmax() for s, n in zip(scores, used, strict=True)])
        return {
            "accuracy": float((answers == labels).mean()),
            "views": float(used.mean()),
            "cost": float(used.mean()) / num_views,
            "differs_from_all": float((answers != everything).mean()),
        }

    fixed = (1, 2, 3, 4, 6, num_views)
    rows = {f"first {n}": row(np.full(len(labels), n)) for n in fixed}
    for rate in ERROR_RATES:
        used = [
            next(n for n in range(1, num_views + 1) if is_decided(s[:n], num_views, rate))
            for s in scores
        ]
        rows[f"error rate {rate}"] = row(np.array(used))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=_SEED, help="of the rendered videos")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--data", type=Path, help="annotation list, instead of rendered videos")
    parser.add_argument("--root", type=Path, help="folder that paths in the list are relative to")
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    options = parser.parse_args()
    videos: Iterable[tuple[Source, int]] = wide_videos(options.videos, options.seed)
    if options.data is not None:
        videos = listed_videos(options.data, options.root)
    scores, labels = all_view_scores(options.model, videos)
    rows = curve(scores, labels)
    for name, row in rows.items():
        print(
            f"{name:18}  {row['accuracy']:6.1%} correct  {row['views']:5.2f} views "
            f"({row['cost']:.0%})  {row['differs_from_all']:5.1%} differ from all views"
        )
    if options.out is not None:
        options.out.write_text(json.dumps({"videos": len(labels), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
