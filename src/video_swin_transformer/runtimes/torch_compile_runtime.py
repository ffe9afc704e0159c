"""torch.compile: the network as code made for one clip shape. Slow to start, never taken by auto.

What is compiled is the traced network (`graphs.trace`), not the modules themselves: the trace
holds its window plans as constants, so that nothing of Python's state is looked up again at each
pass, and another shape does not undo the first one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..config import ClipShape
from ..errors import RuntimeMismatchError
from ..exporters.tracing import example_outputs, trace
from ..postprocess import Floats, ViewOutputs
from ..preprocess import check_views
from ..verification import MAX_RELATIVE_ERROR, relative_error
from .lazy_model import LazyModel
from .torch_runtime import choose_device

_log = logging.getLogger(__name__)


class TorchCompileRuntime:
    """See `runtimes.Runtime`. One view at a time: each size of batch would be compiled anew."""

    selection_reason = ""

    def __init__(self, source: LazyModel, precision: str, device: str) -> None:
        self.device = choose_device(device)
        self._precision = precision
        self._source = source
        self.bundle = source.bundle
        self.description = f"torch-compile {torch.__version__} on {self.device}, {precision}"
        self._compiled: dict[ClipShape, Callable[[Tensor], tuple[Tensor, Tensor]]] = {}
        self._compile(self.bundle.clip_shape)

    def run(self, views: Floats) -> ViewOutputs:
        shape = check_views(views, self.bundle.model.in_chans)
        if shape not in self._compiled:
            self._compile(shape)
        return ViewOutputs.concatenate(
            [self._forward(shape, views[i : i + 1]) for i in range(len(views))]
        )

    @torch.inference_mode()
    def _forward(self, shape: ClipShape, view: Floats) -> ViewOutputs:
        x = torch.from_numpy(view.copy()).to(self.device)  # other strides would be compiled anew
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._precision == "bf16"):
            logits, features = self._compiled[shape](x)
        return ViewOutputs(logits.float().cpu().numpy(), features.float().cpu().numpy())

    def _compile(self, shape: ClipShape) -> None:
        """Compiles for a clip shape and compares with the network. Raises RuntimeMismatchError."""
        model = self._source.build()
        program = trace(model, shape, any_batch=False)
        if self.device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, self.device)
        view, expected = example_outputs(model, shape)
        _log.warning(
            "Compiling the network for clips of %s: a minute or more, the next time less.",
            "x".join(map(str, shape)),
        )
        try:
            with _quiet():
                self._compiled[shape] = torch.compile(
                    program.module(), fullgraph=True, dynamic=False
                )
                got = self._forward(shape, view)
        except Exception as error:  # compilers and what drives them raise what they like
            self._compiled.pop(shape, None)
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise RuntimeMismatchError(
                f"torch.compile cannot compile the network here ({reason}). It needs a C++ "
                "compiler, such as g++, which CXX may name; or use --runtime torch."
            ) from error
        if not relative_error(expected, got) <= MAX_RELATIVE_ERROR[self._precision]:
            del self._compiled[shape]
            raise RuntimeMismatchError(
                f"torch.compile computes something else than the network for clips of {shape}; "
                "use --runtime torch, and report it."
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """The compiler's front end tells of GPUs that it does not find."""
    log = logging.getLogger("torch.utils.cpp_extension")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
