"""Traces the model with torch.export, for one clip shape.

Window plans become constants, so the graph contains gathers instead of rolls, masks and index
arithmetic.
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

if TYPE_CHECKING:  # importing torch.export is slow
    from torch.export import ExportedProgram


# torch's tracer and `warnings` use process-wide state.
_trace_lock = threading.Lock()


class LogitsAndFeatures(nn.Module):
    """A module whose forward method is `VideoSwinTransformer.logits_and_features`."""

    def __init__(self, model: VideoSwinTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Computes logits and features of views (B, C, T, H, W)."""
        return self.model.logits_and_features(views)


def trace(
    model: VideoSwinTransformer, clip_shape: ClipShape, dynamic_batch: bool = True
) -> ExportedProgram:
    """Traces a model.

    Args:
        model: The model: float32, in eval mode, on the CPU.
        clip_shape: Shape of one view, (C, T, H, W).
        dynamic_batch: Support any batch size. False traces for batch size 1, which takes less
            than half as long.

    Returns:
        A program that maps views (B, C, T, H, W) to logits and features.
    """
    from torch.export import Dim, export

    wrapper = LogitsAndFeatures(model).eval()
    views = torch.zeros(2 if dynamic_batch else 1, *clip_shape)  # torch.export specializes on 1
    shapes = ({0: Dim("batch")},) if dynamic_batch else None
    with _trace_lock, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations within torch
        return export(wrapper, (views,), dynamic_shapes=shapes, strict=False)


def example_outputs(
    model: VideoSwinTransformer, clip_shape: ClipShape
) -> tuple[Floats, tuple[Floats, Floats]]:
    """Returns a random view and the outputs of the eager model for it.

    Args:
        model: The model: float32, in eval mode, on the CPU.
        clip_shape: Shape of the view, (C, T, H, W).

    Returns:
        The view (1, C, T, H, W), and its logits and features, float32.
    """
    views = torch.from_numpy(
        np.random.default_rng(0).standard_normal((1, *clip_shape)).astype(np.float32)
    )
    with torch.inference_mode():
        logits, features = LogitsAndFeatures(model)(views)
    return views.numpy(), (logits.numpy(), features.numpy())
