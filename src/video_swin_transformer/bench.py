"""Measures how fast a model runs on this machine in each runtime and precision.

Timings on a shared or throttled machine drift by tens of percent within minutes. So everything
that is compared runs in one process, in alternation, and the medians over all rounds are compared.
"""

from __future__ import annotations

import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import ConfigError, MissingExtraError, VideoSwinError
from .exporters.sidecar import read_exported_model
from .preprocess import Views
from .runtimes import Runtime, open_runtime
from .runtimes.selection import check_threads
from .verification import relative_error

PRODUCT_SIZE = 4096  # of the matrix product that estimates the peak throughput of this machine
_REFERENCE = ("torch", "f32")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timed:
    """Seconds per call in each round, without the warm-up round."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median_seconds(self) -> float:
        """Median time per call in seconds."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class RuntimeTiming:
    """Timing of one runtime and precision, and the error of its logits relative to f32 PyTorch."""

    runtime: str
    precision: str
    description: str
    timed: Timed
    relative_error: float


def alternate(
    calls: Mapping[str, Callable[[], object]],
    num_rounds: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Timed]:
    """Times all calls in alternation, once per round, after one warm-up round.

    `progress(done, total)` is called after each call.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    total = (num_rounds + 1) * len(calls)
    for number in range(num_rounds + 1):
        for position, (name, call) in enumerate(calls.items(), start=1):
            start = time.perf_counter()
            call()
            elapsed = time.perf_counter() - start
            if number > 0:
                seconds[name].append(elapsed)
            progress(number * len(calls) + position, total)
    return {name: Timed(name, tuple(values)) for name, values in seconds.items()}


def open_runtimes(
    source: str | Path,
    requested: Iterable[tuple[str, str]],
    threads: int | None,
    *,
    require_all: bool = False,
) -> dict[tuple[str, str], Runtime]:
    """Opens (runtime, precision) pairs; logs and skips those unavailable on this machine.

    Raises UnknownNameError, CheckpointError; with `require_all` also ConfigError and
    MissingExtraError for one that is unavailable.
    """
    if threads is not None:
        check_threads(threads)
    opened: dict[tuple[str, str], Runtime] = {}
    for runtime, precision in requested:
        try:
            opened[runtime, precision] = open_runtime(
                source, runtime, precision, device="cpu", threads=threads
            )
        except (ConfigError, MissingExtraError) as error:
            if require_all:
                raise
            _log.info("Skipped %s %s: %s", runtime, precision, error)
    return opened


def open_exported(paths: Iterable[Path], threads: int | None) -> dict[tuple[str, str], Runtime]:
    """Opens exported models, by (file name, precision). Raises CheckpointError."""
    return {
        (path.name, read_exported_model(path).precision): open_runtime(
            path, device="cpu", threads=threads
        )
        for path in paths
    }


def time_runtimes(
    runtimes: Mapping[tuple[str, str], Runtime],
    views: Views,
    num_rounds: int,
    others: Mapping[str, Callable[[], object]],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[RuntimeTiming], dict[str, Timed]]:
    """Times runtimes on the same views, and other calls in the same rounds.

    Errors are relative to f32 PyTorch, which must be among the runtimes.
    """
    if _REFERENCE not in runtimes:
        raise ConfigError(
            "A benchmark compares with torch at f32, which could not be opened for this model; "
            "give a model that PyTorch can load, not an exported file."
        )
    logits = {key: runtime.run(views).logits for key, runtime in runtimes.items()}
    calls: dict[str, Callable[[], object]] = {
        " ".join(key): lambda runtime=runtime: runtime.run(views)  # type: ignore[misc]
        for key, runtime in runtimes.items()
    }
    timed = alternate({**calls, **others}, num_rounds, progress)
    timings = [
        RuntimeTiming(
            runtime=key[0],
            precision=key[1],
            description=runtime.description,
            timed=timed[" ".join(key)],
            relative_error=relative_error([logits[_REFERENCE]], [logits[key]]),
        )
        for key, runtime in runtimes.items()
    ]
    return timings, {name: timed[name] for name in others}


def matrix_product(precision: str) -> Callable[[], object]:
    """A call that multiplies two large matrices in PyTorch, an estimate of peak throughput."""
    import torch

    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
    left, right = (torch.randn(PRODUCT_SIZE, PRODUCT_SIZE).to(dtype) for _ in range(2))
    return lambda: left @ right


def product_rate(timed: Timed) -> float:
    """Floating-point operations per second of a timed `matrix_product`."""
    return 2 * PRODUCT_SIZE**3 / timed.median_seconds


def count_operations(source: str | Path, views_shape: Sequence[int]) -> int:
    """Floating-point operations of the matrix products and convolutions in one forward pass."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from .weights import load_model

    model = load_model(source)
    # With gradients enabled, the model processes whole tensors rather than chunks.
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(tuple(views_shape)))
    return int(counter.get_total_flops())


def peak_memory_mib(
    source: str | Path,
    runtime: str,
    precision: str,
    views_shape: Sequence[int],
    threads: int | None = None,
) -> float | None:
    """Peak resident set size in MiB of a new process that runs the model twice.

    Includes the interpreter. None on systems other than Linux.
    """
    if not Path("/proc/self/status").exists():
        return None
    arguments = map(str, (source, runtime, precision, threads or 0, *views_shape))
    done = subprocess.run(
        [sys.executable, "-m", __name__, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise VideoSwinError(
            f"The process that measures the memory of {runtime} {precision} exited with code "
            f"{done.returncode}: {done.stderr.strip().splitlines()[-1:]}."
        )
    return float(done.stdout.split()[-1])


def own_peak_memory_mib() -> float:
    """Peak resident set size of this process in MiB. Linux only.

    Unlike getrusage, it does not include the peak inherited from the parent process.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _print_peak_memory(arguments: Sequence[str]) -> None:
    source, runtime, precision, num_threads, *shape = arguments
    threads = int(num_threads) or None  # 0 means None on the command line
    opened = open_runtime(source, runtime, precision, device="cpu", threads=threads)
    views = np.random.default_rng(0).standard_normal(tuple(map(int, shape)), np.float32)
    for _ in range(2):
        opened.run(views)
    print(own_peak_memory_mib())


if __name__ == "__main__":
    _print_peak_memory(sys.argv[1:])
