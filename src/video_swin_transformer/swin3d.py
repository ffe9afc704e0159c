"""The names of torchvision's `swin3d` models, for programs that use them.

>>> from video_swin_transformer.swin3d import Swin3D_T_Weights, swin3d_t
>>> weights = Swin3D_T_Weights.KINETICS400_V1
>>> len(weights.meta["categories"])
400

torchvision itself is not needed.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import CheckpointError, ConfigError
from .model import VideoSwinTransformer
from .registry import ModelCard, find_card
from .weights import create_model
from .weights.key_mapping import TORCHVISION, convert
from .weights.writers import torchvision_state_dict

__all__ = [
    "Swin3D_B_Weights",
    "Swin3D_S_Weights",
    "Swin3D_T_Weights",
    "VideoClassification",
    "from_torchvision",
    "swin3d_b",
    "swin3d_s",
    "swin3d_t",
    "to_torchvision",
]


class VideoClassification(nn.Module):
    """torchvision's transforms of video frames, with equal results.

    Resizes the short side (bilinear, without antialiasing), crops the center and normalizes.

    Args:
        crop_size: Side of the square crop.
        resize_size: Short side before the crop, at least `crop_size`.
        mean: Per channel, for values in 0..1.
        std: Per channel, for values in 0..1.
    """

    def __init__(
        self, crop_size: int, resize_size: int, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        if not 0 < crop_size <= resize_size:
            raise ConfigError(
                f"crop_size is {crop_size}, but must be from 1 to resize_size ({resize_size})."
            )
        self.crop_size, self.resize_size = crop_size, resize_size
        self.mean, self.std = mean, std

    def forward(self, vid: Tensor) -> Tensor:
        """Frames to model inputs.

        Args:
            vid: (B, T, C, H, W) or (T, C, H, W), RGB: uint8 in 0..255 or float in 0..1.

        Returns:
            (B, C, T, H', W') or (C, T, H', W') float32, normalized.
        """
        if vid.ndim not in (4, 5) or not (vid.dtype == torch.uint8 or vid.is_floating_point()):
            raise ConfigError(
                f"The frames are {vid.dtype} of shape {tuple(vid.shape)}, but must be uint8 or "
                "float of shape (batch, frames, channels, height, width), or without batch."
            )
        frames = vid.reshape(-1, *vid.shape[-3:])
        height, width = frames.shape[-2:]
        short = min(height, width)
        if short != self.resize_size:
            size = [self.resize_size * height // short, self.resize_size * width // short]
            resized = F.interpolate(frames.float(), size=size, mode="bilinear")
            frames = resized if vid.is_floating_point() else resized.round().to(torch.uint8)
        height, width = frames.shape[-2:]
        top = round((height - self.crop_size) / 2)
        left = round((width - self.crop_size) / 2)
        frames = frames[..., top : top + self.crop_size, left : left + self.crop_size]
        pixels = frames.float() if vid.is_floating_point() else frames.float() / 255
        mean, std = (pixels.new_tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return ((pixels - mean) / std).view(*vid.shape[:-2], *pixels.shape[-2:]).transpose(-4, -3)

    def extra_repr(self) -> str:
        return (
            f"crop_size={self.crop_size}, resize_size={self.resize_size}, mean={self.mean}, "
            f"std={self.std}"
        )


class _Weights(enum.Enum):
    """Published weights; the value is the name of their model card."""

    @property
    def card(self) -> ModelCard:
        """The model card."""
        return find_card(self.value)

    @property
    def url(self) -> str | None:
        """Where the file is published."""
        return None if self.card.weights is None else self.card.weights.url

    @property
    def meta(self) -> dict[str, Any]:
        """Categories, number of parameters and accuracy, with torchvision's keys."""
        card, weights = self.card, self.card.weights
        accuracy = None if weights is None else weights.accuracy
        metrics = {} if accuracy is None else {"acc@1": accuracy.top1, "acc@5": accuracy.top5}
        return {
            "categories": list(card.bundle.labels),
            "num_params": card.bundle.model.num_params,
            "min_size": (1, 1),
            "min_temporal_size": 1,
            "_metrics": {"Kinetics-400": metrics},
        }

    def transforms(self) -> VideoClassification:
        """The transforms the weights were evaluated with."""
        p = self.card.bundle.preprocessing
        mean = tuple(round(value / 255, 6) for value in p.mean)
        return VideoClassification(
            p.crop_size, p.short_side, mean, tuple(round(value / 255, 6) for value in p.std)
        )


