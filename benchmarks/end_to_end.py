"""From a file to its labels with the official 12 views: ours beside torchvision's way."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from video_swin_transformer import Predictor, load_model
from video_swin_transformer.bench import alternate
from video_swin_transformer.config import IMAGENET_MEAN, IMAGENET_STD
from video_swin_transformer.runtimes import Runtime

from .peers import torchvision_twin

_log = logging.getLogger(__name__)

PEER = "torchvision f32"
FPS, SECONDS = 30, 10


def write_clip(
    path: Path, width: int = 340, height: int = 256, num_frames: int = FPS * SECONDS
) -> None:
    """A clip of moving gradients and noise, by default of ten seconds (300 frames), H.264."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 40, (height + num_frames, width + num_frames, 3), np.uint8)
    y, x = np.mgrid[:height, :width]
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(num_frames):
            waves = 100 + 60 * np.sin((x + 3 * index) / 40) * np.cos((y - index) / 30)
            picture = waves[..., None].astype(np.uint8) + noise[index:, index:][:height, :width]
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                file.mux(packet)
        for packet in stream.encode(None):
            file.mux(packet)


def read_all(path: Path) -> NDArray[np.uint8]:
    """Every frame of a file, as scripts around torchvision's networks do: (T, H, W, 3) RGB."""
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    return np.stack(frames)


@torch.inference_mode()
def peer_scores(peer: torch.nn.Module, path: Path) -> NDArray[np.float32]:
    """Decode everything, resize, cut 4 x 3 views, and twelve passes of torchvision's network."""
    frames = read_all(path)
    height, width = frames.shape[1:3]
    scale = 224 / min(height, width)
    size = int(width * scale + 0.5), int(height * scale + 0.5)
    share = (len(frames) - 64 + 1) / 4
    views = []
    for offset in (0, 2 * ((size[0] - 224) // 2), (size[0] - 224) // 2):
        for clip in range(4):
            start = int(clip * share + share / 2)
            resized = [cv2.resize(frames[start + 2 * i], size) for i in range(32)]
            pixels = np.stack(resized)[:, :, offset : offset + 224].astype(np.float32)
            mean, std = np.array(IMAGENET_MEAN, np.float32), np.array(IMAGENET_STD, np.float32)
            normalized = (pixels - mean) / std
            views.append(torch.from_numpy(normalized.transpose(3, 0, 1, 2).copy()))
    scores = [peer(view[None]).softmax(dim=1) for view in views]
    return torch.cat(scores).mean(dim=0).numpy()


def end_to_end(
    source: Path,
    runtimes: Mapping[tuple[str, str], Runtime],
    clip: Path,
    num_rounds: int,
) -> dict[str, Any]:
    """Median seconds from file to scores, ratio and largest difference of a score."""
    peer = torchvision_twin(load_model(source))
    predictors = {
        " ".join(key): Predictor(runtime, "tiny").with_views(4, 3)
        for key, runtime in runtimes.items()
    }
    expected = peer_scores(peer, clip)
    stages: dict[str, dict[str, float]] = {}
    differences: dict[str, float] = {}
    for name, predictor in predictors.items():
        _log.info("end to end: %s", name)
        predictor.classify(clip)  # warms up
        result = predictor.classify(clip)
        stages[name] = result.timing_seconds
        differences[name] = float(np.abs(result.scores - expected).max())
    calls: dict[str, Callable[[], object]] = {
        name: lambda predictor=predictor: predictor.classify(clip)  # type: ignore[misc]
        for name, predictor in predictors.items()
    }
    began = time.perf_counter()
    timed = alternate({**calls, PEER: lambda: peer_scores(peer, clip)}, num_rounds)
    _log.info("end to end: %.0f s", time.perf_counter() - began)
    base = timed[PEER].median_seconds
    rows: dict[str, Any] = {
        name: {
            "seconds": timed[name].median_seconds,
            "ratio": base / timed[name].median_seconds,
            "largest_difference_of_a_score": differences[name],
            "stages": stages[name],
        }
        for name in predictors
    }
    rows[PEER] = {"seconds": base, "ratio": 1.0}
    return rows
