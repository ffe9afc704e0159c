"""Eager PyTorch on the CPU, CUDA or MPS, for weights and for exported programs.

The GPU paths have not been run on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..config import BundleConfig, ClipShape
from ..errors import ConfigError, DeviceMemoryError
from ..model import VideoSwinTransformer
from ..postprocess import Floats, ViewOutputs
from ..preprocess import check_views

# Input values per forward pass: four views of 32 x 224 x 224. More brings no speed on a CPU and
# takes memory; a small network gets a correspondingly larger batch.
MAX_BATCH_ELEMENTS = 4 * 3 * 32 * 224 * 224

Forward = Callable[[Tensor], tuple[Tensor, Tensor]]


class TorchRuntime:
    """Runs a network or an exported program; see `runtimes.Runtime`.

    Args:
        network: `VideoSwinTransformer`, or a module views (B, C, T, H, W) -> logits and features.
        bundle: the settings of the model.
        precision: "f32" or "bf16" (autocast).
        device: see `choose_device`.
        clip_shape: the only shape that `network` accepts, None for any.
        threads: number of CPU threads, None for torch's default.
    """

    selection_reason = ""

    def __init__(
        self,
        network: nn.Module,
        bundle: BundleConfig,
        precision: str,
        device: str = "auto",
        clip_shape: ClipShape | None = None,
        threads: int | None = None,
    ) -> None:
        self._threads = threads
        set_num_threads(threads)
        self.device = choose_device(device)
        self._forward: Forward = network.to(self.device)
        if isinstance(network, VideoSwinTransformer):
            self._forward = network.logits_and_features
        self.bundle = bundle
        self._dtype = torch.bfloat16 if precision == "bf16" else None
        self._clip_shape = clip_shape
        self.description = f"torch {torch.__version__} on {self.device}, {precision}"

    def run(self, views: Floats) -> ViewOutputs:
        check_views(views, self.bundle.model.in_chans, self._clip_shape)
        set_num_threads(self._threads)
        batch_size = max_batch_size(views.shape[1:])
        outputs: list[ViewOutputs] = []
        start = 0
        while start < len(views):
            try:
                outputs.append(self._run_batch(views[start : start + batch_size]))
            except torch.OutOfMemoryError:  # GPUs only: halve the batch until it fits
                if batch_size == 1:
                    raise DeviceMemoryError(
                        f"One view of shape {views.shape[1:]} does not fit into the memory of "
                        f"{self.device}; use the CPU or a smaller model."
                    ) from None
                batch_size //= 2
                continue
            start += batch_size
        return outputs[0] if len(outputs) == 1 else ViewOutputs.concatenate(outputs)

    @torch.inference_mode()
    def _run_batch(self, views: Floats) -> ViewOutputs:
        x = torch.from_numpy(views).to(self.device)
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None):
            logits, features = self._forward(x)
        return ViewOutputs(logits.float().cpu().numpy(), features.float().cpu().numpy())


def max_batch_size(clip_shape: tuple[int, ...]) -> int:
    """Number of views of a shape per forward pass."""
    return max(1, MAX_BATCH_ELEMENTS // math.prod(clip_shape))


def set_num_threads(threads: int | None) -> None:
    """Sets the number of threads torch uses for the calling thread; None leaves it.

    torch keeps the number for the whole process, but a thread that has used torch before keeps its
    own (OpenMP). A different number sums in a different order, so each call sets it.
    """
    if threads is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def choose_device(device: str) -> torch.device:
    """The device of a name; "auto" is a GPU if there is one. Raises ConfigError."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)  # fails if this machine does not have it
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device is {device!r}, which cannot be used here ({reason}); use auto, cpu, cuda, "
            "cuda:N or mps."
        ) from error
    return chosen
