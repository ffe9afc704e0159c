"""Runs an exported model for the first time in a process of its own.

OpenVINO and ONNX Runtime are native code. A damaged or hostile model can end the process that opens
it (OpenVINO 2026.4 crashes on about one of twenty damaged graphs). So a file that this machine has
not run before is run once by a child process, which leaves the compiled model in the cache. The
result is stored by digest; a model is tried once.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from ..errors import CheckpointError
from ..exporters.sidecar import ExportedModel, read_exported_model
from .compile_cache import read_cached_text, write_cached_text

_MAX_SECONDS = 600  # compiling the largest models takes a minute
_PROGRAM = "from video_swin_transformer.runtimes.trial import main; main()"
_PASSED = "passed"


def require_runnable(model: ExportedModel, runtime: str) -> None:
    """Runs a model in a child process unless it has been run before.

    Args:
        model: The exported model.
        runtime: "openvino" or "onnxruntime".

    Raises:
        CheckpointError: The model cannot be run.
    """
    name = f"trial-{runtime}"
    if read_cached_text(model.digest, name) == _PASSED:
        return
    command = [sys.executable, "-c", _PROGRAM, runtime, str(model.path)]
    try:
        completed = subprocess.run(
            command,
            capture_output=True,
            timeout=_MAX_SECONDS,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        reason = f"it did not finish one clip within {_MAX_SECONDS} s"
    else:
        if completed.returncode == 0:
            write_cached_text(model.digest, name, _PASSED)
            return
        lines = [line for line in completed.stdout.splitlines() if line]
        reason = lines[-1] if lines else f"{runtime} crashed, with code {completed.returncode}"
    raise CheckpointError(f"{str(model.path)!r} cannot be run ({reason}); export it again.")


def main() -> None:
    """Runs the model that the command line names. The last line of stdout is the error."""
    runtime, path = sys.argv[1:]
    try:
        model = read_exported_model(path)
        views = np.zeros((1, *model.clip_shape), np.float32)
        if runtime == "openvino":
            from .openvino_runtime import OpenVinoRuntime

            OpenVinoRuntime(model, model.precision, None).run(views)
        else:
            from .onnx_runtime import OnnxRuntime

            OnnxRuntime(model, None).run(views)
    except Exception as error:  # native libraries raise many kinds
        lines = str(error).splitlines() or [""]
        text = " ".join(line.strip() for line in lines[:3])
        sys.stdout.buffer.write(f"{type(error).__name__}: {text}\n".encode("utf-8", "replace"))
        sys.exit(1)
