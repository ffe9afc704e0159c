"""Weights of the official repository, and the best models of the paper, which are unreleased.

Seven files of SwinTransformer/storage, release v1.0.4. No checksums are published.
"""

from __future__ import annotations

from ..config import ClipSampling
from ..labels import find_label_set
from .architectures import FIVE_CROPS_NOTE, bundle_for
from .card import Accuracy, ModelCard, WeightsSource

_RELEASE = "https://github.com/SwinTransformer/storage/releases/download/v1.0.4"
_LICENSE_NOTE = "license of the official repository; no other terms are stated for the weights"
_IN1K, _IN22K = "ImageNet-1k", "ImageNet-22k"


def _card(
    architecture: str,
    label_set: str,
    suffix: str,
    aliases: tuple[str, ...],
    pretrained_on: str,
    accuracy: tuple[float, float | None] | None,
    *,
    drop_path_rate: float | None = None,
    sampling: ClipSampling | None = None,
    released: bool = True,
    summary: str = "",
    note: str = "",
) -> ModelCard:
    name, labels = f"{architecture}_{suffix}", find_label_set(label_set)
    bundle = bundle_for(architecture, name, label_set, labels.num_classes, drop_path_rate, sampling)
    views = f"{bundle.sampling.num_clips}x{bundle.preprocessing.num_crops}"
    measured = None
    if accuracy is not None:
        source = "official sampling" if released else "the paper"
        protocol = f"{labels.title} validation, {views} views, {source}"
        measured = Accuracy(accuracy[0], protocol, accuracy[1], views)
    return ModelCard(
        name=name,
        bundle=bundle,
        summary=summary or f"{labels.title}, official",
        kind="video",
        architecture=architecture,
        aliases=aliases,
        weights=WeightsSource(
            publisher="official repository" if released else "the paper",
            trained_on=f"{labels.title} (from {pretrained_on})",
            license="Apache-2.0" if released else "",
            license_note=_LICENSE_NOTE if released else "the weights were never released",
            accuracy=measured,
            url=f"{_RELEASE}/{name}.pth" if released else None,
        ),
        label_set=label_set,
        note=note,
    )


def _sampling_note(old: float, new: float) -> str:
    return (
        f"mmaction2 measured these weights on its own copy of the data: {old} with this sampling, "
        f"{new} with its own."
    )


OFFICIAL = (
    _card(
        "swin_tiny_patch244_window877",
        "kinetics400",
        "kinetics400_1k",
        ("swin-t-k400",),
        _IN1K,
        (78.8, 93.6),
        note=_sampling_note(78.46, 78.84),
    ),
    _card(
        "swin_small_patch244_window877",
        "kinetics400",
        "kinetics400_1k",
        ("swin-s-k400",),
        _IN1K,
        (80.6, 94.5),
        note=_sampling_note(80.23, 80.58),
    ),
    _card(
        "swin_base_patch244_window877",
        "kinetics400",
        "kinetics400_1k",
        ("swin-b-k400",),
        _IN1K,
        (80.6, 94.6),
        note=_sampling_note(80.27, 80.55),
    ),
    _card(
        "swin_base_patch244_window877",
        "kinetics400",
        "kinetics400_22k",
        ("swin-b-k400-22k",),
        _IN22K,
        (82.7, 95.5),
        drop_path_rate=0.2,
    ),
    _card(
        "swin_base_patch244_window877",
        "kinetics600",
        "kinetics600_22k",
        ("swin-b-k600",),
        _IN22K,
        (84.0, 96.5),
        drop_path_rate=0.2,
    ),
    _card(
        "swin_base_patch244_window1677",
        "sthv2",
        "sthv2",
        ("swin-b-ssv2", "swin-b-sthv2"),
        "swin_base_patch244_window1677_kinetics400_22k",
        (69.6, 92.7),
        summary="Something-Something v2",
    ),
    _card(
        "swin_base_patch244_window1677",
        "kinetics400",
        "kinetics400_22k",
        ("swin-b-w16-k400",),
        _IN22K,
        None,
        sampling=ClipSampling(),
        summary="initialization for SSv2",
        note="Published as the initialization for Something-Something v2, without an accuracy.",
    ),
)

UNRELEASED = (
    _card(
        "swin_large_patch244_window81212",
        "kinetics400",
        "kinetics400_22k",
        ("swin-l-384-k400",),
        _IN22K,
        (84.9, 96.7),
        released=False,
        summary="Kinetics-400, paper's best",
        note=FIVE_CROPS_NOTE,
    ),
    _card(
        "swin_large_patch244_window81212",
        "kinetics600",
        "kinetics600_22k",
        ("swin-l-384-k600",),
        _IN22K,
        (86.1, None),
        released=False,
        summary="Kinetics-600, paper's best",
        note=FIVE_CROPS_NOTE,
    ),
)
