"""Do heat maps lie where a network found what it used? Clips in which only one quadrant moves.

    python -m benchmarks.explanations [--clips 200] [--minutes 7] [--out FILE]

About half an hour on two cores.

The included network judges the movement of the camera, that is of the whole frame, so its opinion
of a clip with one moving quadrant says little. The same network is therefore also fine-tuned on
clips in which one quadrant moves, to tell in which of four directions. Its labels do not name the
quadrant: that the maps lie in it must come from where the network looks.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import nn

from camera_motion.images import PicturePool, Split
from camera_motion.model import normalize
from video_swin_transformer import (
    BundleConfig,
    Predictor,
    VideoSwinTransformer,
    explain,
    load_model,
)
from video_swin_transformer.registry import DEFAULT_MODEL
from video_swin_transformer.runtimes.torch_runtime import TorchRuntime

DIRECTIONS = ("left", "right", "up", "down")  # of what is seen in the quadrant
# What the camera does if everything moves that way.
CAMERA_LABELS = {"left": "pan_right", "right": "pan_left", "up": "tilt_down", "down": "tilt_up"}
CHANCE = 0.25

_NUM_FRAMES, _SIDE = 8, 112
_HALF = _SIDE // 2
_STEPS = {"left": (1, 0), "right": (-1, 0), "up": (0, 1), "down": (0, -1)}  # of the window, (x, y)
_SPEEDS = (1.5, 4.0)  # pixels per frame
_CLIPS_PER_POOL = 20
_TEST_SEED = 93_000
_OCCLUSION = {"window": (8, 28, 28), "stride": (8, 14, 14)}
_OCCLUDED_CLIPS = 60
_BATCH_SIZE = 32

Clips = NDArray[np.uint8]
Maps = NDArray[np.float32]


def quadrant_clip(
    pool: PicturePool, direction: str, quadrant: int, rng: np.random.Generator
) -> Clips:
    """A clip (8, 112, 112, 3) uint8 RGB of a still picture; one quadrant shows a moving part."""
    picture = pool.draw(rng).levels[0]
    height, width = picture.shape[:2]
    speed = rng.uniform(*_SPEEDS)
    reach = int(np.ceil(speed * _NUM_FRAMES)) + 2

    def corner(size: int, margin: int) -> NDArray[np.float64]:
        return np.array(
            [rng.uniform(margin, side - size - margin) for side in (width, height)], np.float64
        )

    def cut(at: NDArray[np.float64], size: int) -> Clips:
        matrix = np.array([[1, 0, at[0]], [0, 1, at[1]]], np.float64)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(picture, matrix, (size, size), flags=flags), np.uint8)

    frames = np.repeat(cut(corner(_SIDE, 0), _SIDE)[None], _NUM_FRAMES, axis=0)
    start = corner(_HALF, reach)
    rows, columns = quadrant_slices(quadrant)
    for number in range(_NUM_FRAMES):
        moved = start + speed * (number - _NUM_FRAMES / 2) * np.array(_STEPS[direction])
        frames[number, rows, columns] = cut(moved, _HALF)
    return frames


def quadrant_slices(quadrant: int) -> tuple[slice, slice]:
    """Rows and columns of a quadrant; 0 is top left, 3 is bottom right."""
    top, left = quadrant // 2 * _HALF, quadrant % 2 * _HALF
    return slice(top, top + _HALF), slice(left, left + _HALF)


def quadrant_clips(
    num_clips: int, split: Split, seed: int
) -> tuple[Clips, NDArray[np.int64], NDArray[np.int64]]:
    """Clips (N, 8, 112, 112, 3), their directions (N,) and quadrants (N,), evenly mixed."""
    clips = np.empty((num_clips, _NUM_FRAMES, _SIDE, _SIDE, 3), np.uint8)
    numbers = np.arange(num_clips)
    directions, quadrants = numbers % 4, numbers // 4 % 4
    for number in range(num_clips):
        if number % _CLIPS_PER_POOL == 0:
            pool = PicturePool(split, seed + number, num_slots=12)
            pool.turn_to(0)
        rng = np.random.default_rng((seed, number))
        direction = DIRECTIONS[directions[number]]
        clips[number] = quadrant_clip(pool, direction, int(quadrants[number]), rng)
    return clips, directions, quadrants


def bundle_of(base: BundleConfig, labels: tuple[str, ...]) -> BundleConfig:
    """The configuration for clips of eight frames, all of which are used."""
    sampling = dataclasses.replace(base.sampling, stride=1, stride_seconds=None, num_clips=1)
    model = dataclasses.replace(base.model, num_classes=len(labels))
    return dataclasses.replace(base, sampling=sampling, model=model, labels=labels)


def predictor_of(model: VideoSwinTransformer, labels: tuple[str, ...]) -> Predictor:
    """A predictor for whole clips."""
    bundle = bundle_of(model.bundle, labels)
    return Predictor(TorchRuntime(model.eval(), bundle, "f32", "cpu"), "quadrants")


def train_on_quadrants(minutes: float, seed: int) -> tuple[VideoSwinTransformer, int]:
    """Fine-tunes the included network to tell the direction; returns the clips it saw, too."""
    torch.manual_seed(seed)
    base = load_model(DEFAULT_MODEL)
    model = VideoSwinTransformer(bundle_of(base.bundle, DIRECTIONS))
    model.backbone.load_state_dict(base.backbone.state_dict())
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4, weight_decay=0.02)
    rng = np.random.default_rng((seed, 1))
    start, num_clips = time.monotonic(), 0
    pool = PicturePool("train", seed, num_slots=48)
    while (spent := time.monotonic() - start) < 60 * minutes:
        pool.turn_to(num_clips // _BATCH_SIZE)
        labels = rng.integers(0, 4, _BATCH_SIZE)
        clips = np.stack(
            [quadrant_clip(pool, DIRECTIONS[i], int(rng.integers(4)), rng) for i in labels]
        )
        for group in optimizer.param_groups:
            group["lr"] = 4e-4 * min(1.0, num_clips / 1000) * (1 - spent / 60 / minutes)
        loss = nn.functional.cross_entropy(
            model(normalize(torch.from_numpy(clips))), torch.from_numpy(labels)
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        num_clips += _BATCH_SIZE
        if num_clips % 640 == 0:
            print(f"{spent:5.0f} s  {num_clips} clips  loss {loss.item():.3f}", flush=True)
    return model.eval(), num_clips


def random_network(model: VideoSwinTransformer, seed: int) -> VideoSwinTransformer:
    """The same network with new random weights."""
    torch.manual_seed(seed)
    return VideoSwinTransformer(model.bundle).eval()


def shuffled(model: VideoSwinTransformer, prefixes: tuple[str, ...]) -> VideoSwinTransformer:
    """A copy in which the values of each parameter below some names are in random order."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name.startswith(prefixes):
                order = torch.randperm(parameter.numel(), generator=generator)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return other.eval()


