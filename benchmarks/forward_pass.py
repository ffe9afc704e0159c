"""One pass of the network: every runtime of ours, torchvision's swin3d and a matrix product."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers import torchvision_twin
from video_swin_transformer import load_model
from video_swin_transformer.bench import (
    count_operations,
    matrix_product,
    own_peak_memory_mib,
    peak_memory_mib,
    product_rate,
    time_runtimes,
)
from video_swin_transformer.runtimes import Runtime
from video_swin_transformer.verification import relative_error

Views = NDArray[np.float32]
PEER = "torchvision f32"


@torch.inference_mode()
def peer_logits(peer: torch.nn.Module, views: Views) -> Views:
    """What torchvision's network says of (V, C, T, H, W) views."""
    return peer(torch.from_numpy(views)).numpy()


@torch.inference_mode()
def _peer_logits_bf16(peer: torch.nn.Module, views: Views) -> Views:
    with torch.autocast("cpu", torch.bfloat16):
        return peer(torch.from_numpy(views)).float().numpy()


def compare(
    source: Path, runtimes: Mapping[tuple[str, str], Runtime], views: Views, num_rounds: int
) -> dict[str, Any]:
    """Median seconds, ratio to torchvision and error of each runtime, in one process, in turn."""
    peer = torchvision_twin(load_model(source))
    others = {
        PEER: lambda: peer_logits(peer, views),
        "torchvision bf16": lambda: _peer_logits_bf16(peer, views),
        "product f32": matrix_product("f32"),
        "product bf16": matrix_product("bf16"),
    }
    expected = peer_logits(peer, views)
    timings, timed = time_runtimes(runtimes, views, num_rounds, others)
    base = timed[PEER].median_seconds
    rows = {
        t.timed.name: {
            "seconds": t.timed.median_seconds,
            "ratio": base / t.timed.median_seconds,
            "relative_error": relative_error(
                [expected], [runtimes[t.runtime, t.precision].run(views).logits]
            ),
        }
        for t in timings
    }
    for name in (PEER, "torchvision bf16"):
        seconds = timed[name].median_seconds
        rows[name] = {"seconds": seconds, "ratio": base / seconds}
    rows[PEER]["relative_error"] = 0.0
    rows["torchvision bf16"]["relative_error"] = relative_error(
        [expected], [_peer_logits_bf16(peer, views)]
    )
    with torch.no_grad():
        operations = count_operations(source, views.shape)
    products = {
        precision: {
            "operations_per_second": (rate := product_rate(timed[f"product {precision}"])),
            "ratio_at_that_rate": base / (operations / rate),
        }
        for precision in ("f32", "bf16")
    }
    return {
        "views": views.shape,
        "num_rounds": num_rounds,
        "num_threads": torch.get_num_threads(),
        "operations": operations,
        "runtimes": rows,
        "matrix_products": products,
    }


def memory(
    source: Path, sources: Mapping[tuple[str, str], Path], batches: tuple[int, ...], threads: int
) -> dict[str, dict[str, float | None]]:
    """Peak memory in MiB of a process of its own for each runtime and batch."""
    shape = (3, 32, 224, 224)
    table: dict[str, dict[str, float | None]] = {PEER: {}}
    for batch in batches:
        table[PEER][str(batch)] = _peer_memory_mib(source, (batch, *shape), threads)
        for (runtime, precision), path in sources.items():
            row = table.setdefault(f"{runtime} {precision}", {})
            name = "auto" if path.is_file() else runtime
            row[str(batch)] = peak_memory_mib(path, name, precision, (batch, *shape), threads)
    return table


def _peer_memory_mib(source: Path, shape: tuple[int, ...], threads: int) -> float:
    command = [sys.executable, "-m", __name__, str(source), str(threads), *map(str, shape)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _print_peer_memory(source: str, threads: str, *shape: str) -> None:
    torch.set_num_threads(int(threads))
    peer = torchvision_twin(load_model(source))
    views = np.random.default_rng(0).standard_normal(tuple(map(int, shape)), np.float32)
    for _ in range(2):
        peer_logits(peer, views)
    print(own_peak_memory_mib())


if __name__ == "__main__":
    _print_peer_memory(*sys.argv[1:])
