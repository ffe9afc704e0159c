"""A traced network as an ONNX file."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch

from ..errors import MissingExtraError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

# ONNX opset 20 has the exact GELU as one operator and is read by every current runtime; 23 would
# have attention as one, which fewer read and none ran faster.
OPSET = 20


def onnx_bytes(program: ExportedProgram) -> bytes:
    """An ONNX file of opset `OPSET` with the inputs and outputs views, logits, features."""
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
