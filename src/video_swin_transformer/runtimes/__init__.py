"""Engines that run the network: one protocol, chosen by name.

An engine takes views as NumPy arrays and gives logits and pooled features as NumPy arrays, so
that nothing after it depends on which one ran.
"""

from __future__ import annotations

from pathlib import Path

from ..config import BundleConfig
from ..errors import ConfigError, UnknownNameError
from .protocol import Runtime, ViewOutputs

RUNTIMES = ("auto", "torch")
PRECISIONS = ("f32", "bf16")

__all__ = ["PRECISIONS", "RUNTIMES", "Runtime", "ViewOutputs", "open_runtime"]


def open_runtime(
    source: str | Path,
    runtime: str = "auto",
    precision: str = "f32",
    device: str = "auto",
    bundle: BundleConfig | None = None,
) -> Runtime:
    """The engine for a model given by name, folder or file.

    runtime: "auto" takes the fastest engine installed. precision: "f32" unless asked otherwise,
    since another precision is another answer. device: "auto", "cpu", "cuda", "cuda:1", "mps".
    bundle: the network and settings to use instead of those the file comes with.
    """
    if runtime not in RUNTIMES:
        raise UnknownNameError("runtime", runtime, RUNTIMES)
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}, but must be one of {PRECISIONS}.")
    from .torch_engine import TorchRuntime

    return TorchRuntime(source, precision, device, bundle)
