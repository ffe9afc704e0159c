"""A traced network as an OpenVINO model. Imports no torch."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError
from ..telemetry import without_telemetry

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def import_openvino() -> Any:
    """The library. Raises MissingExtraError."""
    try:
        with without_telemetry():
            import openvino
    except ImportError as error:
        raise MissingExtraError("openvino", "openvino", "The runtime openvino") from error
    return openvino


def openvino_graph(program: ExportedProgram) -> Any:
    """`openvino.Model` with the inputs and outputs views, logits, features."""
    openvino = import_openvino()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = openvino.convert_model(program)
    graph.inputs[0].get_tensor().set_names({"views"})
    for output, name in zip(graph.outputs, ("logits", "features"), strict=True):
        output.get_tensor().set_names({name})
    return graph
