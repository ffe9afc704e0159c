"""Streaming equals the whole video, trails it by the stated lag and needs constant memory."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from tests.oracle import fill_by_name, input_by_shape
from video_swin_transformer import SwinTransformer3D, VideoSwinTransformer, create_model
from video_swin_transformer.config import ModelConfig
from video_swin_transformer.errors import ConfigError
from video_swin_transformer.features.streaming import StreamingFeatures, streaming_lag
from video_swin_transformer.registry import find_card
from video_swin_transformer.windows import ready_time_regions

# Shorter than a window, equal to it, odd, one more and one less than whole windows.
LENGTHS = (1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 13, 15, 16, 17, 20, 24, 27, 31, 40, 45)
WINDOWS = ((4, 3, 3), (3, 4, 2))
CHUNKS = (1, 5, 64)
SIZE = (20, 28)  # 5 x 7 tokens, then 3 x 4: padded, shifted, and clipped in space


def network(**changes) -> SwinTransformer3D:
    settings: dict[str, Any] = {
        "embed_dim": 8,
        "depths": (2, 3),
        "num_heads": (2, 4),
        "patch_size": (2, 4, 4),
        "window_size": WINDOWS[0],
        "patch_norm": True,
    }
    model = SwinTransformer3D(**(settings | changes)).eval()
    with torch.no_grad():
        fill_by_name(model)
    return model


def streamed(model, x: torch.Tensor, chunk: int, **options) -> torch.Tensor:
    """The concatenated output of a stream."""
    stream = StreamingFeatures(model, **options)
    parts = [stream.push(part) for part in x.split(chunk, dim=2)]
    axis = 1 if options.get("pooled", True) else 2
    return torch.cat([*parts, stream.finish()], dim=axis)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("length", LENGTHS)
def test_a_stream_equals_the_whole_video(length, window, chunk):
    model = network(window_size=window)
    x = input_by_shape((1, 3, length, *SIZE))
    with torch.no_grad():
        whole = model(x)
    maps = streamed(model, x, chunk, pooled=False)
    assert maps.shape == whole.shape
    assert (maps - whole).abs().max() < 1e-5
    rows = streamed(model, x, chunk)
    assert (rows - whole.mean(dim=(3, 4)).transpose(1, 2)).abs().max() < 1e-5


def test_the_comparison_notices_a_wrong_window(monkeypatch):
    model, x = network(), input_by_shape((1, 3, 31, *SIZE))
    with torch.no_grad():
        whole = model(x)
    monkeypatch.setattr(
        "video_swin_transformer.features.streaming.ready_time_regions",
        lambda start, stop, window, shift, total: ready_time_regions(start, stop, window, 0, total),
    )
    assert (streamed(model, x, 5, pooled=False) - whole).abs().max() > 1e-3


@pytest.mark.parametrize(
    "changes",
    [
        {"patch_stride": (1, 4, 4)},  # overlapping patches
        {"patch_size": (4, 4, 4)},
        {"window_size": (1, 3, 3)},  # no shift in time
        {"depths": (1, 1)},  # no shifted block
        {"out_indices": (0, 1)},  # a norm of another name
    ],
)
@pytest.mark.parametrize("length", [1, 4, 9, 23])
def test_other_architectures(changes, length):
    model = network(**changes)
    x = input_by_shape((2, 3, length, *SIZE))
    with torch.no_grad():
        whole = model(x)
    whole = whole[-1] if isinstance(whole, tuple) else whole
    maps = streamed(model, x, 3, pooled=False)
    assert maps.shape == whole.shape and (maps - whole).abs().max() < 1e-5


def test_an_earlier_stage_is_the_map_before_its_patch_merging():
    model, x = network(), input_by_shape((1, 3, 19, *SIZE))
    with torch.no_grad():
        expected = model.forward_intermediates(x, [0])[0]
    assert (streamed(model, x, 4, stage=0, pooled=False) - expected).abs().max() < 1e-5


def test_the_published_window_at_the_published_size():
    model = create_model("swin-nano", num_classes=0, patch_size=(2, 8, 8)).eval()
    with torch.no_grad():
        fill_by_name(model)
        x = input_by_shape((1, 3, 39, 112, 112))
        whole = model.forward_features(x)
    assert (streamed(model, x, 16, pooled=False) - whole).abs().max() < 1e-5


def test_bf16_is_within_its_tolerance():
    model, x = network(), input_by_shape((1, 3, 27, *SIZE))
    with torch.no_grad():
        exact = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            whole = model(x).float()
            maps = streamed(model, x, 5, pooled=False).float()
    tolerance = (whole - exact).abs().max()  # what bf16 itself costs
    assert 0 < tolerance < 0.2
    assert (maps - exact).abs().max() < 2 * tolerance


# --- lag ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("swin_tiny_patch244_window877", (44, 51)),
        ("swin_small_patch244_window877", (92, 99)),
        ("swin_base_patch244_window877", (92, 99)),
        ("swin_base_patch244_window1677_sthv2", (184, 199)),
    ],
)
def test_lag_of_the_published_architectures(name, steps):
    lag = streaming_lag(find_card(name).bundle.model)
    assert (lag.min_steps, lag.max_steps) == steps
    assert (lag.min_frames, lag.max_frames) == (2 * steps[0], 2 * steps[1])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"window_size": (3, 4, 2)},
        {"window_size": (1, 3, 3)},
        {"depths": (1, 1)},
        {"depths": (2, 4)},
        {"patch_stride": (1, 4, 4)},
        {"patch_size": (4, 4, 4)},
    ],
)
def test_the_measured_lag_is_the_stated_one(changes):
    model = network(**changes)
    stream = StreamingFeatures(model)
    patch = model.patch_size[0]
    step = model.patch_embed.stride[0]
    lags, num_rows = [], 0
    frames = input_by_shape((1, 3, 120, 8, 8)).split(1, dim=2)
    for num_frames, frame in enumerate(frames, start=1):
        new = stream.push(frame).shape[1]
        for row in range(num_rows, num_rows + new):
            if num_frames > 60:  # the first window may wait longer
                lags.append(num_frames - (row * step + patch))
        num_rows += new
    assert (min(lags), max(lags)) == (stream.lag.min_frames, stream.lag.max_frames)
    assert stream.lag.max_frames == stream.lag.max_steps * step


def test_lag_of_an_earlier_stage_is_shorter():
    config = ModelConfig()
    assert streaming_lag(config, 0).max_steps < streaming_lag(config).max_steps


# --- misuse -------------------------------------------------------------------------------------


def test_misuse_is_named():
    model = network()
    with pytest.raises(ConfigError, match="training mode"):
        StreamingFeatures(model.train())
    model.eval()
    with pytest.raises(ConfigError, match="stage"):
        StreamingFeatures(model, stage=2)
    stream = StreamingFeatures(VideoSwinTransformer(ModelConfig(
        embed_dim=8, depths=(2,), num_heads=(2,), num_classes=0)).eval())  # fmt: skip
    with pytest.raises(ConfigError, match="at least one frame"):
        stream.finish()
    with pytest.raises(ConfigError, match="none of them empty"):
        stream.push(torch.zeros(1, 3, 0, 8, 8))
    stream.push(torch.zeros(1, 3, 2, 8, 8))
    with pytest.raises(ConfigError, match="one size"):
        stream.push(torch.zeros(1, 3, 2, 8, 12))
    stream.finish()
    with pytest.raises(ConfigError, match="finished"):
        stream.push(torch.zeros(1, 3, 2, 8, 8))
    with pytest.raises(ConfigError, match="finished"):
        stream.finish()


# --- memory -------------------------------------------------------------------------------------


def test_a_stream_keeps_no_more_after_many_frames():
    stream = StreamingFeatures(network())
    kept = []
    for number, frames in enumerate(input_by_shape((1, 3, 640, 8, 8)).split(8, dim=2)):
        stream.push(frames)
        if number in (19, 79):  # the same place in the window
            blocks = [block for stage in stream._stages for block in stage._blocks]
            waiting = [b._waiting for b in blocks if b._waiting is not None]
            assert stream._frames is not None
            tensors = [*waiting, stream._frames]
            kept.append(sum(tensor.untyped_storage().nbytes() for tensor in tensors))
    assert kept[0] == kept[1] > 0


_STREAM_FOR_SECONDS = """
import sys
import torch
from tests.media import peak_memory_megabytes
from tests.test_features_streaming import network
from video_swin_transformer.features.streaming import StreamingFeatures
torch.manual_seed(0)
stream = StreamingFeatures(network(), pooled=False)
for _ in range(int(sys.argv[1])):
    stream.push(torch.randn(1, 3, 25, 32, 32))
stream.finish()
print(peak_memory_megabytes())
"""


@pytest.mark.slow
def test_memory_is_the_same_for_a_minute_and_for_half_an_hour():
    peaks = [
        float(
            subprocess.check_output(
                [sys.executable, "-c", _STREAM_FOR_SECONDS, str(seconds)], text=True
            )
        )
        for seconds in (60, 1800)
    ]
    assert abs(peaks[1] / peaks[0] - 1) < 0.05, peaks
