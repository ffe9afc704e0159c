"""Selects a runtime by hardware, installed packages and model, and opens it."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from ..config import EXPORT_FORMATS, BundleConfig
from ..errors import ConfigError, UnknownNameError
from ..exporters.sidecar import FORMAT_RUNTIMES, ExportedModel, read_exported_model
from ..weights.resolve import ResolvedModel, resolve_model
from .lazy_model import LazyModel
from .protocol import Runtime
from .trial import require_runnable

RUNTIMES = ("auto", "torch", "openvino", "onnxruntime", "torch-compile")
MAX_THREADS = 1024
_WEIGHT_RUNTIMES = RUNTIMES[1:]
PRECISIONS = ("f32", "bf16", "int8")
PRECISIONS_OF = {
    "torch": ("f32", "bf16"),
    "torch-compile": ("f32", "bf16"),
    "openvino": ("f32", "bf16"),
    "onnxruntime": ("f32",),
}
# Fastest first, as measured on a CPU (docs/performance.md).
_BY_SPEED = ("openvino", "onnxruntime", "torch")
# Packages needed to run weights on a runtime; exported models need only the runtime.
_REQUIRED_PACKAGES = {"onnxruntime": ("onnxruntime", "onnx", "onnxscript")}
INT8_HINT = "videoswin export --format openvino --precision int8 --calibrate CLIPS"


def open_runtime(
    source: str | Path | ResolvedModel,
    runtime: str = "auto",
    precision: str = "f32",
    device: str = "auto",
    *,
    bundle: BundleConfig | None = None,
    threads: int | None = None,
) -> Runtime:
    """Opens a model.

    Args:
        source: A model name, folder or file, or an exported model.
        runtime: One of `RUNTIMES`. "auto" selects the fastest one installed, except
            "torch-compile", which takes a minute or more to start.
        precision: "f32" or "bf16"; bf16 results differ slightly. Exported int8 models always run
            in int8.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        bundle: Configuration to use instead of the model's own.
        threads: Number of CPU threads; None for the default of the runtime.

    Returns:
        The loaded model.

    Raises:
        ConfigError: The arguments contradict each other.
        CheckpointError: The weights cannot be found or read.
        MissingExtraError: The runtime is not installed.
        UnknownNameError: No runtime or model has this name.
    """
    if runtime not in RUNTIMES:
        raise UnknownNameError("runtime", runtime, RUNTIMES)
    if precision not in PRECISIONS:
        names = {"fp32": "f32", "float32": "f32", "fp16": "bf16", "f16": "bf16", "half": "bf16"}
        near = names.get(precision) or ("bf16" if "16" in precision else None)
        hint = f" Did you mean {near!r}?" if near else ""
        raise ConfigError(
            f"precision is {precision!r}, but must be one of {', '.join(PRECISIONS)}.{hint}"
        )
    if threads is not None:
        check_threads(threads)
    resolved = resolve_model(source)
    if resolved.path.suffix.lower() in EXPORT_FORMATS:  # needs no torch
        exported = read_exported_model(resolved.path)
        return _open_exported(exported, resolved, runtime, precision, device, threads)
    selected = select_runtime(runtime, precision, device, _WEIGHT_RUNTIMES)
    require_precision(selected.name, precision)
    opened = _open_weights(selected.name, resolved, bundle, precision, device, threads)
    opened.selection_reason = selected.reason
    return opened


def check_threads(threads: int) -> None:
    """Raises ConfigError for a number of threads that no CPU can use."""
    if not 1 <= threads <= MAX_THREADS:
        raise ConfigError(
            f"threads is {threads}, but must be from 1 to {MAX_THREADS}; more threads than cores "
            "are slower."
        )


def _open_weights(
    name: str,
    resolved: ResolvedModel,
    bundle: BundleConfig | None,
    precision: str,
    device: str,
    threads: int | None,
) -> Runtime:
    if name == "openvino":
        from .openvino_runtime import OpenVinoRuntime

        return OpenVinoRuntime(LazyModel(resolved, bundle), precision, threads)
    if name == "onnxruntime":
        from .onnx_runtime import OnnxRuntime

        return OnnxRuntime(LazyModel(resolved, bundle), threads)
    try:
        from ..weights.factory import load_model
        from .torch_runtime import TorchRuntime
    except ImportError as error:
        raise resolved.torch_missing(error) from error
    if name == "torch-compile":
        from .torch_compile_runtime import TorchCompileRuntime

        return TorchCompileRuntime(LazyModel(resolved, bundle), precision, device, threads)
    model = load_model(resolved, bundle)
    return TorchRuntime(model, model.bundle, precision, device, threads=threads)


def _open_exported(
    model: ExportedModel,
    resolved: ResolvedModel,
    runtime: str,
    precision: str,
    device: str,
    threads: int | None,
) -> Runtime:
    computed = precision
    if model.precision == "int8":
        if precision == "bf16":
            raise ConfigError(
                f"precision is 'bf16', but {str(model.path)!r} was exported in int8; use int8, or "
                "export the model in f32."
            )
        computed = "f32"  # for runtime selection
    selected = select_runtime(
        runtime, computed, device, FORMAT_RUNTIMES[model.format], model.format
    )
    if model.precision != "int8":
        require_precision(selected.name, precision)
        if selected.name == "torch" and precision != "f32":
            raise ConfigError(
                f"precision is {precision!r}, but an exported program computes in f32 as it was "
                "traced; use f32, or the weights themselves."
            )
    if selected.name != "torch":
        require_runnable(model, selected.name)
    opened = _open_exported_file(selected.name, model, resolved, device, threads)
    opened.selection_reason = selected.reason
    return opened


def _open_exported_file(
    name: str, model: ExportedModel, resolved: ResolvedModel, device: str, threads: int | None
) -> Runtime:
    if name == "openvino":
        from .openvino_runtime import OpenVinoRuntime

        return OpenVinoRuntime(model, model.precision, threads)
    if name == "onnxruntime":
        from .onnx_runtime import OnnxRuntime

        return OnnxRuntime(model, threads)
    try:
        from ..exporters.exported_program import read_program
        from .torch_runtime import TorchRuntime, max_batch_size
    except ImportError as error:
        raise resolved.torch_missing(error) from error
    program = read_program(model.path, model.clip_shape, max_batch_size(model.clip_shape))
    return TorchRuntime(program, model.bundle, model.precision, device, model.clip_shape, threads)


@dataclass(frozen=True)
class RuntimeSelection:
    """A runtime, and the reason why it was selected, for display."""

    name: str
    reason: str


def select_runtime(
    runtime: str,
    precision: str,
    device: str,
    possible: tuple[str, ...],
    export_format: str | None = None,
) -> RuntimeSelection:
    """Selects the requested runtime, or the fastest one installed that supports the model.

    Args:
        runtime: One of `RUNTIMES`.
        precision: "f32" or "bf16".
        device: See `open_runtime`.
        possible: The runtimes that support the model.
        export_format: Format of an exported model; None for weights.

    Returns:
        The selected runtime.

    Raises:
        ConfigError: The arguments contradict each other.
    """
    what = "weights" if export_format is None else f"an exported {export_format} model"
    if runtime != "auto":
        if runtime not in possible:
            raise ConfigError(
                f"runtime is {runtime!r}, but {what} supports only {' or '.join(possible)}; use "
                f"{possible[0]} or auto."
            )
        _require_cpu(runtime, device)
        return RuntimeSelection(runtime, f"{runtime} was requested. {_alternatives(precision)}")
    if "torch" in possible and _needs_torch(device):
        return RuntimeSelection("torch", "torch runs on the device requested or found.")
    usable = [n for n in _BY_SPEED if n in possible and precision in PRECISIONS_OF[n]]
    installed = [name for name in usable if _is_installed(name, for_weights=export_format is None)]
    if not installed:  # opening the runtime raises MissingExtraError
        return RuntimeSelection((usable or list(possible))[0], "")
    _require_cpu(installed[0], device)
    missing = usable[: usable.index(installed[0])]
    why = f"{installed[0]} is the fastest runtime installed for {what} on a CPU."
    if missing:
        why += f" Faster: pip install 'video-swin-transformer[{missing[0]}]'."
    return RuntimeSelection(installed[0], f"{why} {_alternatives(precision)}")


def _is_installed(name: str, for_weights: bool) -> bool:
    needed = _REQUIRED_PACKAGES.get(name, (name,)) if for_weights else (name,)
    return all(importlib.util.find_spec(package) is not None for package in needed)


def require_precision(name: str, precision: str) -> None:
    """Raises ConfigError if a runtime does not support a precision for weights."""
    if precision == "int8":
        raise ConfigError(
            "precision is 'int8', but weights run in f32 or bf16 only; int8 requires an exported "
            f"model calibrated on your clips: {INT8_HINT}, then use the .xml file as the model."
        )
    if precision not in PRECISIONS_OF[name]:
        others = " or ".join(other for other in _BY_SPEED if precision in PRECISIONS_OF[other])
        raise ConfigError(
            f"precision is {precision!r}, but {name} supports only "
            f"{' or '.join(PRECISIONS_OF[name])} for this model; use the runtime {others}."
        )


def _require_cpu(name: str, device: str) -> None:
    if not name.startswith("torch") and device not in ("auto", "cpu"):
        raise ConfigError(
            f"device is {device!r}, but {name} supports only the CPU; use device cpu or runtime "
            "torch."
        )


def _alternatives(precision: str) -> str:
    if precision == "f32":
        return (
            "bf16 takes about 0.55 of the time if the CPU supports it, and changes logits by about "
            f"1%; int8 takes about 0.4, with larger changes: {INT8_HINT}."
        )
    return f"{precision} results differ slightly from f32."


def _needs_torch(device: str) -> bool:
    """Whether the device requires torch: any device but the CPU."""
    if device == "cpu":
        return False
    if device != "auto":
        return True
    if not _may_have_gpu():  # avoids importing torch, which takes seconds
        return False
    if importlib.util.find_spec("torch") is None:
        return False
    from .torch_runtime import choose_device

    return choose_device("auto").type != "cpu"


def _may_have_gpu() -> bool:
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if sys.platform == "win32":
        return Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32/nvcuda.dll").exists()
    return any(Path(node).exists() for node in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))
