"""OpenVINO on the CPU: the fastest engine there, and without torch from the second start on."""

from __future__ import annotations

import hashlib
import io
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

# OpenVINO fuses attention into code made for the shape ("snippets"). 2026.4 computes boxes of 2 to
# 4 tokens wrong, some of them only now and then; from 8 on it is right (docs/lab-notes.md). So
# smaller ones are compiled without the fusion, and whatever was compiled is compared with the
# network before it is kept.
_MIN_FUSED_TOKENS = 8
_FUSED: dict[bytes, dict[str, Any]] = {b"1": {}, b"0": {"SNIPPETS_MODE": "DISABLE"}}

# Shapes whose compiled models stay in memory: whole frames come in as many as there are
# proportions of videos, and each holds its own copy of the weights.
_MAX_SHAPES = 2


class OpenVinoRuntime:
    """See `runtimes.Runtime`."""

    selection_reason = ""

    def __init__(
        self, source: LazyModel | ExportedModel, precision: str, threads: int | None
    ) -> None:
        openvino = import_openvino()
        self._core = openvino.Core()
        self._source = source
        self.bundle = source.bundle
        self._only = source.clip_shape if isinstance(source, ExportedModel) else None
        has_bf16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not has_bf16:
            raise ConfigError(
                "precision is 'bf16', but this CPU does not compute in bf16 (AVX-512 BF16 or AMX); "
                "use --precision f32, or --runtime torch, which emulates it slowly."
            )
        # OpenVINO takes bf16 of its own accord where the CPU has it, so it is always told. In an
        # int8 model it is what is computed in between the int8 layers.
        self._hint = "bf16" if precision != "f32" and has_bf16 else "f32"
        self._version = openvino.__version__.split("-")[0]
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": self._hint,
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self.description = f"openvino {self._version} on cpu, {precision}"
        self._compiled: dict[ClipShape, Any] = {}
        self._compiled_for(self._only or self.bundle.clip_shape)

    def run(self, views: Floats) -> ViewOutputs:
        compiled = self._compiled_for(check_views(views, self.bundle.model.in_chans, self._only))
        outputs = []
        for start in range(len(views)):
            results = compiled({"views": views[start : start + 1]})
            outputs.append(ViewOutputs(results[0].copy(), results[1].copy()))
        return ViewOutputs.concatenate(outputs)

    def _compiled_for(self, shape: ClipShape) -> Any:
        if shape not in self._compiled:
            if len(self._compiled) >= _MAX_SHAPES:
                del self._compiled[next(iter(self._compiled))]
            self._compiled[shape] = self._start(shape)
        return self._compiled[shape]

    def _start(self, shape: ClipShape) -> Any:
        """The compiled model of a clip shape, from disk where it lies there."""

        def load(data: bytes) -> Any:
            settings = self._settings | _FUSED[data[:1]]
            return self._core.import_model(io.BytesIO(data[1:]), "CPU", settings)

        def build() -> tuple[Any, bytes]:
            compiled, fused = self._compile(shape)
            return compiled, fused + compiled.export_model().getvalue()

        sizes = "x".join(map(str, shape))
        name = f"openvino-{self._version}-{self._hint}-{sizes}-{self._processor()}.{GRAPH_VERSION}"
        if isinstance(self._source, ExportedModel) and not self._source.fused:
            name += "-plain"
        return load_or_compile(self._source.digest, name, load, build)

    def _processor(self) -> str:
        """What tells this machine's compiled models from another's in a shared home folder."""
        name = self._core.get_property("CPU", "FULL_DEVICE_NAME")
        abilities = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return hashlib.sha256(f"{name} {sorted(abilities)}".encode()).hexdigest()[:8]

    def _compile(self, shape: ClipShape) -> tuple[Any, bytes]:
        """The compiled model, and the key of _FUSED that it was compiled with."""
        if isinstance(self._source, ExportedModel):  # its proof says how it is compiled
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

        graph = openvino_graph(trace(model, shape, any_batch=False))
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
            f"OpenVINO {self._version} computes something else than the network for clips of "
            f"{shape}; use --runtime torch, and report it."
        )


def _may_fuse(graph: Any) -> bool:
    """Whether every attention of an OpenVINO graph is over enough tokens."""
    for node in graph.get_ops():
        # A converter may have written attention out: its softmax is over the tokens too.
        if node.get_type_name() in ("ScaledDotProductAttention", "Softmax"):
            num_tokens = node.get_output_partial_shape(0)[2].get_length()
            if num_tokens < _MIN_FUSED_TOKENS:
                return False
    return True
