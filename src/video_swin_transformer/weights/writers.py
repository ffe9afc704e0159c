"""Our network -> a file in another tool's format, with all that the tool's strict loading wants."""

from __future__ import annotations

import io
import math
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor

from ..config import ModelConfig
from ..errors import CheckpointError, UnknownNameError
from ..files import write_atomic
from ..model import VideoSwinTransformer
from ..saving import METADATA_KEY
from ..windows import relative_position_index
from .key_mapping import OFFICIAL, TORCHVISION, KeyFormat, rename_from_official

TARGETS = ("safetensors", "official", "torchvision")
_INDEX = "attn.relative_position_index"


def write_checkpoint(
    model: VideoSwinTransformer, path: str | Path, to: str, dtype: torch.dtype = torch.float32
) -> None:
    """Writes the model's weights to `path`, whole or not at all.

    to: "safetensors" (ours, config inside), "official" ({"meta", "state_dict"}, also read by
    mmaction2 0.x) or "torchvision" (flat, for `swin3d_*().load_state_dict`). The latter two are
    pickles of tensors and plain text, with the index buffers that strict loading asks for.
    dtype: torch.float32 or torch.float16; of float16 numbers only what fits is written.
    Raises UnknownNameError for another format, CheckpointError where something cannot be
    expressed in it or the file cannot be written.
    """
    check_target(to)
    tensors = {name: _stored(name, t, dtype) for name, t in model.state_dict().items()}
    text = model.bundle.to_json()
    if to == "safetensors":
        from safetensors.torch import save

        data = save(tensors, metadata={"format": "pt", METADATA_KEY: text})
    elif to == "official":
        state = _renamed(OFFICIAL, tensors, model.config)
        data = _pickled({"meta": {METADATA_KEY: text}, "state_dict": state})
    else:
        _require_torchvision(model.config)
        data = _pickled(_renamed(TORCHVISION, tensors, model.config))
    try:
        write_atomic(Path(path), data)
    except OSError as error:
        raise CheckpointError(
            f"{str(path)!r} cannot be written ({error.strerror or error}); name a file in a folder "
            "that can be written to."
        ) from error


def torchvision_state_dict(model: VideoSwinTransformer) -> OrderedDict[str, Tensor]:
    """The weights under torchvision's names, with the index buffers strict loading asks for.

    Raises CheckpointError where torchvision has no such network.
    """
    _require_torchvision(model.config)
    return _renamed(TORCHVISION, model.state_dict(), model.config)


def check_target(to: str) -> None:
    """Raises UnknownNameError unless `to` is a format that can be written."""
    if to not in TARGETS:
        raise UnknownNameError("format", to, TARGETS)


def _stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    stored = tensor.detach().to("cpu", dtype).contiguous()
    if not bool(stored.isfinite().all()) and bool(tensor.isfinite().all()):
        raise CheckpointError(
            f"{name!r} has values up to {float(tensor.abs().max()):.3g}, which do not fit into "
            f"{dtype}; write float32 instead."
        )
    return stored


def _renamed(
    key_format: KeyFormat, tensors: dict[str, Tensor], config: ModelConfig
) -> OrderedDict[str, Tensor]:
    """The tool's names, with its index buffer for each block."""
    renamed = OrderedDict(rename_from_official(key_format, tensors))
    index = relative_position_index(config.window_size, math.prod(config.window_size))
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            number = key_format.scale * stage + key_format.block_offset
            renamed[key_format.block.format(number, block) + _INDEX] = index
    return renamed


def _pickled(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _require_torchvision(config: ModelConfig) -> None:
    """torchvision's swin3d has no settings for these."""
    standard = ModelConfig()
    for setting in ("in_chans", "patch_norm", "patch_stride", "qkv_bias"):
        got, wanted = getattr(config, setting), getattr(standard, setting)
        if got != wanted:
            raise CheckpointError(
                f"This network has {setting} {got}, but torchvision's swin3d has only {wanted}; "
                "write it as safetensors or official."
            )
