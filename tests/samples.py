"""Small networks, input views and lists of the example clips, shared by tests."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from video_swin_transformer import (
    BundleConfig,
    ClipSampling,
    Preprocessing,
    VideoSwinTransformer,
)
from video_swin_transformer.config import ModelConfig
from video_swin_transformer.registry import DEFAULT_MODEL, find_card

EXAMPLE_CLIPS = Path(__file__).parent.parent / "examples" / "clips"
EXAMPLE_LABELS = find_card(DEFAULT_MODEL).bundle.labels

CLIP = (3, 4, 32, 32)
SECOND = (3, 6, 40, 32)  # other padding and other shifted windows than CLIP

# A configuration without a default value.
CUSTOM = BundleConfig(
    model=ModelConfig(embed_dim=32, depths=(1, 2), num_heads=(2, 4), in_chans=1, num_classes=2),
    sampling=ClipSampling(
        num_frames=8, stride=3, num_clips=2, rule="mmaction2", stride_seconds=0.1
    ),
    preprocessing=Preprocessing(short_side=64, crop_size=56, num_crops=1, mean=(1.0,), std=(2.0,)),
    labels=("on", "ausgeschaltet \u00fc"),
    name="mine",
)


def small_bundle() -> BundleConfig:
    """Three tokens deep, padded and shifted windows, and a bias table that matters."""
    model = ModelConfig(
        embed_dim=16,
        depths=(2, 2),
        num_heads=(2, 4),
        patch_size=(2, 4, 4),
        window_size=(2, 3, 3),
        num_classes=5,
    )
    return BundleConfig(
        model=model,
        sampling=ClipSampling(num_frames=CLIP[1], num_clips=1),
        preprocessing=Preprocessing(short_side=CLIP[2], crop_size=CLIP[2], num_crops=1),
        labels=tuple("abcde"),
    )


def views_of(shape: tuple[int, ...], count: int = 3) -> np.ndarray:
    noise = np.random.default_rng(len(shape) + shape[1]).standard_normal((count, *shape))
    return noise.astype(np.float32)


def fresh(seed: int = 0) -> VideoSwinTransformer:
    torch.manual_seed(seed)
    model = VideoSwinTransformer(small_bundle())
    with torch.no_grad():  # the initial values are so small that biases and heads hardly count
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def example_list(path: Path, times: int = 1) -> Path:
    """An annotation list of the example clips, two of them with a wrong label on purpose."""
    lines = []
    for clip in sorted(EXAMPLE_CLIPS.glob("*.mp4")) * times:
        label = next(n for n, name in enumerate(EXAMPLE_LABELS) if clip.stem.startswith(name))
        lines.append(f"{clip} {9 if clip.stem in ('zoom_in', 'tilt_up') else label}")
    path.write_text("\n".join(lines))
    return path


def environment_without_coverage() -> dict[str, str]:
    """For a child that becomes another user and may not write the coverage data of this one."""
    return {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
