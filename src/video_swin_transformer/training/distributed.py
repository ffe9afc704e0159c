"""Processes, devices, memory and signals of a run; processes and devices through accelerate."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import platform
import re
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from ..errors import ConfigError, DeviceMemoryError, MissingExtraError, counted
from ..telemetry import without_telemetry

if TYPE_CHECKING:
    from accelerate import Accelerator as Accelerator  # type: ignore[import-untyped]

T = TypeVar("T")

_PRECISIONS = {"f32": "no", "bf16": "bf16", "fp16": "fp16"}
_DEVICE = re.compile(r"auto|cpu|mps|cuda(?::(\d+))?")
_MAX_WORKERS = 8

# --- processes and devices ------------------------------------------------------------------------


def open_accelerator(precision: str, device: str = "auto") -> Accelerator:
    """Connects the processes of `torchrun` or `accelerate launch`, if any, and selects the device.

    Batch size and learning rate are those of the recipe; accelerate does not scale them.

    Args:
        precision: "f32", "bf16" or "fp16".
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        ConfigError: This machine does not have the device, or the device not the precision.
    """
    try:
        with without_telemetry():
            from accelerate import Accelerator
            from accelerate.state import AcceleratorState  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("accelerate", "train", "Training") from error
    is_single = int(os.environ.get("WORLD_SIZE", "1") or 1) == 1
    _check_device(device, is_single)
    on_cpu = device == "cpu" or not torch.accelerator.is_available()
    if precision == "fp16" and on_cpu:
        raise ConfigError(
            "run.precision is fp16, which needs a GPU; on a CPU use run.precision=bf16 or f32."
        )
    if device.startswith("cuda:"):
        torch.cuda.set_device(torch.device(device))
    # accelerate keeps the settings of the first training in a program; this run has its own.
    AcceleratorState._reset_state(reset_partial_state=is_single)
    return Accelerator(cpu=on_cpu, mixed_precision=_PRECISIONS[precision])


def _check_device(device: str, is_single: bool) -> None:
    match = _DEVICE.fullmatch(device)
    if match is None:
        raise ConfigError(
            f"device is {device!r}, but must be auto, cpu, cuda, cuda:N (such as cuda:0) or mps."
        )
    if device == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device is 'mps', but this machine has no Apple GPU; use auto or cpu.")
    if not device.startswith("cuda"):
        return
    if not torch.cuda.is_available():
        raise ConfigError(
            f"device is {device!r}, but PyTorch finds no CUDA GPU on this machine; use auto or cpu."
        )
    if match[1] is None:
        return
    if not is_single:
        raise ConfigError(
            f"device is {device!r}, but this run has several processes, each with its own GPU; use "
            "auto or cuda."
        )
    count = torch.cuda.device_count()
    if int(match[1]) >= count:
        raise ConfigError(f"device is {device!r}, but this machine has only cuda:0 to {count - 1}.")


def local_world_size() -> int:
    """Returns the number of training processes on this machine."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1") or 1))


def num_dataloader_workers(num_workers: int | None) -> int:
    """Returns the number of data loading workers per training process.

    Args:
        num_workers: The setting of the recipe. None uses half of the cores without a GPU, else all
            cores except one, at most 8.
    """
    if num_workers is not None:
        return num_workers
    cores = (os.cpu_count() or 1) // local_world_size()
    return max(1, min(_MAX_WORKERS, cores - 1 if torch.cuda.is_available() else cores // 2))


def gather_objects(value: T, accelerator: Accelerator) -> list[T]:
    """The values of all processes, in the order of their ranks."""
    if accelerator.num_processes == 1:
        return [value]
    from accelerate.utils import gather_object  # type: ignore[import-untyped]

    return list(gather_object([value]))


@contextlib.contextmanager
def log_on_main_process_only(is_main_process: bool) -> Iterator[None]:
    """In all other processes, the log messages of this package's training are off inside."""
    logger = logging.getLogger(__package__)
    before = logger.level
    if not is_main_process:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """On a CPU, uses deterministic algorithms; otherwise the order of some sums depends on timing.

    A GPU keeps its fastest kernels.
    """
    before = torch.are_deterministic_algorithms_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]


# --- memory ---------------------------------------------------------------------------------------

_RAM_FRACTION = 0.4  # the system, the workers and the checkpoints need memory as well
_GPU_FRACTION = 0.8
_SAFETY_FACTOR = 1.3  # gradients of activations and temporary memory of the backward pass
_MAX_MICRO_BATCH_SIZE = 64


def retain_freed_memory() -> None:
    """Tells glibc to keep freed memory for the next step; does nothing elsewhere.

    By default it returns blocks above 32 MB to the system, which has to clear them again: 7% of
    the CPU time of Swin-T with 4 clips of 16x112x112. Meant for training on a CPU.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    options = ((-1, 1 << 30), (-2, 1 << 28), (-3, 1 << 30))  # trim threshold, top pad, mmap
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        for option, value in options:
            libc.mallopt(option, value)


def activation_bytes(forward: Callable[[], Tensor], model: nn.Module) -> int:
    """Bytes that a forward pass keeps for its backward pass, without the parameters."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(saved.values())


def state_bytes(model: nn.Module) -> int:
    """Bytes of weights, gradients and the two moments of AdamW, in float32."""
    return sum(p.numel() * (16 if p.requires_grad else 4) for p in model.parameters())


def usable_bytes(device: torch.device) -> int:
    """Bytes that a process may use.

    On a CPU a fixed fraction of all memory, so that the same machine always chooses the same
    micro batch size.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1] * _GPU_FRACTION)
    import psutil  # type: ignore[import-untyped]

    return int(psutil.virtual_memory().total * _RAM_FRACTION / local_world_size())


def used_bytes(device: torch.device) -> int:
    """Bytes that this process uses now; on a CUDA GPU, the peak so far."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import psutil

    return int(psutil.Process(os.getpid()).memory_info().rss)


def max_micro_batch_size(bytes_per_clip: int, state: int, usable: int, limit: int) -> int:
    """How many clips fit in memory at the same time: at least 1, at most `limit`."""
    fitting = int((usable - state) / max(bytes_per_clip * _SAFETY_FACTOR, 1))
    return max(1, min(fitting, limit, _MAX_MICRO_BATCH_SIZE))


@contextlib.contextmanager
def device_memory_errors(micro_batch_size: int) -> Iterator[None]:
    """Turns PyTorch's out-of-memory errors, on a GPU or CPU, into `DeviceMemoryError`."""
    from accelerate.utils.memory import (  # type: ignore[import-untyped]
        should_reduce_batch_size as is_out_of_memory,
    )

    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        advice = "Set run.grad_checkpointing=true, or reduce clip.num_frames or clip.crop_size."
        if micro_batch_size > 1:
            advice = f"Set micro_batch_size={micro_batch_size // 2} or run.grad_checkpointing=true."
        raise DeviceMemoryError(
            f"Out of memory with {counted(micro_batch_size, 'clip')} per micro batch. {advice} "
            f"({str(error).splitlines()[0]})"
        ) from error


# --- signals --------------------------------------------------------------------------------------


@dataclass
class StopSignal:
    """The number of the signal that asked the run to stop; false as long as there was none."""

    number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None


@contextlib.contextmanager
def stop_signal() -> Iterator[StopSignal]:
    """Catches SIGINT and SIGTERM, so that the run can write a checkpoint and stop.

    A second signal raises KeyboardInterrupt.
    """
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request_stop(number: int, frame: FrameType | None) -> None:
        if stop:
            raise KeyboardInterrupt
        stop.number = number

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, request_stop) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
