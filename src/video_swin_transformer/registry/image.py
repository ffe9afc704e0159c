"""Weights of the image Swin Transformer, which published video models were initialized from.

Files of SwinTransformer/storage, as listed in microsoft/Swin-Transformer.
"""

from __future__ import annotations

from ..config import ClipSampling, Preprocessing
from .architectures import bundle_for
from .card import Accuracy, ModelCard, WeightsSource

_STORAGE = "https://github.com/SwinTransformer/storage/releases/download"
_TRAINED_ON = {
    "": "ImageNet-1k",
    "_22k": "ImageNet-22k",
    "_22kto1k": "ImageNet-1k (from ImageNet-22k)",
}


def _card(
    size: str,
    window: int,
    suffix: str = "",
    accuracy: tuple[float, float] | None = None,
    release: str = "v1.0.0",
) -> ModelCard:
    pixels = 224 if window == 7 else 384
    name = f"swin_{size}_patch4_window{window}_{pixels}{suffix}"
    architecture = f"swin_{size}_patch244_window8{window}{window}"
    measured = None
    if accuracy is not None:
        protocol = f"ImageNet-1k validation, images of {pixels} px, before inflation"
        measured = Accuracy(accuracy[0], protocol, accuracy[1])
    return ModelCard(
        name=name,
        bundle=bundle_for(
            architecture,
            name,
            None,
            0,
            sampling=ClipSampling(),
            preprocessing=Preprocessing(short_side=pixels, crop_size=pixels),
        ),
        summary=f"image weights, {_TRAINED_ON[suffix].partition(' ')[0]}",
        kind="image",
        architecture=architecture,
        weights=WeightsSource(
            publisher="microsoft/Swin-Transformer",
            trained_on=_TRAINED_ON[suffix],
            license="MIT",
            license_note="license of microsoft/Swin-Transformer; no other terms are stated for "
            "the weights",
            accuracy=measured,
            url=f"{_STORAGE}/{release}/{name}.pth",
        ),
        note="2D weights for fine-tuning: inflated to 3D, without a classifier.",
    )


IMAGE = (
    _card("tiny", 7, accuracy=(81.2, 95.5)),
    _card("small", 7, accuracy=(83.2, 96.2)),
    _card("base", 7, accuracy=(83.5, 96.5)),
    _card("base", 12, accuracy=(84.5, 97.0)),
    _card("tiny", 7, "_22k", release="v1.0.8"),
    _card("small", 7, "_22k", release="v1.0.8"),
    _card("base", 7, "_22k"),
    _card("large", 7, "_22k"),
    _card("base", 12, "_22k"),
    _card("large", 12, "_22k"),
    _card("base", 7, "_22kto1k", (85.2, 97.5)),
    _card("large", 7, "_22kto1k", (86.3, 97.9)),
    _card("base", 12, "_22kto1k", (86.4, 98.0)),
    _card("large", 12, "_22kto1k", (87.3, 98.2)),
)
