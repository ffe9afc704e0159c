"""The camera-movement network outside the product: where it starts, and its scores of clips."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from video_swin_transformer.config import IMAGENET_MEAN, IMAGENET_STD
from video_swin_transformer.model import VideoSwinTransformer
from video_swin_transformer.registry import DEFAULT_MODEL, find_card

from .motion_filters import start_with_movement


def write_start(folder: Path, seed: int) -> None:
    """A model folder with weights that have learned nothing, but look for movement."""
    torch.manual_seed(seed)
    bundle = dataclasses.replace(find_card(DEFAULT_MODEL).bundle, name="camera-motion-start")
    model = VideoSwinTransformer(bundle)
    start_with_movement(model)
    model.save_pretrained(folder)


def normalize(clips: Tensor) -> Tensor:
    """(B, T, H, W, 3) uint8 RGB -> (B, 3, T, H, W) float32, the network's input."""
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return ((clips.float() - mean) / std).permute(0, 4, 1, 2, 3).contiguous()


@torch.inference_mode()
def predict(model: nn.Module, clips: NDArray[np.uint8], batch_size: int = 48) -> Tensor:
    """(N, T, H, W, 3) uint8 RGB -> (N, 10) float32 probabilities."""
    model.eval()
    parts = [
        model(normalize(torch.from_numpy(clips[start : start + batch_size]))).softmax(-1)
        for start in range(0, len(clips), batch_size)
    ]
    return torch.cat(parts).float()
