"""Engines that run the network: one protocol, chosen by name.

An engine takes views as NumPy arrays and gives logits and pooled features as NumPy arrays, so
that nothing after it depends on which one ran. Weights run on every engine: they are traced and
compiled once, and kept on disk (`kept.py`). Exported models run without torch.
"""

from __future__ import annotations

from pathlib import Path

from ..config import BundleConfig
from ..errors import ConfigError, UnknownNameError
from .choice import WEIGHTS, choose_engine, require_precision
from .exported import ENGINES, ExportedModel, is_exported, read_exported
from .network import Network, require_torch
from .protocol import Runtime, ViewOutputs

RUNTIMES = ("auto", "torch", "openvino", "onnxruntime", "torch-compile")
PRECISIONS = ("f32", "bf16", "int8")

__all__ = ["PRECISIONS", "RUNTIMES", "Runtime", "ViewOutputs", "is_exported", "open_runtime"]


def open_runtime(
    source: str | Path,
    runtime: str = "auto",
    precision: str = "f32",
    device: str = "auto",
    bundle: BundleConfig | None = None,
    threads: int | None = None,
) -> Runtime:
    """The engine for a model given by name, folder or file, exported ones included.

    runtime: "auto" takes the fastest engine installed, and never "torch-compile", which takes a
    minute or more to start. precision: "f32" unless asked otherwise, since another precision is
    another answer; an exported int8 model is int8 either way. device: "auto", "cpu", "cuda",
    "cuda:1", "mps". bundle: the network and settings to use instead of those the file comes with.
    threads: None leaves their number to the engine.
    Raises ConfigError for choices that contradict each other, MissingExtraError,
    CheckpointError, UnknownNameError.
    """
    if runtime not in RUNTIMES:
        raise UnknownNameError("runtime", runtime, RUNTIMES)
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}, but must be one of {PRECISIONS}.")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}, but must be a positive whole number.")
    if is_exported(source):
        return _open_exported(read_exported(source), runtime, precision, device, threads)
    choice = choose_engine(runtime, precision, device, RUNTIMES[1:], WEIGHTS)
    require_precision(choice.engine, precision)
    opened = _open(choice.engine, Network(source, bundle), precision, device, threads)
    opened.remark = choice.remark
    return opened


def _open_exported(
    model: ExportedModel, runtime: str, precision: str, device: str, threads: int | None
) -> Runtime:
    what = f"an exported {model.format} model"
    computed = precision
    if model.precision == "int8":
        if precision == "bf16":
            raise ConfigError(
                f"precision is 'bf16', but {str(model.path)!r} was exported in int8; use "
                "--precision int8, or export it in f32."
            )
        computed = "f32"  # what chooses an engine
    choice = choose_engine(runtime, computed, device, ENGINES[model.format], what)
    if model.precision != "int8":
        require_precision(choice.engine, precision)
        if choice.engine == "torch" and precision != "f32":
            raise ConfigError(
                f"precision is {precision!r}, but an exported program computes in f32 as it was "
                "traced; use f32, or the weights themselves."
            )
    opened = _open(choice.engine, model, model.precision, device, threads)
    opened.remark = choice.remark
    return opened


def _open(
    engine: str,
    source: Network | ExportedModel,
    precision: str,
    device: str,
    threads: int | None,
) -> Runtime:
    if engine == "openvino":
        from .openvino_engine import OpenVinoRuntime

        return OpenVinoRuntime(source, precision, threads)
    if engine == "onnxruntime":
        from .onnxruntime_engine import OnnxRuntime

        return OnnxRuntime(source, threads)
    require_torch("this model")
    if engine == "torch-compile":
        from .compiled_engine import CompiledTorchRuntime

        assert isinstance(source, Network)  # no exported model offers this engine
        return CompiledTorchRuntime(source, precision, device, threads)
    from .torch_engine import TorchRuntime

    return TorchRuntime(source, precision, device, threads)
