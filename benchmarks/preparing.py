"""Reading training clips from 1080p videos and from their prepared copies, and the time to prepare.

python -m benchmarks.preparing    (needs ffmpeg to compare with)
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from video_swin_transformer.config import ClipSampling
from video_swin_transformer.data import TrainClips, prepare, read_annotations

_NUM_VIDEOS = 8
_SECONDS = 10
_FPS = 25
_ROUNDS = 3
_HEIGHT, _WIDTH = 1080, 1920


def main() -> None:
    """Prints sizes and times, and their ratios."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        originals = folder / "originals"
        for number in range(_NUM_VIDEOS):
            _write_video(originals / f"class{number % 2}" / f"{number}.mp4", seed=number)
        ours, theirs = [], []
        for number in range(_ROUNDS):
            ours.append(_seconds(prepare, originals, folder / f"out{number}"))
            theirs.append(_seconds(_ffmpeg, originals, folder / f"ffmpeg{number}"))
        small = folder / "out0"
        before, after = [], []
        for _ in range(_ROUNDS):
            before.append(_seconds(_read, originals) / _NUM_VIDEOS)
            after.append(_seconds(_read, small) / _NUM_VIDEOS)
        length = _NUM_VIDEOS * _SECONDS
        print(f"prepare: {statistics.median(ours) / length:.3f} s per second of video")
        print(f"ffmpeg, one video after the other: {statistics.median(theirs) / length:.3f} s")
        print(f"size: {_num_bytes(originals) / _num_bytes(small):.1f} times smaller")
        first, second = statistics.median(before), statistics.median(after)
        print(f"training clip: {first * 1e3:.0f} ms from the original, {second * 1e3:.0f} ms after")


def _write_video(path: Path, seed: int) -> None:
    """A textured scene that moves and turns, as a camera in a hand would see it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (54, 96, 3), np.uint8)
    scene = cv2.resize(coarse, (2 * _WIDTH, 2 * _HEIGHT), interpolation=cv2.INTER_CUBIC)
    fine = generator.normal(0, 12, scene.shape[:2])[..., None]
    scene = np.clip(scene + fine, 0, 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=_FPS, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        for number in range(_FPS * _SECONDS):
            angle = 5 * np.sin(number / 40)
            turn = cv2.getRotationMatrix2D((_WIDTH, _HEIGHT), angle, 1 + number / 1000)
            turn[:, 2] -= np.array([_WIDTH / 2 + 2 * number, _HEIGHT / 2 + number])
            pixels = np.asarray(cv2.warpAffine(scene, turn, (_WIDTH, _HEIGHT)), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, _FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _ffmpeg(originals: Path, out: Path) -> None:
    out.mkdir()
    for path in sorted(originals.rglob("*.mp4")):
        command = ["ffmpeg", "-v", "error", "-i", path, "-vf", "scale=-2:256", "-crf", "20"]
        command += ["-preset", "veryfast", "-g", "32", "-an", out / path.name]
        subprocess.run(list(map(str, command)), check=True)


def _read(folder: Path) -> None:
    clips = TrainClips(read_annotations(folder), ClipSampling(num_frames=32, stride=2))
    for index in range(len(clips)):
        assert clips[index].error is None


def _num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.mp4"))


def _seconds(function: Callable[..., object], *arguments: Path) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