class Swin3D_T_Weights(_Weights):  # noqa: N801
    """Weights of `swin3d_t`."""

    KINETICS400_V1 = "Swin3D_T_Weights.KINETICS400_V1"
    DEFAULT = KINETICS400_V1


class Swin3D_S_Weights(_Weights):  # noqa: N801
    """Weights of `swin3d_s`."""

    KINETICS400_V1 = "Swin3D_S_Weights.KINETICS400_V1"
    DEFAULT = KINETICS400_V1


class Swin3D_B_Weights(_Weights):  # noqa: N801
    """Weights of `swin3d_b`."""

    KINETICS400_V1 = "Swin3D_B_Weights.KINETICS400_V1"
    KINETICS400_IMAGENET22K_V1 = "Swin3D_B_Weights.KINETICS400_IMAGENET22K_V1"
    DEFAULT = KINETICS400_V1


W = TypeVar("W", bound=_Weights)


def swin3d_t(
    *, weights: Swin3D_T_Weights | str | None = None, num_classes: int | None = None
) -> VideoSwinTransformer:
    """Swin-T, in training mode.

    Args:
        weights: A member of `Swin3D_T_Weights` or its name, downloaded if necessary; None
            initializes at random.
        num_classes: Number of classes, if not 400.
    """
    return _build("swin3d_t", Swin3D_T_Weights, weights, num_classes)


def swin3d_s(
    *, weights: Swin3D_S_Weights | str | None = None, num_classes: int | None = None
) -> VideoSwinTransformer:
    """Swin-S; see `swin3d_t`."""
    return _build("swin3d_s", Swin3D_S_Weights, weights, num_classes)


def swin3d_b(
    *, weights: Swin3D_B_Weights | str | None = None, num_classes: int | None = None
) -> VideoSwinTransformer:
    """Swin-B; see `swin3d_t`."""
    return _build("swin3d_b", Swin3D_B_Weights, weights, num_classes)


def _build(
    name: str, kind: type[W], weights: W | str | None, num_classes: int | None
) -> VideoSwinTransformer:
    if weights is None:
        return create_model(name, num_classes=num_classes)
    member = (
        kind.__members__.get(weights.rpartition(".")[2]) if isinstance(weights, str) else weights
    )
    if not isinstance(member, kind):
        raise ConfigError(
            f"weights is {weights!r}, but must be one of {', '.join(kind.__members__)} of "
            f"{kind.__name__}, or None."
        )
    return create_model(member.value, pretrained=True, num_classes=num_classes).train()


def to_torchvision(model: VideoSwinTransformer) -> OrderedDict[str, Tensor]:
    """The model's weights for a strict `load_state_dict` of torchvision's `swin3d_*`.

    Raises:
        CheckpointError: torchvision has no such network.
    """
    return torchvision_state_dict(model)


def from_torchvision(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of torchvision's `swin3d_*` for a strict `VideoSwinTransformer.load_state_dict`.

    Raises:
        CheckpointError: A name is not one of torchvision's.
    """
    named = convert(TORCHVISION, state_dict)
    if named.unexpected or not named.tensors:
        raise CheckpointError(
            f"The state dict is not of torchvision's swin3d: {len(named.unexpected)} of "
            f"{len(state_dict)} names are unknown, such as {', '.join(named.unexpected[:3])}. For "
            "files use load_checkpoint, which recognizes the format."
        )
    return dict(named.tensors)
