"""Writes the example clips of the project: one a label, and two with something moving in front.

    python -m camera_motion.examples --out examples/clips

Each is 2.4 s at 25 frames a second, rendered over our own textures and CC0 photographs: the kind
of picture the network was trained on, so these show what the labels mean and measure nothing.
The same seed gives the same frames.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from .images import Canvas, PicturePool, Split, photographs
from .labels import LABELS, Clip
from .render import View, add_things, make_masks, render_background
from .textures import outdoors
from .video_files import smooth_path, write_video

FPS, SIDE = 25, 176
_NUM_FRAMES, _NUM_MOMENTS, _FRAMES_BETWEEN = 60, 31, 2  # moments of a path are 0.08 s apart
_DIFFICULTY = 0.4
_WITH_THINGS = ("static", "pan_left")
_PHOTOGRAPHS: dict[
    str, tuple[Split, int]
] = {  # other clips show drawn scenes; all CC0 or public domain, see LICENSES.md
    "static": ("train", 0),  # astronaut
    "zoom_in": ("train", 2),  # cat
    "zoom_out": ("train", 0),
    "roll_cw": ("train", 3),  # rocket
    "shake": ("test", 0),  # coffee
    "tilt_up": ("train", 3),
}


def render(label: str, things: bool, seed: int) -> Clip:
    """(60, 176, 176, 3) uint8 RGB of one clip."""
    rng = np.random.default_rng((seed, LABELS.index(label), things))
    pool = PicturePool("train", seed, num_slots=24)
    pool.turn_to(0)
    path, times = smooth_path(LABELS.index(label), _NUM_MOMENTS, _FRAMES_BETWEEN, _DIFFICULTY, rng)
    if label in _PHOTOGRAPHS and not things:
        split, number = _PHOTOGRAPHS[label]
        canvas = Canvas.of(photographs(split)[number])
    else:
        canvas = Canvas.of(outdoors(rng))
    height, width = canvas.levels[0].shape[:2]
    view = View(center=np.array([width, height]) / 2, scale=min(height, width) / SIDE / 2)
    frames = render_background(canvas, path, view, SIDE)
    if things:
        add_things(frames, path, times, pool, make_masks(rng), rng)
    return frames[:_NUM_FRAMES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("examples/clips"))
    parser.add_argument("--seed", type=int, default=251)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    clips = [(label, False) for label in LABELS] + [(label, True) for label in _WITH_THINGS]
    for label, things in clips:
        path = options.out / f"{label}{'_with_things_in_front' if things else ''}.mp4"
        write_video(path, render(label, things, options.seed), FPS, crf=27, preset="slow")
        print(path)


if __name__ == "__main__":
    main()
