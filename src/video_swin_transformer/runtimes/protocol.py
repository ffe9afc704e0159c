"""What an engine promises."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..config import BundleConfig


class ViewOutputs(NamedTuple):
    """What the network says of V views."""

    logits: npt.NDArray[np.float32]  # (V, num_classes); (V, num_features) without a classifier
    features: npt.NDArray[np.float32]  # (V, num_features), mean over time and space


class Runtime(Protocol):
    """An opened model: its settings, and one call."""

    bundle: BundleConfig
    description: str  # engine, device and precision, for people

    def run(self, views: npt.NDArray[np.float32]) -> ViewOutputs:
        """(V, C, T, H, W) float32 normalised views -> logits and features of each."""
        ...
