"""Eager PyTorch on the CPU, CUDA or MPS, and exported programs.

The GPU paths are plain and untested on this project's machines, which have none.
"""

from __future__ import annotations

import torch
from torch import nn

from ..errors import ConfigError
from .exported import ExportedModel
from .graphs import BothOutputs
from .network import Network
from .protocol import Floats, ViewOutputs, joined, require_views

# Input values that go through the network at once: four views of 32 x 224 x 224. More brings no
# speed on a CPU and takes memory; a small network gets a correspondingly larger batch.
_VALUES_AT_ONCE = 4 * 3 * 32 * 224 * 224


class TorchRuntime:
    """See `runtimes.Runtime`."""

    remark = ""

    def __init__(
        self, source: Network | ExportedModel, precision: str, device: str, threads: int | None
    ) -> None:
        self.device = choose_device(device)
        if threads is not None:
            torch.set_num_threads(threads)  # of the whole process: torch knows no other way
        self._dtype = torch.bfloat16 if precision == "bf16" else None
        self.bundle = source.bundle
        self._only = source.clip_shape if isinstance(source, ExportedModel) else None
        self._network = _network(source).to(self.device)
        self.description = f"torch {torch.__version__} on {self.device}, {precision}"

    def run(self, views: Floats) -> ViewOutputs:
        require_views(views, self.bundle.model.in_chans, self._only)
        at_once = max(1, _VALUES_AT_ONCE // views[0].size)
        outputs: list[ViewOutputs] = []
        start = 0
        while start < len(views):
            try:
                outputs.append(self._forward(views[start : start + at_once]))
            except torch.OutOfMemoryError:  # GPUs only: halve the chunk until it fits
                if at_once == 1:
                    raise ConfigError(
                        f"One view of shape {views.shape[1:]} does not fit into the memory of "
                        f"{self.device}; use --device cpu or a smaller model."
                    ) from None
                at_once //= 2
                continue
            start += at_once
        return joined(outputs)

    @torch.inference_mode()
    def _forward(self, views: Floats) -> ViewOutputs:
        x = torch.from_numpy(views).to(self.device)
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None):
            logits, features = self._network(x)
        return ViewOutputs(logits.float().cpu().numpy(), features.float().cpu().numpy())


def _network(source: Network | ExportedModel) -> nn.Module:
    if isinstance(source, ExportedModel):
        from .programs import read_program

        return read_program(source.path)
    model = source.build()
    source.release()
    return BothOutputs(model)


def choose_device(device: str) -> torch.device:
    """The device of a name; "auto" takes a GPU where there is one. Raises ConfigError."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)  # says whether this machine has it
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device is {device!r}, which cannot be used here ({reason}); use auto, cpu, cuda, "
            "cuda:N or mps."
        ) from error
    return chosen
