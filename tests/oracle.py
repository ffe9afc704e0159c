"""Reference networks and fillings for parity tests."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models.video import SwinTransformer3d

from video_swin_transformer.model import VideoSwinTransformer

REFERENCE = Path(__file__).parent / "reference"


def reference(name: str) -> Any:
    return json.loads((REFERENCE / f"{name}.json").read_text())


def fill_by_name(model: nn.Module) -> None:
    """Every parameter from the CRC-32 of its name, as the recorded outputs were made."""
    for name, tensor in model.state_dict().items():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        noise = torch.randn(tensor.shape, generator=generator)
        is_norm = re.search(r"norm\d?\.weight$", name)
        tensor.copy_(1 + 0.1 * noise if is_norm else 0.05 * noise)


def input_by_shape(shape: tuple[int, ...]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(str(shape).encode()))
    return torch.randn(shape, generator=generator)


def torchvision_name(name: str) -> str:
    """Our parameter name -> torchvision's."""
    if name.startswith("cls_head.fc_cls."):
        return name.replace("cls_head.fc_cls.", "head.")
    name = name.removeprefix("backbone.")
    name = re.sub(r"^layers\.(\d)\.blocks\.", lambda m: f"features.{2 * int(m[1])}.", name)
    name = re.sub(r"^layers\.(\d)\.downsample\.", lambda m: f"features.{2 * int(m[1]) + 1}.", name)
    return name.replace(".mlp.fc1.", ".mlp.0.").replace(".mlp.fc2.", ".mlp.3.")


def torchvision_twin(model: VideoSwinTransformer) -> SwinTransformer3d:
    """torchvision's network of the same shape with the same weights, in eval mode."""
    c = model.config
    twin = SwinTransformer3d(
        patch_size=list(c.patch_size),
        embed_dim=c.embed_dim,
        depths=list(c.depths),
        num_heads=list(c.num_heads),
        window_size=list(c.window_size),
        num_classes=c.num_classes,
        stochastic_depth_prob=c.drop_path_rate,
    )
    weights = {torchvision_name(name): tensor for name, tensor in model.state_dict().items()}
    missing, unexpected = twin.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.endswith("relative_position_index") for name in missing), missing
    return twin.eval()
