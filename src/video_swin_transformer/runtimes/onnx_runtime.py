"""ONNX Runtime on the CPU, in float32."""

from __future__ import annotations

import logging
from typing import Any

from ..config import ClipShape
from ..errors import CheckpointError, MissingExtraError
from ..exporters.sidecar import ExportedModel
from ..postprocess import Floats, ViewOutputs
from ..preprocess import check_views
from ..telemetry import without_telemetry
from .compile_cache import load_or_compile
from .lazy_model import LazyModel
from .protocol import GRAPH_VERSION, RuntimeInfo
from .shape_cache import ShapeCache

_log = logging.getLogger(__name__)


class OnnxRuntime:
    """Runs weights or an exported ONNX model with ONNX Runtime; see `Runtime`.

    Args:
        source: Weights, or an exported ONNX model.
        threads: Number of CPU threads; None for the default of ONNX Runtime.

    Raises:
        CheckpointError: The exported model cannot be read.
        MissingExtraError: ONNX Runtime is not installed.
    """

    selection_reason = ""

    def __init__(self, source: LazyModel | ExportedModel, threads: int | None) -> None:
        self._library = import_onnxruntime()
        self._source = source
        self.bundle = source.bundle
        self._options = self._library.SessionOptions()
        self._options.log_severity_level = 3  # errors
        if threads is not None:
            self._options.intra_op_num_threads = threads
        self.info = RuntimeInfo("onnxruntime", self._library.__version__, "cpu", "f32")
        self.description = str(self.info)
        self._fixed_shape = source.clip_shape if isinstance(source, ExportedModel) else None
        self._sessions = ShapeCache(self._load_shape, max_entries=1)
        self._sessions.get(self._fixed_shape or self.bundle.clip_shape)

    def run(self, views: Floats) -> ViewOutputs:
        """Runs the model; see `Runtime.run`."""
        session = self._sessions.get(
            check_views(views, self.bundle.model.in_chans, self._fixed_shape)
        )
        outputs = []
        for start in range(len(views)):
            one = {"views": views[start : start + 1]}
            outputs.append(ViewOutputs(*session.run(["logits", "features"], one)))
        return ViewOutputs.concatenate(outputs)

    def _load_shape(self, shape: ClipShape) -> Any:
        """Creates the session for a clip shape, converting the model unless it is cached."""
        if isinstance(self._source, ExportedModel):
            try:
                return self._open(self._source.path.read_bytes())
            except Exception as error:  # its errors have no public base class
                raise CheckpointError(
                    f"ONNX Runtime cannot read {str(self._source.path)!r} ({error}); export it "
                    "again."
                ) from error
        network = self._source

        def build() -> tuple[Any, bytes]:
            _log.info("Converting for ONNX Runtime (once per clip shape, then cached).")
            model = network.build()
            from ..exporters.onnx_model import onnx_bytes
            from ..exporters.tracing import trace

            data = onnx_bytes(trace(model, shape, dynamic_batch=False))
            network.release()
            return self._open(data), data

        sizes = "x".join(map(str, shape))
        # The file is written by torch's exporter, so it is independent of the runtime's version.
        name = f"onnx-f32-{sizes}.{GRAPH_VERSION}"
        return load_or_compile(network.digest, name, self._open, build)

    def _open(self, data: bytes) -> Any:
        return self._library.InferenceSession(
            data, self._options, providers=["CPUExecutionProvider"]
        )


def import_onnxruntime() -> Any:
    """Imports ONNX Runtime without telemetry.

    Returns:
        The module.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
    """
    try:
        with without_telemetry():
            import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx", "The runtime onnxruntime") from error
    return onnxruntime
