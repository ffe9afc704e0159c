"""Features of a long video: streaming and overlapping windows against what people write.

    python -m benchmarks.features [--model NAME] [--video FILE] [--rounds 3] [--out FILE]

streaming   one pass over the video against sliding windows of 32 frames at stride 2 with a hop of
            16 frames; both give one row per 16 frames
windows     sliding windows of 32 frames at stride 2 with a hop of 8 frames, against a script that
            opens the video for each window, decodes its frames and runs the network on it alone

All run in alternation, in torch unless another runtime is named.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.end_to_end import write_clip
from video_swin_transformer import Predictor, create_model, extract_features
from video_swin_transformer.bench import alternate
from video_swin_transformer.features.streaming import StreamingFeatures
from video_swin_transformer.preprocess import views_from_frames
from video_swin_transformer.video import VideoReader

WINDOW, STRIDE = 32, 2
STREAM_HOP, WINDOW_HOP = 16, 8


def script(predictor: Predictor, path: Path, hop: int) -> NDArray[np.float32]:
    """The script people write: for each window open, seek, decode, resize, one forward pass."""
    with VideoReader(path) as video:
        num_frames = video.num_frames
    rows = []
    for start in range(0, num_frames - WINDOW * STRIDE + 1, hop):
        with VideoReader(path) as video:
            frames = video.frames_at(range(start, start + WINDOW * STRIDE, STRIDE))
        views = views_from_frames(frames[None], predictor.bundle.preprocessing)
        rows.append(predictor.runtime.run(views).features)
    return np.concatenate(rows)


def network_only(predictor: Predictor, num_frames: int) -> dict[str, Callable[[], object]]:
    """Streaming and sliding windows on frames that are ready, for the cost of the network."""
    runtime: Any = predictor.runtime
    side = predictor.bundle.preprocessing.crop_size
    fed = torch.randn(1, 3, num_frames // STRIDE, side, side)
    chunk = runtime.model.config.window_size[0] * runtime.model.config.patch_size[0]
    starts = range(0, fed.shape[2] - WINDOW + 1, STREAM_HOP // STRIDE)

    def stream() -> None:
        features = StreamingFeatures(runtime.model)
        for part in fed.split(chunk, dim=2):
            features.push(part)
        features.finish()

    def windows() -> None:
        for start in starts:
            runtime.run(fed[:, :, start : start + WINDOW].numpy())

    return {"network: stream": stream, "network: windows": windows}


def features(source: str | Path, path: Path, num_rounds: int, runtime: str) -> dict[str, Any]:
    """Seconds per row of each way, and ratios."""
    torch_predictor = Predictor.load(source, runtime="torch", device="cpu").with_views(1, 1)
    predictor = Predictor.load(source, runtime=runtime, device="cpu").with_views(1, 1)
    with VideoReader(path) as video:
        num_frames = video.num_frames

    def sliding(hop: int) -> Any:
        return extract_features(predictor, path, window=WINDOW, stride=STRIDE, hop_frames=hop)

    def streaming() -> Any:
        return extract_features(
            torch_predictor, path, mode="stream", stride=STRIDE, hop_frames=STREAM_HOP
        )

    expected = script(predictor, path, WINDOW_HOP)
    difference = float(np.abs(sliding(WINDOW_HOP).values - expected).max())
    num_rows = {
        "stream": len(streaming()),
        "windows, hop 16": len(sliding(STREAM_HOP)),
        "windows, hop 8": len(expected),
        "script, hop 8": len(expected),
        "network: stream": num_frames // STREAM_HOP,
        "network: windows": (num_frames - WINDOW * STRIDE) // STREAM_HOP + 1,
    }
    timed = alternate(
        {
            "stream": streaming,
            "windows, hop 16": lambda: sliding(STREAM_HOP),
            "windows, hop 8": lambda: sliding(WINDOW_HOP),
            "script, hop 8": lambda: script(predictor, path, WINDOW_HOP),
            **network_only(torch_predictor, num_frames),
        },
        num_rounds,
    )
    per_row = {name: timed[name].median_seconds / rows for name, rows in num_rows.items()}
    return {
        "seconds_per_row": per_row,
        "stream_ratio": per_row["windows, hop 16"] / per_row["stream"],
        "stream_ratio_of_the_network": per_row["network: windows"] / per_row["network: stream"],
        "windows_ratio": per_row["script, hop 8"] / per_row["windows, hop 8"],
        "largest_difference_to_the_script": difference,
        "num_frames": num_frames,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="name or file; the default is Swin-T with random weights")
    parser.add_argument("--video", type=Path, help="a video; the default is generated, 10 s")
    parser.add_argument("--runtime", default="torch", help="of the windows and the script")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = options.model
        if source is None:
            torch.manual_seed(0)
            source = Path(folder) / "tiny"
            create_model("swin_tiny_patch244_window877").save_pretrained(source)
        video = options.video
        if video is None:
            video = Path(folder) / "clip.mp4"
            write_clip(video)
        figures = features(source, video, options.rounds, options.runtime)
    print(json.dumps(figures, indent=1))
    if options.out is not None:
        options.out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
