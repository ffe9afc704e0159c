"""OpenVINO on the CPU: the fastest CPU runtime. Cached models need no torch."""

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
from .protocol import GRAPH_VERSION, RuntimeInfo
from .shape_cache import ShapeCache

# OpenVINO fuses attention into kernels generated per shape ("snippets"). In 2026.4 the results are
# incorrect for 2 to 4 tokens, some of them intermittently, and correct for 8 or more
# (docs/lab-notes.md). Smaller regions are compiled without fusion, and every compiled model is
# compared with the eager model before it is cached.
_MIN_FUSION_TOKENS = 8
# Compile settings with fused attention and without; the key is the first byte of a cached model.
_FUSION_SETTINGS: dict[bytes, dict[str, Any]] = {b"1": {}, b"0": {"SNIPPETS_MODE": "DISABLE"}}

# Maximum number of compiled models in memory; each has a copy of the weights. With whole frames,
# each aspect ratio has its own model.
_MAX_SHAPES = 2


_log = logging.getLogger(__name__)


@functools.cache
def _shared_core() -> Any:
    """One `openvino.Core` per process.

    Each Core loads the CPU plugin, which installs an alternate signal stack and restores the
    previous one when it is destroyed. If Cores are destroyed in creation order, the restored stack
    has already been freed. The next signal with a Python handler (Ctrl-C,
    or SIGCHLD with a DataLoader) then ends in a segmentation fault (OpenVINO 2026.4.1).
    """
    return import_openvino().Core()


class OpenVinoRuntime:
    """Runs weights or an exported model with OpenVINO; see `Runtime`.

    Args:
        source: Weights, or an exported ONNX or OpenVINO model.
        precision: "f32", "bf16" or "int8".
        threads: Number of CPU threads; None for OpenVINO's default.

    Raises:
        ConfigError: The CPU does not support bf16.
        MissingExtraError: OpenVINO is not installed.
        RuntimeMismatchError: The compiled model differs from the eager model.
    """

    selection_reason = ""

    def __init__(
        self, source: LazyModel | ExportedModel, precision: str, threads: int | None
    ) -> None:
        openvino = import_openvino()
        self._core = _shared_core()
        self._source = source
        self.bundle = source.bundle
        self._fixed_shape = source.clip_shape if isinstance(source, ExportedModel) else None
        has_bf16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not has_bf16:
            raise ConfigError(
                "precision is 'bf16', but this CPU does not support bf16 (AVX-512 BF16 or AMX); "
                "use f32, or the runtime torch, which emulates bf16 slowly."
            )
        # OpenVINO defaults to bf16 if the CPU supports it, so the precision is always set. For an
        # int8 model, it applies to the layers that are not quantized.
        self._inference_precision = "bf16" if precision != "f32" and has_bf16 else "f32"
        self._version = openvino.__version__.split("-")[0]
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": self._inference_precision,
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self.info = RuntimeInfo("openvino", self._version, "cpu", precision)
        self.description = str(self.info)
        self._pools = ShapeCache(lambda shape: _RequestPool(self._load_shape(shape)), _MAX_SHAPES)
        self._pools.get(self._fixed_shape or self.bundle.clip_shape)

    def run(self, views: Floats) -> ViewOutputs:
        """Runs the model; see `Runtime.run`."""
        requests = self._pools.get(
            check_views(views, self.bundle.model.in_chans, self._fixed_shape)
        )
        return ViewOutputs.concatenate(
            [requests.infer(views[i : i + 1]) for i in range(len(views))]
        )

    def _load_shape(self, shape: ClipShape) -> Any:
        """Loads the compiled model for a clip shape from the cache, or compiles it."""

        def load(data: bytes) -> Any:
            settings = self._settings | _FUSION_SETTINGS[data[:1]]
            return self._core.import_model(io.BytesIO(data[1:]), "CPU", settings)

        def build() -> tuple[Any, bytes]:
            _log.info("Compiling for OpenVINO (once per clip shape, then cached).")
            compiled, fused = self._compile(shape)
            return compiled, fused + compiled.export_model().getvalue()

        sizes = "x".join(map(str, shape))
        name = f"openvino-{self._version}-{self._inference_precision}-{sizes}-{self._cpu_id()}"
        name += f".{GRAPH_VERSION}"
        if isinstance(self._source, ExportedModel) and not self._source.fused:
            name += "-plain"
        return load_or_compile(self._source.digest, name, load, build)

    def _cpu_id(self) -> str:
        """Identifies the CPU, since machines may share a cache folder."""
        name = self._core.get_property("CPU", "FULL_DEVICE_NAME")
        abilities = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return hashlib.sha256(f"{name} {sorted(abilities)}".encode()).hexdigest()[:8]

    def _compile(self, shape: ClipShape) -> tuple[Any, bytes]:
        """Compiles the model. Returns it with its key of _FUSION_SETTINGS."""
        if isinstance(self._source, ExportedModel):  # verified when it was exported
            try:
                graph = self._core.read_model(self._source.path)
            except RuntimeError as error:
                raise CheckpointError(
                    f"OpenVINO cannot read {str(self._source.path)!r} ({error}); export it again."
                ) from error
            graph.reshape([1, *shape])
            fused = b"1" if self._source.fused and _supports_fusion(graph) else b"0"
            return self._core.compile_model(
                graph, "CPU", self._settings | _FUSION_SETTINGS[fused]
            ), fused
        model = self._source.build()
        from ..exporters.tracing import example_outputs, trace

        graph = openvino_graph(trace(model, shape, dynamic_batch=False))
        views, expected = example_outputs(model, shape)
        self._source.release()
        for fused, settings in _FUSION_SETTINGS.items():
            if fused == b"1" and not _supports_fusion(graph):
                continue
            compiled = self._core.compile_model(graph, "CPU", self._settings | settings)
            results = compiled({"views": views})
            got = (results[0], results[1])
            if relative_error(expected, got) <= MAX_RELATIVE_ERROR[self._inference_precision]:
                return compiled, fused
        raise RuntimeMismatchError(
            f"The outputs of OpenVINO {self._version} differ from the eager model for clips "
            f"of shape {shape}; use the runtime torch, and please report this."
        )


class _RequestPool:
    """A pool of infer requests of a compiled model; each serves one call at a time.

    Calling a compiled model directly uses one shared request, which is not thread-safe. The pool
    has the number of requests that OpenVINO recommends; calls wait for a free one.
    """

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()
        for _ in range(max(1, count)):
            self._idle.put(compiled.create_infer_request())

    def infer(self, view: Floats) -> ViewOutputs:
        """Runs one view (1, C, T, H, W). The outputs are copied out of the request."""
        request = self._idle.get()
        try:
            results = request.infer({"views": view}, share_inputs=True)
            return ViewOutputs(results[0].copy(), results[1].copy())
        finally:
            self._idle.put(request)


def _supports_fusion(graph: Any) -> bool:
    """Whether all attention operations of a graph have enough tokens for correct fusion."""
    for node in graph.get_ops():
        # If attention was decomposed, its softmax is over the tokens, too.
        if node.get_type_name() in ("ScaledDotProductAttention", "Softmax"):
            num_tokens = node.get_output_partial_shape(0)[2].get_length()
            if num_tokens < _MIN_FUSION_TOKENS:
                return False
    return True
