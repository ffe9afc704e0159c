"""How fast a model runs on this machine: engines and precisions side by side, in alternation.

Times on a shared or throttled machine drift by tens of percent within minutes. So everything that
is compared runs in one process, in turn, round after round, and the medians are compared.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import ConfigError, MissingExtraError, VideoSwinError
from .exporters.sidecar import read_exported_model
from .runtimes import Runtime, open_runtime
from .verification import relative_error

Views = npt.NDArray[np.float32]

PRODUCT_SIZE = 4096  # of the matrix product that stands for what this machine can do
_REFERENCE = ("torch", "f32")


@dataclass(frozen=True)
class Timed:
    """Seconds of one thing in each round, after a warm-up round that is not counted."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class RuntimeTiming:
    """One engine at one precision: its times and how far its logits are from f32 PyTorch's."""

    runtime: str
    precision: str
    description: str
    timed: Timed
    relative_error: float


def alternate(
    calls: Mapping[str, Callable[[], object]],
    num_rounds: int,
    show: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Timed]:
    """Runs every call once a round, in turn, and a round before that to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    total = (num_rounds + 1) * len(calls)
    for number in range(num_rounds + 1):
        for place, (name, call) in enumerate(calls.items(), start=1):
            began = time.perf_counter()
            call()
            took = time.perf_counter() - began
            if number > 0:
                seconds[name].append(took)
            show(number * len(calls) + place, total)
    return {name: Timed(name, tuple(values)) for name, values in seconds.items()}


def open_runtimes(
    source: str | Path,
    wanted: Iterable[tuple[str, str]],
    threads: int | None,
    tell: Callable[[str], None],
) -> dict[tuple[str, str], Runtime]:
    """The engines of (runtime, precision) pairs; tells of those that this machine has not, and why.

    Raises UnknownNameError, CheckpointError.
    """
    opened: dict[tuple[str, str], Runtime] = {}
    for runtime, precision in wanted:
        try:
            opened[runtime, precision] = open_runtime(
                source, runtime, precision, device="cpu", threads=threads
            )
        except (ConfigError, MissingExtraError) as error:
            tell(f"{runtime} {precision}: left out. {error}")
    return opened


def open_exported(paths: Iterable[Path], threads: int | None) -> dict[tuple[str, str], Runtime]:
    """The engines of exported models, by file name and precision. Raises CheckpointError."""
    return {
        (path.name, read_exported_model(path).precision): open_runtime(
            path, device="cpu", threads=threads
        )
        for path in paths
    }


def time_runtimes(
    engines: Mapping[tuple[str, str], Runtime],
    views: Views,
    num_rounds: int,
    others: Mapping[str, Callable[[], object]],
    show: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[RuntimeTiming], dict[str, Timed]]:
    """Times of engines on the same views, and of other calls in the same rounds.

    Errors are against f32 PyTorch, which must be among the engines.
    """
    if _REFERENCE not in engines:
        raise ConfigError(
            "A benchmark compares with torch at f32, which could not be opened for this model; "
            "give a model that PyTorch can load, not an exported file."
        )
    logits = {key: engine.run(views).logits for key, engine in engines.items()}
    calls: dict[str, Callable[[], object]] = {
        " ".join(key): lambda engine=engine: engine.run(views)  # type: ignore[misc]
        for key, engine in engines.items()
    }
    timed = alternate({**calls, **others}, num_rounds, show)
    timings = [
        RuntimeTiming(
            runtime=key[0],
            precision=key[1],
            description=engine.description,
            timed=timed[" ".join(key)],
            relative_error=relative_error([logits[_REFERENCE]], [logits[key]]),
        )
        for key, engine in engines.items()
    ]
    return timings, {name: timed[name] for name in others}


def matrix_product(precision: str) -> Callable[[], object]:
    """A call that multiplies two large matrices in PyTorch: the rate to measure up to."""
    import torch

    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
    left, right = (torch.randn(PRODUCT_SIZE, PRODUCT_SIZE).to(dtype) for _ in range(2))
    return lambda: left @ right


def product_rate(timed: Timed) -> float:
    """Floating-point operations a second of a timed `matrix_product`."""
    return 2 * PRODUCT_SIZE**3 / timed.median_seconds


def count_operations(source: str | Path, views_shape: Sequence[int]) -> int:
    """Floating-point operations of the matrix products and convolutions of one pass."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from .weights import load_model

    model = load_model(source)
    # With gradients on the network works on whole tensors, so nothing is counted piece by piece.
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
    """Highest resident set of a fresh process that runs an engine twice, interpreter included.

    None where the system does not tell (only Linux does).
    """
    if not Path("/proc/self/status").exists():
        return None
    arguments = map(str, (source, runtime, precision, threads or 0, *views_shape))
    done = subprocess.run(
        [sys.executable, "-m", __name__, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise VideoSwinError(
            f"The process that measures the memory of {runtime} {precision} ended with "
            f"{done.returncode}: {done.stderr.strip().splitlines()[-1:]}."
        )
    return float(done.stdout.split()[-1])


def own_peak_memory_mib() -> float:
    """Highest resident set of this process so far. Linux only.

    Not getrusage's figure, which in a child begins with that of the process that started it.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _print_peak_memory(arguments: Sequence[str]) -> None:
    source, runtime, precision, num_threads, *shape = arguments
    threads = int(num_threads) or None  # 0 stands for None on the command line
    engine = open_runtime(source, runtime, precision, device="cpu", threads=threads)
    views = np.random.default_rng(0).standard_normal(tuple(map(int, shape)), np.float32)
    for _ in range(2):
        engine.run(views)
    print(own_peak_memory_mib())


if __name__ == "__main__":
    _print_peak_memory(sys.argv[1:])
