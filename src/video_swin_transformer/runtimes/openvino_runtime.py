"""OpenVINO on the CPU: the fastest runtime there; needs no torch once a model is compiled."""

from __future__ import annotations

import functools
import hashlib
import io
import logging
import queue
from typing import Any

from ..config import ClipShape
from ..errors import CheckpointError, ConfigError, RuntimeMismatchError
from ..exporters.openvino_model import import_openvino, openvino_graph
from ..exporters.sidecar import ExportedModel
from ..postprocess import Floats, ViewOutputs
from ..preprocess import check_views
from ..verification import MAX_RELATIVE_ERROR, relative_error
from .compile_cache import load_or_compile
from .lazy_model import LazyModel
from .protocol import GRAPH_VERSION
from .shape_cache import ShapeCache

# OpenVINO fuses attention into code generated for the shape ("snippets"). 2026.4 computes regions
# of 2 to 4 tokens wrong, some of them only sometimes; from 8 on it is correct (docs/lab-notes.md).
# So smaller ones are compiled without the fusion, and every compiled model is compared with the
# network before it is cached.
_MIN_FUSED_TOKENS = 8
_FUSED: dict[bytes, dict[str, Any]] = {b"1": {}, b"0": {"SNIPPETS_MODE": "DISABLE"}}

# Compiled models held in memory: whole frames have as many shapes as videos have aspect ratios, and
# each compiled model holds a copy of the weights.
_MAX_SHAPES = 2


_log = logging.getLogger(__name__)


@functools.cache
def _shared_core() -> Any:
    """One `openvino.Core` per process.

    Each Core loads the CPU plugin, which installs a signal stack (sigaltstack) and, when it is
    destroyed, restores the one that it found. If Cores are destroyed in the order of their
    creation, the restored stack is already freed. The next signal with a Python handler (Ctrl-C,
    or SIGCHLD with a DataLoader) then ends in a segmentation fault (OpenVINO 2026.4.1).
    """
    return import_openvino().Core()


class OpenVinoRuntime:
    """See `runtimes.Runtime`."""

    selection_reason = ""

    def __init__(
        self, source: LazyModel | ExportedModel, precision: str, threads: int | None
    ) -> None:
        openvino = import_openvino()
        self._core = _shared_core()
        self._source = source
        self.bundle = source.bundle
        self._only = source.clip_shape if isinstance(source, ExportedModel) else None
        has_bf16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not has_bf16:
            raise ConfigError(
                "precision is 'bf16', but this CPU does not compute in bf16 (AVX-512 BF16 or AMX); "
                "use f32, or the runtime torch, which emulates it slowly."
            )
        # OpenVINO's default is bf16 where the CPU has it, so the precision is always set. It is the
        # precision between the int8 layers of an int8 model.
        self._hint = "bf16" if precision != "f32" and has_bf16 else "f32"
        self._version = openvino.__version__.split("-")[0]
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": self._hint,
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self.description = f"openvino {self._version} on cpu, {precision}"
        self._requests = ShapeCache(lambda shape: _Requests(self._start(shape)), _MAX_SHAPES)
        self._requests.get(self._only or self.bundle.clip_shape)

    def run(self, views: Floats) -> ViewOutputs:
        requests = self._requests.get(check_views(views, self.bundle.model.in_chans, self._only))
        return ViewOutputs.concatenate(
            [requests.infer(views[i : i + 1]) for i in range(len(views))]
        )

    def _start(self, shape: ClipShape) -> Any:
        """The compiled model of a clip shape, from the cache if it is there."""

        def load(data: bytes) -> Any:
            settings = self._settings | _FUSED[data[:1]]
            return self._core.import_model(io.BytesIO(data[1:]), "CPU", settings)

        def build() -> tuple[Any, bytes]:
            _log.info("Compiling for OpenVINO (once per clip shape, then cached).")
            compiled, fused = self._compile(shape)
            return compiled, fused + compiled.export_model().getvalue()

        sizes = "x".join(map(str, shape))
        name = f"openvino-{self._version}-{self._hint}-{sizes}-{self._processor()}.{GRAPH_VERSION}"
        if isinstance(self._source, ExportedModel) and not self._source.fused:
            name += "-plain"
        return load_or_compile(self._source.digest, name, load, build)

    def _processor(self) -> str:
        """Distinguishes this machine's compiled models from another's in a shared home folder."""
        name = self._core.get_property("CPU", "FULL_DEVICE_NAME")
        abilities = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return hashlib.sha256(f"{name} {sorted(abilities)}".encode()).hexdigest()[:8]

    def _compile(self, shape: ClipShape) -> tuple[Any, bytes]:
        """The compiled model, and the key of _FUSED that it was compiled with."""
        if isinstance(self._source, ExportedModel):  # verified when it was exported
            try:
                graph = self._core.read_model(self._source.path)
            except RuntimeError as error:
                raise CheckpointError(
                    f"OpenVINO cannot read {str(self._source.path)!r} ({error}); export it again."
                ) from error
            graph.reshape([1, *shape])
            fused = b"1" if self._source.fused and _may_fuse(graph) else b"0"
            return self._core.compile_model(graph, "CPU", self._settings | _FUSED[fused]), fused
        model = self._source.build()
        from ..exporters.tracing import example_outputs, trace

        graph = openvino_graph(trace(model, shape, dynamic_batch=False))
        views, expected = example_outputs(model, shape)
        self._source.release()
        for fused, settings in _FUSED.items():
            if fused == b"1" and not _may_fuse(graph):
                continue
            compiled = self._core.compile_model(graph, "CPU", self._settings | settings)
            results = compiled({"views": views})
            got = (results[0], results[1])
            if relative_error(expected, got) <= MAX_RELATIVE_ERROR[self._hint]:
                return compiled, fused
        raise RuntimeMismatchError(
            f"OpenVINO {self._version} and the network differ for clips of {shape}; use the "
            "runtime torch, and report it."
        )


class _Requests:
    """A pool of infer requests of a compiled model; each serves one call at a time.

    Calling a compiled model uses one request for all callers, whose inputs and outputs threads
    would overwrite. The pool has as many requests as OpenVINO runs at a time (one, unless the
    machine has several CPUs); a call waits for a free one.
    """

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()
        for _ in range(max(1, count)):
            self._idle.put(compiled.create_infer_request())

    def infer(self, view: Floats) -> ViewOutputs:
        """(1, C, T, H, W) -> logits and features, copied out of the request."""
        request = self._idle.get()
        try:
            results = request.infer({"views": view}, share_inputs=True)
            return ViewOutputs(results[0].copy(), results[1].copy())
        finally:
            self._idle.put(request)


def _may_fuse(graph: Any) -> bool:
    """Whether every attention of an OpenVINO graph has enough tokens to be fused."""
    for node in graph.get_ops():
        # A converter may have decomposed attention: its softmax is over the tokens, too.
        if node.get_type_name() in ("ScaledDotProductAttention", "Softmax"):
            num_tokens = node.get_output_partial_shape(0)[2].get_length()
            if num_tokens < _MIN_FUSED_TOKENS:
                return False
    return True
