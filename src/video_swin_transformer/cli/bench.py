"""videoswin bench: the speed of a model in every runtime and precision."""

from __future__ import annotations

import dataclasses
import json as json_module
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigError, counted
from .console import progress_bar, refuse_without_effect, say, text_table
from .options import Force, Model, Threads

if TYPE_CHECKING:
    from ..bench import RuntimeTiming, Timed

_REFERENCE = "torch:f32"
DEFAULT_RUNTIMES = (_REFERENCE, "torch:bf16", "onnxruntime:f32", "openvino:f32", "openvino:bf16")


EXAMPLES = (
    "videoswin bench --model swin-t",
    "videoswin bench --runtime openvino:bf16 --rounds 10 --json timings.json",
)


def bench(
    context: typer.Context,
    model: Model = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:TYPE",
            help="Runtime and precision, such as openvino:bf16. Repeatable.",
            show_default=", ".join(DEFAULT_RUNTIMES),
        ),
    ] = None,
    exported: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Also time this exported model. Repeatable."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Number of views per call.")] = 1,
    rounds: Annotated[
        int, typer.Option(min=1, help="Number of rounds; the median is reported.")
    ] = 5,
    memory: Annotated[
        bool, typer.Option("--memory", help="Also measure the peak memory of each runtime.")
    ] = False,
    threads: Threads = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the results as JSON.")
    ] = None,
    force: Force = False,
) -> int:
    """Benchmark a model in every installed runtime, with interleaved runs."""
    import numpy as np

    from .. import bench as measure
    from ..files import check_output, write_atomic

    requested = [
        _parse_runtime(text) for text in dict.fromkeys((_REFERENCE, *(runtime or DEFAULT_RUNTIMES)))
    ]
    if json is None:
        refuse_without_effect(context, ["force"], "without --json")
    else:
        check_output(json, "a file of bench results", _is_results, force=force)
    with _source(model) as source:
        # Those asked for must run; of the default ones, those that this machine lacks are left out.
        runtimes = measure.open_runtimes(source, requested, threads, require_all=bool(runtime))
        runtimes |= measure.open_exported(exported or (), threads)
        bundle = next(iter(runtimes.values())).bundle
        size = bundle.preprocessing.crop_size
        shape = (batch, bundle.model.in_chans, bundle.sampling.num_frames, size, size)
        views = np.random.default_rng(0).standard_normal(shape, np.float32)
        products = {name: measure.matrix_product(name) for name in ("f32", "bf16")}
        with progress_bar("timing") as progress:
            timings, others = measure.time_runtimes(runtimes, views, rounds, products, progress)
        operations = measure.count_operations(source, shape)
        exported_paths = {path.name: str(path) for path in exported or ()}
        peaks: dict[tuple[str, str], float | None] = dict.fromkeys(runtimes)
        for name, precision in runtimes if memory else ():
            kind = "auto" if name in exported_paths else name
            peaks[name, precision] = measure.peak_memory_mib(
                exported_paths.get(name, source), kind, precision, shape, threads
            )
    sizes = "x".join(map(str, shape))
    say(f"{model or 'camera-motion'}, {sizes}, median of {counted(rounds, 'round')}")
    print(text_table(_rows(timings, peaks, batch)))
    for name, timed in others.items():
        rate = measure.product_rate(timed)
        print(
            f"a large matrix product reaches {rate / 1e9:.0f} GFLOP/s in {name}; at that rate, the "
            f"model's {operations / 1e9:.1f} GFLOP would take {operations / rate:.3f} s"
        )
    if json is not None:
        data = _figures(timings, others, peaks, shape, operations)
        write_atomic(json, (json_module.dumps(data, indent=2) + "\n").encode())
    return 0


def _is_results(path: Path) -> bool:
    from ..files import is_json_with

    return is_json_with(path, "views", "runtimes", "matrix_products")


def _parse_runtime(text: str) -> tuple[str, str]:
    runtime, _, precision = text.partition(":")
    if not precision:
        raise ConfigError(
            f"--runtime is {text!r}, but must be RUNTIME:PRECISION, such as openvino:bf16."
        )
    return runtime, precision


@contextmanager
def _source(model: str | None) -> Iterator[str]:
    """The model to time, with random weights if the trained ones are not downloaded."""
    import os
    from tempfile import TemporaryDirectory

    from ..registry import DEFAULT_MODEL, find_card
    from ..weights import create_model, pretrained_folder

    source = model or DEFAULT_MODEL
    if os.path.exists(source) or pretrained_folder(find_card(source)) is not None:  # noqa: PTH110
        yield source
        return
    say(f"{source} is not downloaded; timing random weights, which run equally fast.")
    with TemporaryDirectory() as folder:
        create_model(source).save_pretrained(folder)
        yield folder


def _rows(
    timings: list[RuntimeTiming], peaks: dict[tuple[str, str], float | None], batch: int
) -> list[tuple[str, ...]]:
    slowest = timings[0].timed.median_seconds  # torch f32, the reference
    rows: list[tuple[str, ...]] = [
        ("runtime", "seconds", "views/s", "ratio", "relative error", "peak memory")
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
    runtimes = [
        {**dataclasses.asdict(t), "peak_memory_mib": peaks[t.runtime, t.precision]} for t in timings
    ]
    products = {name: dataclasses.asdict(timed) for name, timed in others.items()}
    return {
        "views": shape,
        "operations": operations,
        "runtimes": runtimes,
        "matrix_products": products,
    }
