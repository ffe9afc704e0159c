"""Architectures without weights, and the bundled model.

Names follow the official configs; torchvision names and short names are aliases.
"""

from __future__ import annotations

import dataclasses

from ..config import BundleConfig, ClipSampling, ModelConfig, Preprocessing
from ..labels import shipped_labels
from .card import Accuracy, ModelCard, WeightsSource

ONE_UNIFORM_CLIP = ClipSampling(num_clips=1, rule="uniform")
PAPER_384_SAMPLING = ClipSampling(num_clips=10)
PAPER_384_PREPROCESSING = Preprocessing(short_side=384, crop_size=384, num_crops=5)
FIVE_CROPS_NOTE = (
    "The paper does not specify the five crops; here they are evenly spaced along the longer side."
)


def _swin(
    embed_dim: int, third_depth: int, heads: int, window: tuple[int, int, int], drop_path: float
) -> ModelConfig:
    """A published architecture: depths 2, 2, n, 2; heads double with the channels."""
    return ModelConfig(
        embed_dim=embed_dim,
        depths=(2, 2, third_depth, 2),
        num_heads=(heads, 2 * heads, 4 * heads, 8 * heads),
        window_size=window,
        drop_path_rate=drop_path,
    )


def _architecture(
    name: str,
    model: ModelConfig,
    summary: str,
    aliases: tuple[str, ...] = (),
    sampling: ClipSampling | None = None,
    preprocessing: Preprocessing | None = None,
    note: str = "",
) -> ModelCard:
    bundle = BundleConfig(
        model=model,
        sampling=sampling or ClipSampling(),
        preprocessing=preprocessing or Preprocessing(),
        name=name,
    )
    return ModelCard(name, bundle, summary, "architecture", name, aliases, note=note)


_CAMERA_LABELS = (
    "static",
    "pan_left",
    "pan_right",
    "tilt_up",
    "tilt_down",
    "zoom_in",
    "zoom_out",
    "roll_cw",
    "roll_ccw",
    "shake",
)
_NANO = ModelConfig(
    embed_dim=96,
    depths=(2, 2),
    num_heads=(3, 6),
    patch_size=(4, 8, 8),
    num_classes=len(_CAMERA_LABELS),
)
# Spacing in seconds: camera motion depends on time, not on the frame rate.
_NANO_SAMPLING = ClipSampling(num_frames=8, stride=3, num_clips=4, stride_seconds=0.1)
_NANO_PREPROCESSING = Preprocessing(
    short_side=112, crop_size=112, num_crops=1, interpolation="area"
)

CAMERA_MOTION = ModelCard(
    name="swin_nano_patch488_window877_camera",
    aliases=("camera-motion",),
    summary="classifies camera motion",
    kind="video",
    architecture="swin_nano_patch488_window877",
    bundle=BundleConfig(
        model=_NANO,
        sampling=_NANO_SAMPLING,
        preprocessing=_NANO_PREPROCESSING,
        labels=_CAMERA_LABELS,
        name="swin_nano_patch488_window877_camera",
    ),
    weights=WeightsSource(
        publisher="this package",
        shipped_folder="camera_motion",
        trained_on="rendered camera paths over free images",
        license="Apache-2.0",
        accuracy=Accuracy(top1=94.8, protocol="held-out images, 1x1 views"),
    ),
)

ARCHITECTURES = (
    _architecture(
        "swin_nano_patch488_window877",
        _NANO,
        "for quick experiments",
        ("swin-nano",),
        _NANO_SAMPLING,
        _NANO_PREPROCESSING,
    ),
    _architecture(
        "swin_tiny_patch244_window877",
        _swin(96, 6, 3, (8, 7, 7), 0.1),
        "T of the paper",
        ("swin-t", "swin-tiny", "swin3d_t", "swin_tiny"),
    ),
    _architecture(
        "swin_small_patch244_window877",
        _swin(96, 18, 3, (8, 7, 7), 0.1),
        "S of the paper",
        ("swin-s", "swin-small", "swin3d_s", "swin_small"),
    ),
    _architecture(
        "swin_base_patch244_window877",
        _swin(128, 18, 4, (8, 7, 7), 0.3),
        "B of the paper",
        ("swin-b", "swin-base", "swin3d_b", "swin_base"),
    ),
    _architecture(
        "swin_base_patch244_window1677",
        _swin(128, 18, 4, (16, 7, 7), 0.4),
        "B for Something-Something v2",
        ("swin-b-w16",),
        ONE_UNIFORM_CLIP,
    ),
    _architecture(
        "swin_base_patch244_window81212",
        _swin(128, 18, 4, (8, 12, 12), 0.3),
        "B at 384 px",
        ("swin-b-384",),
        preprocessing=Preprocessing(short_side=384, crop_size=384),
        note="Not in the paper; the target for inflating the 384 px image weights of B.",
    ),
    _architecture(
        "swin_large_patch244_window877",
        _swin(192, 18, 6, (8, 7, 7), 0.4),
        "L of the paper",
        ("swin-l", "swin-large", "swin_large"),
    ),
    _architecture(
        "swin_large_patch244_window81212",
        _swin(192, 18, 6, (8, 12, 12), 0.4),
        "L at 384 px of the paper",
        ("swin-l-384",),
        PAPER_384_SAMPLING,
        PAPER_384_PREPROCESSING,
        FIVE_CROPS_NOTE,
    ),
)

_BY_NAME = {card.name: card for card in ARCHITECTURES}


def bundle_for(
    architecture: str,
    name: str,
    label_set: str | None,
    num_classes: int,
    drop_path_rate: float | None = None,
    sampling: ClipSampling | None = None,
    preprocessing: Preprocessing | None = None,
) -> BundleConfig:
    """Returns the bundle of weights `name`: the architecture's, with the given overrides."""
    base = _BY_NAME[architecture].bundle
    model = dataclasses.replace(
        base.model,
        num_classes=num_classes,
        drop_path_rate=base.model.drop_path_rate if drop_path_rate is None else drop_path_rate,
    )
    return BundleConfig(
        model=model,
        sampling=sampling or base.sampling,
        preprocessing=preprocessing or base.preprocessing,
        labels=() if label_set is None else shipped_labels(label_set),
        name=name,
    )
