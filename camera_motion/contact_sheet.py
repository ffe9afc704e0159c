"""Draws four moments of each clip of a folder, with the label and score the network gives.

python -m camera_motion.contact_sheet examples/clips docs/images/clips.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from video_swin_transformer import Predictor, VideoReader

_COLUMNS, _MOMENTS, _SIDE, _CAPTION = 3, 4, 88, 22  # side and caption in pixels


def strip(path: Path, predictor: Predictor) -> NDArray[np.uint8]:
    """(caption + side, moments * side, 3) uint8 RGB of one clip."""
    with VideoReader(path) as video:
        frames = video.frames_at(np.linspace(0, video.num_frames - 1, _MOMENTS).astype(int))
    row = np.hstack([cv2.resize(f, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for f in frames])
    caption = np.full((_CAPTION, row.shape[1], 3), 255, np.uint8)
    label, score = predictor.classify(path).top(1)[0]
    text, font = f"{path.stem}: {label} {score:.0%}", cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(caption, text, (2, 15), font, 0.42, (30, 30, 30), 1, cv2.LINE_AA)
    return np.vstack([caption, row])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    predictor = Predictor.load()
    strips = [strip(path, predictor) for path in sorted(options.folder.glob("*.mp4"))]
    gap = np.full((strips[0].shape[0], 8, 3), 255, np.uint8)
    rows = []
    for start in range(0, len(strips), _COLUMNS):
        row = strips[start : start + _COLUMNS]
        row += [np.full_like(strips[0], 255)] * (_COLUMNS - len(row))
        rows.append(np.hstack([part for one in row for part in (one, gap)][:-1]))
    sheet = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    options.picture.write_bytes(cv2.imencode(".png", sheet)[1].tobytes())


if __name__ == "__main__":
    main()