def quadrant_mass(maps: Maps, quadrants: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of the positive map (T, H, W) of each clip in its quadrant; chance if it is empty."""
    shares = np.full(len(maps), CHANCE)
    for number, (each, quadrant) in enumerate(zip(maps, quadrants, strict=True)):
        positive = np.maximum(each, 0).sum(axis=0)
        rows, columns = quadrant_slices(int(quadrant))
        if positive.sum() > 0:
            shares[number] = positive[rows, columns].sum() / positive.sum()
    return shares


def all_maps(predictor: Predictor, clips: Clips, labels: list[str], **options: Any) -> Maps:
    """Maps (N, T, H, W) of all clips, each for its own label."""
    found = [
        explain(predictor, clip, label=label, **options).maps
        for clip, label in zip(clips, labels, strict=True)
    ]
    return np.stack(found)


def row(maps: Maps, quadrants: NDArray[np.int64]) -> dict[str, float]:
    """Mass in the quadrant with a 95 % bootstrap interval, and how often most of it is there."""
    shares = quadrant_mass(maps, quadrants)
    rng = np.random.default_rng(0)
    means = rng.choice(shares, (2000, len(shares))).mean(axis=1)
    by_quadrant = np.stack([quadrant_mass(maps, np.full(len(maps), q)) for q in range(4)])
    brightest = [np.unravel_index(each.argmax(), each.shape)[1:] for each in maps]
    points = [r // _HALF * 2 + c // _HALF for r, c in brightest]
    is_empty = (maps <= 0).all(axis=(1, 2, 3))
    return {
        "mass": float(shares.mean()),
        "low": float(np.percentile(means, 2.5)),
        "high": float(np.percentile(means, 97.5)),
        "most_mass": float(((by_quadrant.argmax(axis=0) == quadrants) & ~is_empty).mean()),
        "brightest": float(((np.array(points) == quadrants) & ~is_empty).mean()),
        "empty": float(is_empty.mean()),
    }


def coarse(maps: Maps) -> Maps:
    """Mean maps over time on 7 x 7 cells, (N, 49). Negative values count as 0."""
    cells = np.maximum(maps, 0).mean(axis=1).reshape(len(maps), 7, _SIDE // 7, 7, _SIDE // 7)
    return np.asarray(cells.mean(axis=(2, 4)).reshape(len(maps), -1), np.float32)


def similarity(first: Maps, second: Maps) -> float:
    """Mean rank correlation of the maps of each clip; constant maps count as 0."""
    values = []
    for one, other in zip(coarse(first), coarse(second), strict=True):
        is_constant = np.ptp(one) == 0 or np.ptp(other) == 0
        values.append(0.0 if is_constant else float(spearmanr(one, other).statistic))
    return float(np.mean(values))


def measure(
    model: VideoSwinTransformer,
    labels: tuple[str, ...],
    data: tuple[Clips, NDArray[np.int64], NDArray[np.int64]],
    names: Callable[[str], str],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """All figures of one network.

    Args:
        model: The network.
        labels: Its labels.
        data: What `quadrant_clips` returns.
        names: Label of a direction.
        say: Prints a line.
    """
    clips, directions, quadrants = data
    predictor = predictor_of(model, labels)
    wanted = [names(DIRECTIONS[d]) for d in directions]
    answers = [predictor.classify(clip).top(1)[0][0] for clip in clips]
    accuracy = float(np.mean([a == w for a, w in zip(answers, wanted, strict=True)]))
    say(f"correct: {accuracy:.1%}")
    rows: dict[str, dict[str, float]] = {}
    kept: dict[str, Maps] = {}

    def add(name: str, who: Predictor, num_clips: int = len(clips), **options: Any) -> None:
        kept[name] = all_maps(who, clips[:num_clips], wanted[:num_clips], **options)
        rows[name] = row(kept[name], quadrants[:num_clips])
        r = rows[name]
        say(
            f"{name:28}  {r['mass']:.3f} ({r['low']:.3f}-{r['high']:.3f})  most "
            f"{r['most_mass']:.0%}  brightest {r['brightest']:.0%}  empty {r['empty']:.0%}"
        )

    random = predictor_of(random_network(model, 0), labels)
    add("grad-cam norm2", predictor, method="grad-cam")
    add("grad-cam output", predictor, method="grad-cam", layer="output")
    add("grad-cam norm1", predictor, method="grad-cam", layer="norm1")
    add("grad-cam norm2, random", random, method="grad-cam")
    add("grad-cam norm2, stage 0", predictor, method="grad-cam", stage=0)
    add("eigen-cam norm2", predictor, method="eigen-cam")
    add("eigen-cam norm1", predictor, method="eigen-cam", layer="norm1")
    add("eigen-cam norm2, random", random, method="eigen-cam")
    add("attention", predictor, method="attention")
    add("rollout", predictor, method="rollout")
    add("rollout, random", random, method="rollout")
    few = min(_OCCLUDED_CLIPS, len(clips))  # 50 passes of the network per clip
    add("occlusion", predictor, few, method="occlusion", **_OCCLUSION)
    add("occlusion, random", random, few, method="occlusion", **_OCCLUSION)
    add("occlusion, freeze", predictor, few, method="occlusion", fill="freeze", **_OCCLUSION)
    add("occlusion, freeze, random", random, few, method="occlusion", fill="freeze", **_OCCLUSION)
    methods = ("grad-cam norm2", "grad-cam norm1", "eigen-cam norm2", "rollout")
    agreement = {
        check: {name: similarity(kept[name][:few], kept[check]) for name in methods}
        for check in ("occlusion", "occlusion, freeze")
    }
    for check, values in agreement.items():
        say(f"rank correlation with {check}: {values}")
    parts = {
        "head": ("cls_head.",),
        "head and last block": ("cls_head.", "backbone.norm.", _last_block(model)),
        "everything": ("",),
    }
    sanity: dict[str, dict[str, float]] = {}
    for name, prefixes in parts.items():
        broken = predictor_of(shuffled(model, prefixes), labels)
        sanity[name] = {
            method: similarity(
                kept[f"{method} norm2"], all_maps(broken, clips, wanted, method=method)
            )
            for method in ("grad-cam", "eigen-cam")
        }
        say(f"rank correlation after shuffling {name}: {sanity[name]}")
    return {"accuracy": accuracy, "rows": rows, "agreement": agreement, "shuffled": sanity}


def _last_block(model: VideoSwinTransformer) -> str:
    depths = model.config.depths
    return f"backbone.layers.{len(depths) - 1}.blocks.{depths[-1] - 1}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=7.0, help="of fine-tuning")
    parser.add_argument("--seed", type=int, default=_TEST_SEED, help="of the measured clips")
    parser.add_argument("--weights", type=Path, help="folder of the fine-tuned network, kept there")
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    options = parser.parse_args()
    data = quadrant_clips(options.clips, "test", options.seed)
    figures: dict[str, Any] = {"clips": options.clips}
    if options.weights is not None and options.weights.exists():
        trained, num_seen = load_model(options.weights).eval(), 0
    else:
        trained, num_seen = train_on_quadrants(options.minutes, 0)
        if options.weights is not None:
            trained.save_pretrained(options.weights)
    print(f"fine-tuned on {num_seen} clips", flush=True)
    figures["fine-tuned"] = measure(
        trained, DIRECTIONS, data, lambda name: name, lambda line: print(line, flush=True)
    )
    included = load_model(DEFAULT_MODEL)
    print("included network", flush=True)
    figures["included"] = measure(
        included,
        included.bundle.labels,
        data,
        CAMERA_LABELS.__getitem__,
        lambda line: print(line, flush=True),
    )
    if options.out is not None:
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
