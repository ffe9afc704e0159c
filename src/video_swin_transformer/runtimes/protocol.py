"""What an engine promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..config import BundleConfig
from ..errors import ConfigError

Floats = npt.NDArray[np.float32]
ClipShape = tuple[int, int, int, int]  # channels, frames, height, width

# Part of the name of every compiled model on disk: raise it when graphs change.
GRAPH_VERSION = 1

# Relative error up to which a compiled model is taken for the network it was made from.
LARGEST_ERROR = {"f32": 1e-4, "bf16": 0.1}


class ViewOutputs(NamedTuple):
    """What the network says of V views."""

    logits: Floats  # (V, num_classes); (V, num_features) without a classifier
    features: Floats  # (V, num_features), mean over time and space


class Runtime(Protocol):
    """An opened model: its settings, and one call."""

    bundle: BundleConfig
    description: str  # engine, device and precision, for people
    remark: str  # why this engine, and what another choice would bring

    def run(self, views: Floats) -> ViewOutputs:
        """(V, C, T, H, W) float32 normalised views -> logits and features of each.

        Raises ConfigError for another shape than the model takes.
        """
        ...


def clip_shape_of(bundle: BundleConfig) -> ClipShape:
    """The shape of a clip that sampling and preprocessing give."""
    side = bundle.preprocessing.crop_size
    return bundle.model.in_chans, bundle.sampling.num_frames, side, side


def require_views(views: Floats, in_chans: int, only: ClipShape | None = None) -> ClipShape:
    """The clip shape of views that fit the model. Raises ConfigError, naming the axes.

    only: the one clip shape an exported model takes.
    """
    shape = views.shape
    if len(shape) != 5 or shape[1] != in_chans or 0 in shape:
        raise ConfigError(
            f"The views have shape {shape}, but must be (views, {in_chans} channels, frames, "
            "height, width), none of them empty."
        )
    if only is not None and shape[1:] != only:
        raise ConfigError(
            f"The views have shape {shape}, but this exported model takes (views, {only[0]} "
            f"channels, {only[1]} frames, {only[2]} height, {only[3]} width) alone; use its own "
            "sampling and crop size, or export the model for the other shape."
        )
    return shape[1], shape[2], shape[3], shape[4]


def relative_error(expected: Sequence[Floats], got: Sequence[Floats]) -> float:
    """The largest difference of any output, as a share of the largest value of that output."""
    errors = [np.abs(a - b).max() / np.abs(a).max() for a, b in zip(expected, got, strict=True)]
    return float(np.max(errors))  # NaN where anything is


def joined(parts: list[ViewOutputs]) -> ViewOutputs:
    """The outputs of consecutive pieces as one."""
    return ViewOutputs(
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.features for part in parts]),
    )
