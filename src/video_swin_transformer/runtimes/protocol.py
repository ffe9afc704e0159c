"""What every runtime offers."""

from __future__ import annotations

from typing import Protocol

from ..config import BundleConfig, ClipShape
from ..errors import ConfigError
from ..postprocess import Floats, ViewOutputs

# Part of the name of every compiled model on disk: raise it when graphs change.
GRAPH_VERSION = 1


class Runtime(Protocol):
    """An opened model: its settings, and one call.

    Attributes:
        bundle: network, sampling, preprocessing and labels.
        description: runtime, device and precision, for people.
        selection_reason: why this runtime was chosen, and what another would bring.
    """

    bundle: BundleConfig
    description: str
    selection_reason: str

    def run(self, views: Floats) -> ViewOutputs:
        """Runs the network.

        Args:
            views: (V, C, T, H, W) float32, normalized.

        Returns:
            Logits and features of each view.

        Raises:
            ConfigError: the model does not take views of this shape.
        """
        ...


def check_views(views: Floats, in_chans: int, only: ClipShape | None = None) -> ClipShape:
    """The clip shape of views that fit the model.

    Args:
        views: the views to check.
        in_chans: channels of the model.
        only: the one clip shape that an exported model accepts.

    Raises:
        ConfigError: the shape does not fit; the message names the axes.
    """
    shape = views.shape
    if len(shape) != 5 or shape[1] != in_chans or 0 in shape:
        raise ConfigError(
            f"The views have shape {shape}, but must be (views, {in_chans} channels, frames, "
            "height, width), with no empty axis."
        )
    if only is not None and shape[1:] != only:
        raise ConfigError(
            f"The views have shape {shape}, but this exported model takes (views, {only[0]} "
            f"channels, {only[1]} frames, {only[2]} height, {only[3]} width) only; use its own "
            "sampling and crop size, or export the model for the other shape."
        )
    return shape[1], shape[2], shape[3], shape[4]
