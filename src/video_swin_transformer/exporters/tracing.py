"""The network as a graph for one clip shape: what OpenVINO, ONNX and torch.export are given.

Traced from the network that runs eagerly. Window plans are constants of the graph: it has no roll,
no mask and no index arithmetic, only gathers.
"""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..config import ClipShape
from ..model import VideoSwinTransformer
from ..postprocess import Floats

if TYPE_CHECKING:  # torch.export takes long to import, and eager torch does without
    from torch.export import ExportedProgram


# torch's tracer and `warnings` keep state of the whole process.
_trace_lock = threading.Lock()


class LogitsAndFeatures(nn.Module):
    def __init__(self, model: VideoSwinTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.logits_and_features(views)


def trace(
    model: VideoSwinTransformer, clip_shape: ClipShape, dynamic_batch: bool = True
) -> ExportedProgram:
    """The exported program (B, C, T, H, W) -> logits, features.

    The model must be float32, in eval mode and on the CPU. any_batch: False traces for one clip
    at a time, in less than half the time.
    """
    from torch.export import Dim, export

    wrapper = LogitsAndFeatures(model).eval()
    views = torch.zeros(2 if dynamic_batch else 1, *clip_shape)  # 1 would be taken as a constant
    shapes = ({0: Dim("batch")},) if dynamic_batch else None
    with _trace_lock, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about deprecated ways inside of torch itself
        return export(wrapper, (views,), dynamic_shapes=shapes, strict=False)


def example_outputs(
    model: VideoSwinTransformer, clip_shape: ClipShape
) -> tuple[Floats, tuple[Floats, Floats]]:
    """One view of noise, and the logits and features the eager network gives for it."""
    views = torch.from_numpy(
        np.random.default_rng(0).standard_normal((1, *clip_shape)).astype(np.float32)
    )
    with torch.inference_mode():
        logits, features = LogitsAndFeatures(model)(views)
    return views.numpy(), (logits.numpy(), features.numpy())
