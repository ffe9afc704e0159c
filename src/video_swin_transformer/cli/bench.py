"""videoswin bench: how fast is a model on this machine, in every engine and precision?"""

from __future__ import annotations

import dataclasses
import json as json_module
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Model, Threads
from .output import progress_bar, say, text_table

if TYPE_CHECKING:
    from ..bench import RuntimeTiming, Timed

_REFERENCE = "torch:f32"
DEFAULT_RUNTIMES = (_REFERENCE, "torch:bf16", "onnxruntime:f32", "openvino:f32", "openvino:bf16")


def bench(
    model: Model = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:TYPE",
            help="Runtime and precision, such as openvino:bf16. Repeatable. "
            f"[default: {', '.join(DEFAULT_RUNTIMES)}]",
        ),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="An exported model to time beside; may be repeated."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Views that go through at once.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, of which medians are taken.")] = 5,
    memory: Annotated[
        bool, typer.Option("--memory", help="Also measure the peak memory of each engine.")
    ] = False,
    threads: Threads = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write all figures to this file.")
    ] = None,
) -> int:
    """Time a model in every engine that is installed, side by side."""
    import numpy as np

    from .. import bench as measure
    from ..files import write_atomic

    wanted = [_engine(text) for text in dict.fromkeys((_REFERENCE, *(engine or DEFAULT_RUNTIMES)))]
    with _source(model) as source:
        engines = measure.open_runtimes(source, wanted, threads, say)
        engines |= measure.open_exported(also or (), threads)
        bundle = next(iter(engines.values())).bundle
        size = bundle.preprocessing.crop_size
        shape = (batch, bundle.model.in_chans, bundle.sampling.num_frames, size, size)
        views = np.random.default_rng(0).standard_normal(shape, np.float32)
        products = {name: measure.matrix_product(name) for name in ("f32", "bf16")}
        with progress_bar("timing") as show:
            timings, others = measure.time_runtimes(engines, views, rounds, products, show)
        operations = measure.count_operations(source, shape)
        exported = {path.name: str(path) for path in also or ()}
        peaks: dict[tuple[str, str], float | None] = dict.fromkeys(engines)
        for name, precision in engines if memory else ():
            runtime = "auto" if name in exported else name
            peaks[name, precision] = measure.peak_memory_mib(
                exported.get(name, source), runtime, precision, shape, threads
            )
    say(f"{model or 'camera-motion'}, {'x'.join(map(str, shape))}, median of {rounds} rounds")
    print(text_table(_rows(timings, peaks, batch)))
    for name, timed in others.items():
        rate = measure.product_rate(timed)
        print(
            f"a large matrix product runs at {rate / 1e9:.0f} GFLOP/s in {name}; the network's "
            f"{operations / 1e9:.1f} GFLOP would take {operations / rate:.3f} s"
        )
    if json is not None:
        data = _figures(timings, others, peaks, shape, operations)
        write_atomic(json, (json_module.dumps(data, indent=2) + "\n").encode())
    return 0


def _engine(text: str) -> tuple[str, str]:
    from ..errors import ConfigError

    runtime, _, precision = text.partition(":")
    if not precision:
        raise ConfigError(
            f"engine is {text!r}, but must be an engine and a precision, such as openvino:bf16."
        )
    return runtime, precision


@contextmanager
def _source(model: str | None) -> Iterator[str]:
    """The model to time: itself where its weights are at hand, else its network with random
    weights, which take the same time."""
    import os
    from tempfile import TemporaryDirectory

    from ..registry import DEFAULT_MODEL, find_card
    from ..weights import create_model, pretrained_folder

    source = model or DEFAULT_MODEL
    if os.path.exists(source) or pretrained_folder(find_card(source)) is not None:  # noqa: PTH110
        yield source
        return
    say(f"{source}: timed with random weights; they take the same time as trained ones.")
    with TemporaryDirectory() as folder:
        create_model(source).save_pretrained(folder)
        yield folder


def _rows(
    timings: list[RuntimeTiming], peaks: dict[tuple[str, str], float | None], batch: int
) -> list[tuple[str, ...]]:
    slowest = timings[0].timed.median_seconds  # torch f32, what the others are compared with
    rows: list[tuple[str, ...]] = [
        ("engine", "seconds", "views/s", "ratio", "relative error", "peak memory")
    ]
    for timing in timings:
        seconds = timing.timed.median_seconds
        peak = peaks[timing.runtime, timing.precision]
        rows.append(
            (
                timing.timed.name,
                f"{seconds:.4f}",
                f"{batch / seconds:.2f}",
                f"{slowest / seconds:.2f}",
                f"{timing.relative_error:.1e}",
                "-" if peak is None else f"{peak:.0f} MiB",
            )
        )
    return rows


def _figures(
    timings: list[RuntimeTiming],
    others: dict[str, Timed],
    peaks: dict[tuple[str, str], float | None],
    shape: tuple[int, ...],
    operations: int,
) -> dict[str, Any]:
    engines = [
        {**dataclasses.asdict(t), "peak_memory_mib": peaks[t.runtime, t.precision]} for t in timings
    ]
    products = {name: dataclasses.asdict(timed) for name, timed in others.items()}
    return {
        "views": shape,
        "operations": operations,
        "engines": engines,
        "matrix_products": products,
    }
