"""Features of a long video: streaming against sliding windows, and both against a script.

    python -m benchmarks.features [--model NAME] [--video FILE] [--rounds 3] [--out FILE]

All give one row per 16 frames: windows of 32 frames at stride 2 with a hop of 16, or time steps of
a stream at stride 2, averaged over 16 frames. The script seeks, decodes, resizes and runs the
network for each window, as people write it. Everything runs in alternation, the windows and the
script in torch unless another runtime is named; streams always run in torch.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.end_to_end import write_clip
from video_swin_transformer import Predictor, create_model, extract_features
from video_swin_transformer.bench import alternate
from video_swin_transformer.features.streaming import StreamingFeatures
from video_swin_transformer.preprocess import views_from_frames
from video_swin_transformer.video import VideoReader

WINDOW, STRIDE, HOP = 32, 2, 16
NUM_FRAMES = 640  # of the generated video: whole windows of tokens, so that the end adds no padding
SPAN = WINDOW * STRIDE


def script(predictor: Predictor, path: Path) -> NDArray[np.float32]:
    """For each window: seek to the key frame before it, decode, resize, one forward pass."""
    rows = []
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert stream.average_rate is not None and stream.time_base is not None
        ticks = float(1 / stream.average_rate / stream.time_base)
        for start in range(0, stream.frames - SPAN + 1, HOP):
            file.seek(round(start * ticks), stream=stream)
            frames = []
            for frame in file.decode(stream):
                number = round((frame.pts or 0) / ticks)
                if number >= start + SPAN:
                    break
                if number >= start and (number - start) % STRIDE == 0:
                    frames.append(frame.to_ndarray(format="rgb24"))
            clip = np.stack(frames).astype(np.uint8, copy=False)
            views = views_from_frames(clip[None], predictor.bundle.preprocessing)
            rows.append(predictor.runtime.run(views).features)
    return np.concatenate(rows)


def network_only(predictor: Predictor, num_frames: int) -> dict[str, Callable[[], object]]:
    """Streaming and sliding windows on frames that are ready, for the cost of the network."""
    runtime: Any = predictor.runtime
    side = predictor.bundle.preprocessing.crop_size
    fed = torch.randn(1, 3, num_frames // STRIDE, side, side)
    chunk = runtime.model.config.window_size[0] * runtime.model.config.patch_size[0]
    starts = range(0, fed.shape[2] - WINDOW + 1, HOP // STRIDE)

    def stream() -> None:
        features = StreamingFeatures(runtime.model)
        with runtime.inference():
            for start in range(0, fed.shape[2], chunk):
                features.push(fed[:, :, start : start + chunk])
            features.finish()

    def windows() -> None:
        for start in starts:
            runtime.run(fed[:, :, start : start + WINDOW].numpy())

    return {"stream, network only": stream, "windows, network only": windows}


def features(source: str | Path, path: Path, num_rounds: int, runtime: str) -> dict[str, Any]:
    """Seconds per row of each way, and how many times cheaper a stream is than each."""
    torch_predictor = Predictor.load(source, runtime="torch", device="cpu").with_views(1, 1)
    predictor = Predictor.load(source, runtime=runtime, device="cpu").with_views(1, 1)
    with VideoReader(path) as video:
        num_frames = video.num_frames
    calls: dict[str, Callable[[], object]] = {
        "stream": lambda: extract_features(
            torch_predictor, path, mode="stream", stride=STRIDE, hop_frames=HOP
        ),
        "windows": lambda: extract_features(
            predictor, path, window=WINDOW, stride=STRIDE, hop_frames=HOP
        ),
        "script": lambda: script(predictor, path),
        **network_only(torch_predictor, num_frames),
    }
    timed = alternate(calls, num_rounds)
    num_windows = (num_frames - SPAN) // HOP + 1
    rows = {
        name: one.median_seconds / (num_frames // HOP if "stream" in name else num_windows)
        for name, one in timed.items()
    }
    return {
        "seconds_per_row": rows,
        "stream_ratio": rows["windows"] / rows["stream"],
        "stream_ratio_of_the_network": (
            rows["windows, network only"] / rows["stream, network only"]
        ),
        "windows_ratio": rows["script"] / rows["windows"],
        "num_frames": num_frames,
    }


def check(source: str | Path, path: Path) -> float:
    """Largest difference between the features of windows and those of the script."""
    predictor = Predictor.load(source, runtime="torch", device="cpu").with_views(1, 1)
    table = extract_features(predictor, path, window=WINDOW, stride=STRIDE, hop_frames=HOP)
    return float(np.abs(table.values - script(predictor, path)).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="name or file; the default is Swin-T with random weights")
    parser.add_argument("--video", type=Path, help="the default is generated, 640 frames")
    parser.add_argument("--runtime", default="torch", help="of the windows and the script")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--check", action="store_true", help="compare the features instead")
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
            write_clip(video, num_frames=NUM_FRAMES)
        if options.check:
            print(f"largest difference {check(source, video):.1e}")
            return
        figures = features(source, video, options.rounds, options.runtime)
    print(json.dumps(figures, indent=1))
    if options.out is not None:
        options.out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
