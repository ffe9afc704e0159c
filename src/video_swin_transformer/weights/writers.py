"""Writes checkpoints in formats that other tools load with `strict=True`."""

from __future__ import annotations

import io
import math
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor

from ..config import ModelConfig
from ..errors import CheckpointError, UnknownNameError
from ..files import os_error_reason, write_atomic
from ..model import VideoSwinTransformer
from ..saving import METADATA_KEY, safetensors_bytes
from ..windows import relative_position_index
from .key_mapping import OFFICIAL, TORCHVISION, KeyFormat, rename_from_official

TARGETS = ("safetensors", "official", "torchvision")
_INDEX = "attn.relative_position_index"


def write_checkpoint(
    model: VideoSwinTransformer, path: str | Path, to: str, dtype: torch.dtype = torch.float32
) -> None:
    """Writes the weights of a model to a file atomically.

    The formats "official" and "torchvision" are pickles of tensors and plain text. They include
    the relative position index buffers that strict loading requires.

    Args:
        model: The model.
        path: The file to write. An existing file is replaced.
        to: "safetensors" (with the configuration), "official" (`{"meta", "state_dict"}`, also for
            mmaction2 0.x) or "torchvision" (state dict of `swin3d_*`).
        dtype: torch.float32 or torch.float16.

    Raises:
        UnknownNameError: `to` is not a supported format.
        CheckpointError: The model cannot be represented in the format, a value overflows `dtype`,
            or the file cannot be written.
    """
    check_target(to)
    tensors = {name: _cast(name, t, dtype) for name, t in model.state_dict().items()}
    text = model.bundle.to_json()
    if to == "safetensors":
        data = safetensors_bytes(tensors, text)
    elif to == "official":
        state = _rename_with_index_buffers(OFFICIAL, tensors, model.config)
        data = _pickle({"meta": {METADATA_KEY: text}, "state_dict": state})
    else:
        _require_torchvision(model.config)
        data = _pickle(_rename_with_index_buffers(TORCHVISION, tensors, model.config))
    try:
        write_atomic(Path(path), data)
    except OSError as error:
        raise CheckpointError(
            f"{str(path)!r} cannot be written: {os_error_reason(error)}."
        ) from error


def torchvision_state_dict(model: VideoSwinTransformer) -> OrderedDict[str, Tensor]:
    """The weights under torchvision's names, with the index buffers strict loading asks for.

    Raises CheckpointError where torchvision has no such network.
    """
    _require_torchvision(model.config)
    return _rename_with_index_buffers(TORCHVISION, model.state_dict(), model.config)


def check_target(to: str) -> None:
    """Raises UnknownNameError if `to` is not one of `TARGETS`."""
    if to not in TARGETS:
        raise UnknownNameError("format", to, TARGETS)


def _cast(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    stored = tensor.detach().to("cpu", dtype).contiguous()
    if not bool(stored.isfinite().all()) and bool(tensor.isfinite().all()):
        raise CheckpointError(
            f"{name!r} has values up to {float(tensor.abs().max()):.3g}, which overflow "
            f"{dtype}; write float32 instead."
        )
    return stored


def _rename_with_index_buffers(
    key_format: KeyFormat, tensors: dict[str, Tensor], config: ModelConfig
) -> OrderedDict[str, Tensor]:
    """Renames tensors and adds the relative position index buffer of each block."""
    renamed = OrderedDict(rename_from_official(key_format, tensors))
    index = relative_position_index(config.window_size, math.prod(config.window_size))
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            number = key_format.scale * stage + key_format.block_offset
            renamed[key_format.block.format(number, block) + _INDEX] = index
    return renamed


def _pickle(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _require_torchvision(config: ModelConfig) -> None:
    """Raises CheckpointError for settings that torchvision's swin3d does not support."""
    standard = ModelConfig()
    for setting in ("in_chans", "patch_norm", "patch_stride", "qkv_bias"):
        value, supported = getattr(config, setting), getattr(standard, setting)
        if value != supported:
            raise CheckpointError(
                f"The model has {setting}={value}, but torchvision's swin3d supports only "
                f"{supported}; use the format safetensors or official."
            )
