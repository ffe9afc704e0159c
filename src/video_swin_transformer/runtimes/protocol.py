"""The interface of all runtimes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..config import BundleConfig
from ..postprocess import Floats, ViewOutputs

# Part of the file names in the compile cache; increment it when traced graphs change.
GRAPH_VERSION = 1


@dataclass(frozen=True)
class RuntimeInfo:
    """What a runtime computes with.

    Attributes:
        name: "torch", "openvino", "onnxruntime" or "torch-compile".
        version: Version of its library.
        device: Where it runs, such as "cpu" or "cuda".
        precision: "f32", "bf16" or "int8".
    """

    name: str
    version: str
    device: str
    precision: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} on {self.device}, {self.precision}"


class Runtime(Protocol):
    """A loaded model.

    `run` is thread-safe, and concurrent calls return bit-identical results. They share the CPU
    threads of the runtime, so concurrency does not increase throughput. With OpenVINO and ONNX
    Runtime, the number of threads given to `open_runtime` applies to this model; with torch, it
    applies to the whole process.

    Attributes:
        bundle: Model, sampling, preprocessing and labels.
        info: Runtime, device and precision.
        description: Runtime, device and precision, for display.
        selection_reason: Why this runtime was selected, and the alternatives, for display.
    """

    bundle: BundleConfig
    info: RuntimeInfo
    description: str
    selection_reason: str

    def run(self, views: Floats) -> ViewOutputs:
        """Runs the model.

        Args:
            views: (V, C, T, H, W) float32, normalized.

        Returns:
            Logits and features of each view.

        Raises:
            ConfigError: The model does not support views of this shape.
        """
        ...
