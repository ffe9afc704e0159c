"""Recorded figures of the original, and fillings that make a network comparable."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

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
