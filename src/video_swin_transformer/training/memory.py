"""How many clips fit at once, and what a process holds."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn

_RAM_FRACTION = 0.4  # the system, the readers and the checkpoints need some, too
_GPU_FRACTION = 0.8
_SAFETY = 1.3  # gradients on the way back, and what a backward pass makes for itself
_MAX_MICRO_BATCH_SIZE = 64


def saved_bytes(forward: Callable[[], Tensor], model: nn.Module) -> int:
    """Bytes that a forward pass keeps for its backward pass, without the parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(seen.values())


def state_bytes(model: nn.Module) -> int:
    """Weights, gradients and AdamW's two moments, in float32."""
    return sum(p.numel() * (16 if p.requires_grad else 4) for p in model.parameters())


def usable_bytes(device: torch.device, num_local_processes: int) -> int:
    """What a process may use. Of a processor's memory a fixed share of all of it, so that the
    same machine always cuts a batch up in the same way."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1] * _GPU_FRACTION)
    import psutil  # type: ignore[import-untyped]

    return int(psutil.virtual_memory().total * _RAM_FRACTION / num_local_processes)


def clips_that_fit(bytes_per_clip: int, state: int, usable: int, most: int) -> int:
    """How many clips to look at in one pass: at least 1, at most `most`."""
    room = usable - state
    fitting = int(room / max(bytes_per_clip * _SAFETY, 1))
    return max(1, min(fitting, most, _MAX_MICRO_BATCH_SIZE))


def used_bytes(device: torch.device) -> int:
    """What this process holds now (GPU: the most so far)."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import psutil

    return int(psutil.Process(os.getpid()).memory_info().rss)
