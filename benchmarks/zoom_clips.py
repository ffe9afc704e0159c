"""Clips of pictures that grow or shrink at a known speed, and their list."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from camera_motion.images import Canvas
from camera_motion.textures import outdoors
from tests.media import Clip

FPS, NUM_FRAMES, SIDE = 10, 10, 112
MAX_SPEED = 0.4  # natural logarithm of the zoom factor per second


def zoom_clip(speed: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(T, S, S, 3) uint8 RGB: a drawn scene, scaled by exp(speed * seconds) about a point near the
    middle, with a small pan."""
    scene = Canvas.of(outdoors(rng)).levels[0]
    height, width = scene.shape[:2]
    center = np.array([width, height]) * rng.uniform(0.4, 0.6, 2)
    scale = SIDE / (0.5 * min(height, width))
    pan = rng.normal(0, 3, 2)  # pixels per second
    frames = []
    for seconds in np.arange(NUM_FRAMES) / FPS - NUM_FRAMES / FPS / 2:
        zoom = scale * np.exp(speed * seconds)
        shift = SIDE / 2 - zoom * center + pan * seconds
        matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
        frames.append(cv2.warpAffine(scene, matrix, (SIDE, SIDE), flags=cv2.INTER_AREA,
                                     borderMode=cv2.BORDER_REFLECT))  # fmt: skip
    return np.asarray(frames, np.uint8)


def write_zoom_clips(folder: Path, num_clips: int, seed: int) -> Path:
    """Writes clips of random speeds and a list with the column `zoom_percent_per_second`."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(num_clips):
        speed = float(rng.uniform(-MAX_SPEED, MAX_SPEED))
        frames = zoom_clip(speed, rng)
        path = Clip(fps=FPS, height=SIDE, width=SIDE).make(folder / f"{number:04d}", list(frames))
        rows.append((path.name, f"{100 * speed:.3f}"))
    with (folder / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "zoom_percent_per_second"), *rows])
    return folder / "list.csv"
