"""Which engine: what the machine has, what is installed, what the model is."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError

# Fastest first, as measured on a CPU (docs/performance.md).
_FASTEST_FIRST = ("openvino", "onnxruntime", "torch")
# What must be installed to run weights on an engine; exported models need the engine alone.
_NEEDED_FOR_WEIGHTS = {"onnxruntime": ("onnxruntime", "onnx", "onnxscript")}
PRECISIONS_OF = {
    "torch": ("f32", "bf16"),
    "torch-compile": ("f32", "bf16"),
    "openvino": ("f32", "bf16"),
    "onnxruntime": ("f32",),
}
WEIGHTS = "weights"  # what a model is that every engine can run, for messages
HOW_TO_INT8 = "videoswin export --format openvino --precision int8 --calibrate CLIPS"


@dataclass(frozen=True)
class Choice:
    """An engine, and for people why it was chosen and what else there is."""

    engine: str
    remark: str


def choose_engine(
    runtime: str, precision: str, device: str, possible: tuple[str, ...], what: str
) -> Choice:
    """The engine asked for, or the fastest one installed that can run the model.

    possible: the engines that can open the model; what: the model, for messages.
    Raises ConfigError where the choices contradict each other.
    """
    if runtime != "auto":
        if runtime not in possible:
            raise ConfigError(
                f"runtime is {runtime!r}, but {what} runs on {' or '.join(possible)} only; use "
                f"--runtime {possible[0]} or auto."
            )
        _require_cpu(runtime, device)
        return Choice(runtime, f"{runtime} was asked for. {_what_else(precision)}")
    if "torch" in possible and _wants_torch(device):
        return Choice("torch", "torch runs on the device asked for or found.")
    usable = [
        name for name in _FASTEST_FIRST if name in possible and precision in PRECISIONS_OF[name]
    ]
    installed = [name for name in usable if _is_installed(name, for_weights=what == WEIGHTS)]
    if not installed:  # opening it will say what to install
        return Choice((usable or list(possible))[0], "")
    _require_cpu(installed[0], device)
    missing = usable[: usable.index(installed[0])]
    why = f"{installed[0]} is the fastest engine installed for {what} on a CPU."
    if missing:
        why += f" Faster: pip install 'video-swin-transformer[{missing[0]}]'."
    return Choice(installed[0], f"{why} {_what_else(precision)}")


def _is_installed(engine: str, for_weights: bool) -> bool:
    needed = _NEEDED_FOR_WEIGHTS.get(engine, (engine,)) if for_weights else (engine,)
    return all(importlib.util.find_spec(name) is not None for name in needed)


def require_precision(engine: str, precision: str) -> None:
    """Raises ConfigError where an engine does not compute weights in a precision."""
    if precision == "int8":
        raise ConfigError(
            "precision is 'int8', but int8 is a property of an exported model, calibrated on "
            f"clips of yours: {HOW_TO_INT8}, then --model FILE.xml. Weights run in f32 or bf16."
        )
    if precision not in PRECISIONS_OF[engine]:
        others = " or ".join(name for name in _FASTEST_FIRST if precision in PRECISIONS_OF[name])
        raise ConfigError(
            f"precision is {precision!r}, but {engine} runs this model in "
            f"{' or '.join(PRECISIONS_OF[engine])} only; use --runtime {others} for it."
        )


def _require_cpu(engine: str, device: str) -> None:
    if not engine.startswith("torch") and device not in ("auto", "cpu"):
        raise ConfigError(
            f"device is {device!r}, but {engine} runs on the CPU here; use --device cpu, or "
            "--runtime torch."
        )


def _what_else(precision: str) -> str:
    if precision == "f32":
        return (
            "bf16 takes about 0.55 of the time where the CPU has it and moves logits by about 1 %; "
            f"int8 about 0.4, and more: {HOW_TO_INT8}."
        )
    return f"{precision} is another answer than f32, which is the exact one."


def _wants_torch(device: str) -> bool:
    """Whether the device is for torch to judge: any but the CPU, or a GPU that there may be."""
    if device == "cpu":
        return False
    if device != "auto":
        return True
    if not _may_have_gpu():  # importing torch takes seconds, so it is not asked for nothing
        return False
    if importlib.util.find_spec("torch") is None:
        return False
    from .torch_engine import choose_device

    return choose_device("auto").type != "cpu"


def _may_have_gpu() -> bool:
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if sys.platform == "win32":
        return Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32/nvcuda.dll").exists()
    return any(Path(node).exists() for node in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))
