"""torch.compile, specialized for one clip shape. Slow to start; never selected by "auto".

The traced model (`tracing.trace`) is compiled instead of the module. Its window plans are
constants, so there are no guards on Python state, and different shapes do not cause recompilation.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..config import ClipShape
from ..errors import RuntimeMismatchError
from ..exporters.tracing import example_outputs, trace
from ..postprocess import Floats, ViewOutputs
from ..preprocess import check_views
from ..verification import MAX_RELATIVE_ERROR, relative_error
from .cuda_graphs import Forward
from .lazy_model import LazyModel
from .protocol import RuntimeInfo
from .shape_cache import ShapeCache
from .torch_runtime import choose_device, set_num_threads

_log = logging.getLogger(__name__)


class TorchCompileRuntime:
    """Runs weights with torch.compile; see `Runtime`.

    Views are run one by one, since each batch size would be compiled separately.

    Args:
        source: The weights.
        precision: "f32" or "bf16" (autocast).
        device: See `choose_device`.
        threads: Number of CPU threads; None for torch's default.

    Raises:
        ConfigError: The device is not available.
        RuntimeMismatchError: Compilation fails, or its outputs differ from the eager model.
    """

    selection_reason = ""

    def __init__(self, source: LazyModel, precision: str, device: str, threads: int | None) -> None:
        self.device = choose_device(device)
        self._threads = threads
        set_num_threads(threads)
        self._precision = precision
        self._source = source
        self.bundle = source.bundle
        self.info = RuntimeInfo("torch-compile", torch.__version__, str(self.device), precision)
        self.description = str(self.info)
        self._compiled = ShapeCache(self._compile, max_entries=None)
        self._compiled.get(self.bundle.clip_shape)

    def run(self, views: Floats) -> ViewOutputs:
        """Runs the model; see `Runtime.run`."""
        shape = check_views(views, self.bundle.model.in_chans)
        set_num_threads(self._threads)
        compiled = self._compiled.get(shape)
        outputs = [self._forward(compiled, views[i : i + 1]) for i in range(len(views))]
        return ViewOutputs.concatenate(outputs)

    @torch.inference_mode()
    def _forward(self, compiled: Forward, view: Floats) -> ViewOutputs:
        # A view with different strides would cause recompilation, so it is copied.
        x = torch.from_numpy(view.copy()).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._precision == "bf16"):
            logits, features = compiled(x)
        return ViewOutputs(logits.float().cpu().numpy(), features.float().cpu().numpy())

    def _compile(self, shape: ClipShape) -> Forward:
        """Compiles the model for a clip shape. Raises RuntimeMismatchError."""
        model = self._source.build()
        program = trace(model, shape, dynamic_batch=False)
        if self.device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            # The exported program compares devices by name, so the index is needed: cuda:0.
            device = torch.empty(0, device=self.device).device
            program = move_to_device_pass(program, device)
        view, expected = example_outputs(model, shape)
        _log.info(
            "Compiling the model for clips of shape %s (may take a minute or more).",
            "x".join(map(str, shape)),
        )
        try:
            with _quiet():
                compiled: Forward = torch.compile(program.module(), fullgraph=True, dynamic=False)
                got = self._forward(compiled, view)
        except Exception as error:  # compilers raise many types of exceptions
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise RuntimeMismatchError(
                f"torch.compile failed ({reason}). It requires a C++ compiler, such as g++ (set "
                "CXX to select one); or use the runtime torch."
            ) from error
        if not relative_error(expected, got) <= MAX_RELATIVE_ERROR[self._precision]:
            raise RuntimeMismatchError(
                f"The outputs of torch.compile differ from the eager model for clips of shape "
                f"{shape}; use the runtime torch, and please report this."
            )
        return compiled


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the compiler's messages about missing GPUs."""
    log = logging.getLogger("torch.utils.cpp_extension")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
