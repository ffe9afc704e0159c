"""Conversion of a traced model to ONNX."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch

from ..errors import MissingExtraError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

# Opset 20 added Gelu and is supported by all current runtimes. Opset 23 added Attention, which
# fewer runtimes support and which was not faster.
OPSET = 20


def onnx_bytes(program: ExportedProgram) -> bytes:
    """Converts a program to ONNX.

    Args:
        program: The traced model.

    Returns:
        The content of the ONNX file, with the input "views" and the outputs "logits" and
        "features".

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(error.name or "onnx", "onnx", "Writing ONNX") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = torch.onnx.export(
            program,
            (),
            None,
            input_names=["views"],
            output_names=["logits", "features"],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert converted is not None
    data: bytes = converted.model_proto.SerializeToString()
    return data
