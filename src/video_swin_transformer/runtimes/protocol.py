"""What every runtime offers."""

from __future__ import annotations

from typing import Protocol

from ..config import BundleConfig
from ..postprocess import Floats, ViewOutputs

# Part of the name of every compiled model on disk: raise it when graphs change.
GRAPH_VERSION = 1


class Runtime(Protocol):
    """An opened model: its settings, and one call.

    Any number of threads may call `run` at the same time; each gets the results that it would get
    alone, to the bit. The calls share the runtime's CPU threads, so several at once take about as
    long as one after the other. The number of threads given to `open_runtime` applies to this
    model only with OpenVINO and ONNX Runtime, and to the whole process with torch.

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
