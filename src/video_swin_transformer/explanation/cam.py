"""Class activation maps of a layer: Grad-CAM, and Eigen-CAM, which needs no gradient.

Captum's LayerGradCam and the package grad-cam take the axis after the batch for the channels. The
tokens inside a stage are (B, L, C), channels last, so both would average over the wrong axis.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..model import VideoSwinTransformer
from ..windows import Size3
from .layers import BlockAddress, layer_output


def grad_cam(
    model: VideoSwinTransformer,
    x: Tensor,
    grid: Size3,
    address: BlockAddress,
    layer: str,
    class_index: int,
) -> Tensor:
    """Computes Grad-CAM (Selvaraju et al., ICCV 2017) over space and time.

    Each channel is weighted with its mean gradient over all tokens of the clip, as the original
    does over all pixels of an image. The weighted sum is cut at 0: only evidence for the class is
    left.

    Args:
        model: The network.
        x: (1, C, T, H, W) float32, one view.
        grid: Token grid of the stage, (D, h, w).
        address: The block.
        layer: "norm1", "norm2" or "output" of the block.
        class_index: The class whose logit is explained.

    Returns:
        (D, h, w) float32, at least 0, in logits per token.
    """
    block = address.of(model)
    module = block if layer == "output" else getattr(block, layer)
    with torch.inference_mode(False), torch.enable_grad(), layer_output(module, True) as kept:
        logit = model(x)[0, class_index]
        (tokens,) = kept
        (gradient,) = torch.autograd.grad(logit, tokens)
    weights = gradient.mean(dim=1)  # (1, L, C) -> (1, C)
    return (tokens.detach() @ weights[0]).relu().float().view(grid)


def eigen_cam(
    model: VideoSwinTransformer, x: Tensor, grid: Size3, address: BlockAddress, layer: str
) -> Tensor:
    """Computes Eigen-CAM (Muhammad and Yeasin, IJCNN 2020) over space and time.

    It is the projection of the centered tokens on their first principal component: where the layer
    differs most from its mean, whatever the class. The sign of a component is arbitrary; the side
    that stands out of fewer tokens counts as positive.

    Args:
        model: The network.
        x: (1, C, T, H, W) float32, one view.
        grid: Token grid of the stage, (D, h, w).
        address: The block.
        layer: "norm1", "norm2" or "output" of the block.

    Returns:
        (D, h, w) float32, at least 0.
    """
    block = address.of(model)
    module = block if layer == "output" else getattr(block, layer)
    with torch.no_grad(), layer_output(module, False) as kept:
        model.forward_features(x)
    tokens = kept[0][0].float()
    centered = tokens - tokens.mean(dim=0)
    # The eigenvector of the channel covariance, (C, C), which is small, unlike L x C.
    _, vectors = torch.linalg.eigh(centered.T @ centered)
    projected = centered @ vectors[:, -1]
    if (projected**3).sum() < 0:
        projected = -projected
    found: Tensor = projected.relu().view(grid)
    return found
