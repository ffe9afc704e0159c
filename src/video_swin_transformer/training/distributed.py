"""The processes that train together, by accelerate, and what a run needs of each."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

import torch

from ..errors import ConfigError, MissingExtraError
from ..telemetry import without_telemetry

if TYPE_CHECKING:
    from accelerate import Accelerator as Accelerator  # type: ignore[import-untyped]

_PRECISIONS = {"f32": "no", "bf16": "bf16", "fp16": "fp16"}
DEVICES = ("auto", "cpu")

T = TypeVar("T")


def open_accelerator(precision: str, device: str = "auto") -> Accelerator:
    """Finds the other processes and the device: one process, or those of `accelerate launch` or
    `torchrun`. The batch and the learning rate are the recipe's, not accelerate's.

    Raises ConfigError for a precision that the device does not have.
    """
    try:
        with without_telemetry():
            from accelerate import Accelerator
            from accelerate.state import AcceleratorState  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("accelerate", "train", "Training") from error
    if device not in DEVICES:
        raise ConfigError(f"device is {device!r}, but must be one of {', '.join(DEVICES)}.")
    on_cpu = device == "cpu" or not torch.accelerator.is_available()
    if precision == "fp16" and on_cpu:
        raise ConfigError(
            "precision is 'fp16', which needs a GPU; on a processor take run.precision=bf16 or f32."
        )
    # accelerate remembers the settings of the first training in a program, which need not be ours.
    alone = int(os.environ.get("WORLD_SIZE", "1") or 1) == 1
    AcceleratorState._reset_state(reset_partial_state=alone)
    return Accelerator(cpu=on_cpu, mixed_precision=_PRECISIONS[precision])


def retain_freed_memory() -> None:
    """Tells glibc to keep freed blocks, which the next step asks for again. By itself it gives
    those above 32 MB back to the system, which fetches and clears them anew: 7 % of the processor
    time of Swin-T with 4 clips of 16x112x112. For a training on a processor; nothing elsewhere."""
    if platform.libc_ver()[0] != "glibc":
        return
    options = ((-1, 1 << 30), (-2, 1 << 28), (-3, 1 << 30))  # when to trim, how much to pad, mmap
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        for option, value in options:
            libc.mallopt(option, value)


def gather_objects(value: T, accelerator: Accelerator) -> list[T]:
    """The values of all processes, in their order."""
    if accelerator.num_processes == 1:
        return [value]
    from accelerate.utils import gather_object  # type: ignore[import-untyped]

    return list(gather_object([value]))


def num_readers(wanted: int | None, num_local_processes: int) -> int:
    """Processes that read clips, for each that trains: one a core on the side, at most 8."""
    if wanted is not None:
        return wanted
    cores = (os.cpu_count() or 1) // num_local_processes
    return max(1, min(8, cores - 1 if torch.cuda.is_available() else cores // 2))


def local_processes() -> int:
    """How many processes train on this machine."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1") or 1))


@contextlib.contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """On a processor, the same numbers in every run: some sums are otherwise taken in the order in
    which threads come along. A GPU is left to its fastest kernels."""
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


@dataclass
class StopSignal:
    """Set by Ctrl-C or SIGTERM; a second one stops at once."""

    number: int | None = field(default=None)

    def __bool__(self) -> bool:
        return self.number is not None


@contextlib.contextmanager
def stop_signal() -> Iterator[StopSignal]:
    """Turns SIGINT and SIGTERM into a wish to stop, so that the run can write itself down."""
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def wish(number: int, frame: FrameType | None) -> None:
        if stop:
            raise KeyboardInterrupt
        stop.number = number

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, wish) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
