"""Eager PyTorch on the CPU, CUDA or MPS, for weights and for exported programs.

The CUDA paths were run on an H100 (tests/test_gpu.py), MPS was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..config import BundleConfig, ClipShape
from ..errors import CheckpointError, ConfigError, DeviceMemoryError
from ..model import VideoSwinTransformer
from ..postprocess import Floats, ViewOutputs
from ..preprocess import check_views
from .cuda_graphs import CudaGraphs, Forward
from .protocol import RuntimeInfo

# Input values per forward pass: four views of 32 x 224 x 224. Larger batches are not faster on a
# CPU and need more memory.
MAX_BATCH_ELEMENTS = 4 * 3 * 32 * 224 * 224

T = TypeVar("T")


class TorchRuntime:
    """Runs a model or an exported program in eager PyTorch; see `Runtime`.

    Args:
        model: `VideoSwinTransformer`, or a module that maps views (B, C, T, H, W) to logits and
            features.
        bundle: Configuration of the model.
        precision: "f32" or "bf16" (autocast).
        device: See `choose_device`.
        fixed_shape: The only shape that `model` supports, (C, T, H, W); None for any.
        threads: Number of CPU threads; None for torch's default.

    Attributes:
        model: The network, on `device`.
        device: Where it runs.

    Raises:
        ConfigError: The device is not available.
    """

    selection_reason = ""

    def __init__(
        self,
        model: nn.Module,
        bundle: BundleConfig,
        precision: str,
        device: str = "auto",
        fixed_shape: ClipShape | None = None,
        threads: int | None = None,
    ) -> None:
        self._threads = threads
        set_num_threads(threads)
        self.device = choose_device(device)
        self.model = model.to(self.device)
        self._forward: Forward = self.model
        self._graphs: CudaGraphs | None = None
        if isinstance(model, VideoSwinTransformer):
            self._forward = model.logits_and_features
            if self.device.type == "cuda":
                self._forward = self._graphs = CudaGraphs(self._forward)
        self.bundle = bundle
        self._dtype = torch.bfloat16 if precision == "bf16" else None
        self._fixed_shape = fixed_shape
        self.info = RuntimeInfo("torch", torch.__version__, str(self.device), precision)
        self.description = str(self.info)

    def run(self, views: Floats) -> ViewOutputs:
        """Runs the model; see `Runtime.run`."""

        def outputs(x: Tensor) -> ViewOutputs:
            logits, features = self._forward(x)
            return ViewOutputs(logits.float().cpu().numpy(), features.float().cpu().numpy())

        parts = self.map_batches(views, outputs)
        return parts[0] if len(parts) == 1 else ViewOutputs.concatenate(parts)

    def map_batches(self, views: Floats, function: Callable[[Tensor], T]) -> list[T]:
        """Calls a function with batches of views that fit in memory.

        Args:
            views: (V, C, T, H, W) float32, normalized.
            function: Maps a batch on `device` to its result, in inference mode.

        Returns:
            The results of consecutive batches.

        Raises:
            ConfigError: The model does not support views of this shape.
            DeviceMemoryError: One view is too much.
        """
        shape = check_views(views, self.bundle.model.in_chans, self._fixed_shape)
        batch_size = max_batch_size(shape)
        results: list[T] = []
        start = 0
        while start < len(views):
            batch = views[start : start + batch_size]
            try:
                with self.inference():
                    results.append(function(torch.from_numpy(batch).to(self.device)))
            except RuntimeError as error:  # on a GPU: halve the batch until it fits
                if not _is_out_of_memory(error):
                    if self._fixed_shape is None:
                        raise
                    raise CheckpointError(
                        f"The exported program cannot be run ({str(error).splitlines()[0]}); "
                        "export it again."
                    ) from error
                if self._graphs is not None and self._graphs.release():
                    continue  # the same batch again
                if batch_size == 1:
                    raise DeviceMemoryError(
                        f"One view of shape {shape} does not fit in the memory of "
                        f"{self.device}; use the CPU or a smaller model."
                    ) from None
                batch_size //= 2
                continue
            start += batch_size
        return results

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Computes without gradients, with the threads and the precision of this runtime."""
        set_num_threads(self._threads)
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None),
        ):
            yield


def _is_out_of_memory(error: RuntimeError) -> bool:
    # MPS has no error class of its own.
    return isinstance(error, torch.OutOfMemoryError) or "MPS backend out of memory" in str(error)


def max_batch_size(clip_shape: tuple[int, ...]) -> int:
    """Returns the number of views per forward pass.

    Args:
        clip_shape: Shape of one view, (C, T, H, W).
    """
    return max(1, MAX_BATCH_ELEMENTS // math.prod(clip_shape))


def set_num_threads(threads: int | None) -> None:
    """Sets the number of CPU threads of torch; None leaves it unchanged.

    The setting is process-wide, but OpenMP keeps a separate value for each thread that has used
    torch before. Since the number of threads affects the order of summation, it is set before each
    run.

    Args:
        threads: Number of threads.
    """
    if threads is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def choose_device(device: str) -> torch.device:
    """Returns the torch device for a name.

    Args:
        device: "auto" (a GPU if available), "cpu", "cuda", "cuda:N" or "mps".

    Returns:
        The device.

    Raises:
        ConfigError: The device is unknown or not available.
    """
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
        kind = device.partition(":")[0]
        if kind not in ("cpu", "cuda", "mps"):
            hint = "Did you mean 'cuda'? " if kind in ("gpu", "nvidia") else ""
            raise ConfigError(
                f"device is {device!r}, but must be auto, cpu, cuda, cuda:N or mps. {hint}".strip()
            ) from error
        reason = str(error).splitlines()[0].partition(". ")[0].rstrip(".")
        raise ConfigError(
            f"device is {device!r}, which is not available ({reason}); use auto, cpu, cuda, "
            "cuda:N or mps."
        ) from error
    return chosen
