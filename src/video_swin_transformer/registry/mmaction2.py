"""Weights published by mmaction2 1.x, evaluated with its own sampling."""

from __future__ import annotations

from ..config import ClipSampling
from ..labels import find_label_set
from .architectures import bundle_for
from .card import Accuracy, ModelCard, WeightsSource

_FOLDER = "https://download.openmmlab.com/mmaction/v1.0/recognition/swin"
_PRETRAINING_DATASETS = {"in1k": "ImageNet-1k", "in22k": "ImageNet-22k"}


def _card(
    size: str,
    pretrained_on: str,
    recipe: str,
    label_set: str,
    aliases: tuple[str, ...],
    date: str,
    sha256_prefix: str,
    accuracy: tuple[float, float],
    drop_path_rate: float,
) -> ModelCard:
    name = f"swin-{size}-p244-w877_{pretrained_on}-pre_{recipe}-amp-32x2x1-30e_{label_set}-rgb"
    architecture = f"swin_{size}_patch244_window877"
    labels = find_label_set(label_set)
    return ModelCard(
        name=name,
        bundle=bundle_for(
            architecture,
            name,
            label_set,
            labels.num_classes,
            drop_path_rate,
            ClipSampling(rule="mmaction2"),
        ),
        summary=f"{labels.title}, mmaction2",
        kind="video",
        architecture=architecture,
        aliases=aliases,
        weights=WeightsSource(
            publisher="mmaction2",
            trained_on=f"{labels.title} (from {_PRETRAINING_DATASETS[pretrained_on]})",
            license="Apache-2.0",
            license_note="license of mmaction2; no other terms are stated for the weights",
            accuracy=Accuracy(
                accuracy[0],
                f"{labels.title} validation, 4x3 views, mmaction2 sampling",
                accuracy[1],
                "4x3",
            ),
            url=f"{_FOLDER}/{name}/{name}_{date}-{sha256_prefix}.pth",
            sha256_prefix=sha256_prefix,
        ),
        label_set=label_set,
        note="mmaction2 evaluated on videos resized to a short side of 320 pixels beforehand.",
    )


_K400 = ("8xb8", "kinetics400")

MMACTION2 = (
    _card(
        "tiny", "in1k", *_K400, ("swin-t-k400-mmaction2",),
        "20220930", "241016b2", (78.90, 93.77), 0.1,
    ),
    _card(
        "small", "in1k", *_K400, ("swin-s-k400-mmaction2",),
        "20220930", "e91ab986", (80.54, 94.46), 0.2,
    ),
    _card(
        "base", "in1k", *_K400, ("swin-b-k400-mmaction2",),
        "20220930", "182ec6cc", (80.57, 94.49), 0.3,
    ),
    _card(
        "large", "in22k", *_K400, ("swin-l-k400", "swin-l-k400-mmaction2"),
        "20220930", "78ad8b11", (83.46, 95.91), 0.4,
    ),
    _card(
        "large", "in22k", "16xb8", "kinetics700", ("swin-l-k700", "swin-l-k700-mmaction2"),
        "20220930", "f8d74db7", (75.92, 92.72), 0.4,
    ),
    _card(
        "small", "in1k", "32xb4", "kinetics710", ("swin-s-k710", "swin-s-k710-mmaction2"),
        "20230612", "8e082ff1", (76.90, 92.96), 0.2,
    ),
)  # fmt: skip
