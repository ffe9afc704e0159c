"""Weights published by torchvision: the official ones with renamed keys, evaluated differently."""

from __future__ import annotations

from ..config import ClipSampling, Preprocessing
from .architectures import bundle_for
from .card import Accuracy, ModelCard, WeightsSource

_NOTE = (
    "The official weights with renamed keys. torchvision resamples videos to exactly 15 frames per "
    "second (here: every round(fps / 15)th frame), rounds clip starts down (here: to nearest), "
    "truncates the resized long side (here: rounds it) and skips videos shorter than a clip (here: "
    "they are looped)."
)
# 12 clips from the first to the last possible start; 32 frames at 15 fps.
_SAMPLING = ClipSampling(num_clips=12, rule="mmaction2", stride_seconds=1 / 15)
_PREPROCESSING = Preprocessing(short_side=256, crop_size=224, num_crops=1)


def _card(
    enum_name: str,
    size: str,
    aliases: tuple[str, ...],
    pretrained_on: str,
    file: str,
    accuracy: tuple[float, float],
    drop_path_rate: float | None = None,
) -> ModelCard:
    architecture = f"swin_{size}_patch244_window877"
    return ModelCard(
        name=enum_name,
        bundle=bundle_for(
            architecture,
            enum_name,
            "kinetics400",
            400,
            drop_path_rate,
            _SAMPLING,
            _PREPROCESSING,
        ),
        summary="Kinetics-400, torchvision",
        kind="video",
        architecture=architecture,
        aliases=aliases,
        weights=WeightsSource(
            publisher="torchvision",
            trained_on=f"Kinetics-400 (from {pretrained_on})",
            license="BSD-3-Clause",
            license_note="license of torchvision's code; no other terms are stated for the weights",
            accuracy=Accuracy(
                accuracy[0],
                "Kinetics-400 validation, 12x1 views, 15 fps, torchvision sampling",
                accuracy[1],
                "12x1",
            ),
            url=f"https://download.pytorch.org/models/{file}.pth",
            sha256_prefix=file.rpartition("-")[2],
        ),
        label_set="kinetics400",
        note=_NOTE,
    )


TORCHVISION = (
    _card(
        "Swin3D_T_Weights.KINETICS400_V1", "tiny", ("swin-t-k400-torchvision",),
        "ImageNet-1k", "swin3d_t-7615ae03", (77.715, 93.519),
    ),
    _card(
        "Swin3D_S_Weights.KINETICS400_V1", "small", ("swin-s-k400-torchvision",),
        "ImageNet-1k", "swin3d_s-da41c237", (79.521, 94.158),
    ),
    _card(
        "Swin3D_B_Weights.KINETICS400_V1", "base", ("swin-b-k400-torchvision",),
        "ImageNet-1k", "swin3d_b_1k-24f7c7c6", (79.427, 94.386),
    ),
    _card(
        "Swin3D_B_Weights.KINETICS400_IMAGENET22K_V1", "base", ("swin-b-k400-22k-torchvision",),
        "ImageNet-22k", "swin3d_b_22k-7c6ae6fa", (81.643, 95.574), 0.2,
    ),
)  # fmt: skip
