"""Conversion of a traced model to OpenVINO. Does not import torch."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError
from ..telemetry import without_telemetry

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def import_openvino() -> Any:
    """Imports OpenVINO without telemetry.

    Returns:
        The module.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    try:
        with without_telemetry():
            import openvino
    except ImportError as error:
        raise MissingExtraError("openvino", "openvino", "The runtime openvino") from error
    return openvino


def openvino_graph(program: ExportedProgram) -> Any:
    """Converts a program to an `openvino.Model`.

    Args:
        program: The traced model.

    Returns:
        The model, with the input "views" and the outputs "logits" and "features".

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    openvino = import_openvino()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = openvino.convert_model(program)
    graph.inputs[0].get_tensor().set_names({"views"})
    for output, name in zip(graph.outputs, ("logits", "features"), strict=True):
        output.get_tensor().set_names({name})
    return graph
