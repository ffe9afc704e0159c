"""The network as a graph for one clip shape: what OpenVINO, ONNX and torch.export are given.

Traced from the very network that runs eagerly, after one pass that leaves its window plans behind
as constants: a graph has no roll, no mask and no arithmetic about places, only gathers.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import MissingExtraError
from ..model import VideoSwinTransformer
from .openvino_engine import import_openvino
from .protocol import ClipShape, Floats

if TYPE_CHECKING:  # torch.export takes long to import, and eager torch does without
    from torch.export import ExportedProgram

# ONNX opset 20 has the exact GELU as one operator and is read by every current engine; 23 would
# have attention as one, which fewer read and none ran faster.
OPSET = 20


class BothOutputs(nn.Module):
    def __init__(self, model: VideoSwinTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        features = self.model.forward_head(self.model.forward_features(views), pre_logits=True)
        # Without a classifier both are the same value, which exporters do not take twice.
        logits = self.model.cls_head.fc_cls(features) if self.model.num_classes else features * 1.0
        return logits, features


def trace(
    model: VideoSwinTransformer, clip_shape: ClipShape, any_batch: bool = True
) -> ExportedProgram:
    """The exported program (B, C, T, H, W) -> logits, features.

    The model must be float32, in eval mode and on the CPU. any_batch: False traces for one clip
    at a time, in less than half the time.
    """
    from torch.export import Dim, export

    both = BothOutputs(model).eval()
    views = torch.zeros(2 if any_batch else 1, *clip_shape)  # 1 would be taken as a constant
    shapes = ({0: Dim("batch")},) if any_batch else None
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about deprecated ways inside of torch itself
        both(views[:1])  # leaves the window plans of this shape behind
        return export(both, (views,), dynamic_shapes=shapes, strict=False)


def example_outputs(
    model: VideoSwinTransformer, clip_shape: ClipShape
) -> tuple[Floats, tuple[Floats, Floats]]:
    """One view of noise, and the logits and features the eager network gives for it."""
    views = torch.from_numpy(
        np.random.default_rng(0).standard_normal((1, *clip_shape)).astype(np.float32)
    )
    with torch.inference_mode():
        logits, features = BothOutputs(model)(views)
    return views.numpy(), (logits.numpy(), features.numpy())


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
