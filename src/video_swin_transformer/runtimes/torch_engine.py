"""Eager PyTorch on the CPU, CUDA or MPS. The GPU paths are plain and untested on this project's
machines, which have none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ..config import BundleConfig
from ..errors import ConfigError
from ..weights import load_model
from .protocol import ViewOutputs

# Input values that go through the network at once: four views of 32 x 224 x 224. More brings no
# speed on a CPU and takes memory; a small network gets a correspondingly larger batch.
_VALUES_AT_ONCE = 4 * 3 * 32 * 224 * 224


class TorchRuntime:
    """See `runtimes.Runtime`."""

    def __init__(
        self, source: str | Path, precision: str, device: str, bundle: BundleConfig | None = None
    ) -> None:
        self.device = _choose_device(device)
        self._dtype = torch.bfloat16 if precision == "bf16" else None
        self._model = load_model(source, bundle).to(self.device)
        self.bundle: BundleConfig = self._model.bundle
        self.description = f"torch {torch.__version__} on {self.device}, {precision}"

    def run(self, views: npt.NDArray[np.float32]) -> ViewOutputs:
        at_once = max(1, _VALUES_AT_ONCE // max(views[0].size, 1))
        logits, features = [], []
        start = 0
        while start < len(views):
            try:
                one = self._forward(views[start : start + at_once])
            except torch.OutOfMemoryError:  # GPUs only: halve the chunk until it fits
                if at_once == 1:
                    raise ConfigError(
                        f"One view of shape {views.shape[1:]} does not fit into the memory of "
                        f"{self.device}; use --device cpu or a smaller model."
                    ) from None
                at_once //= 2
                continue
            logits.append(one.logits)
            features.append(one.features)
            start += at_once
        return ViewOutputs(np.concatenate(logits), np.concatenate(features))

    @torch.inference_mode()
    def _forward(self, views: npt.NDArray[np.float32]) -> ViewOutputs:
        x = torch.from_numpy(views).to(self.device)
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None):
            maps = self._model.forward_features(x)
            features = self._model.forward_head(maps, pre_logits=True)
            logits = self._model.forward_head(maps)
        return ViewOutputs(logits.float().cpu().numpy(), features.float().cpu().numpy())


def _choose_device(device: str) -> torch.device:
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
