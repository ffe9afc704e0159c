"""One pass and one training step on a CUDA GPU, against torchvision's swin3d.

python -m benchmarks.gpu swin-t swin-b --out gpu.json
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers import torchvision_twin
from video_swin_transformer import create_model

SHAPE = (3, 32, 224, 224)
ROUNDS = 7
SECONDS_PER_ROUND = 0.3


def _seconds(call: Callable[[], object], repeats: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(repeats):
        call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000 / repeats


def _measure(calls: dict[str, Callable[[], object]]) -> dict[str, dict[str, float]]:
    """Median seconds of each call, measured in turn, and its peak memory in MiB."""
    rows: dict[str, dict[str, float]] = {}
    repeats = {}
    for name, call in calls.items():
        call()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        repeats[name] = max(1, round(SECONDS_PER_ROUND / _seconds(call, 2)))
        rows[name] = {"peak_mib": (torch.cuda.max_memory_allocated() - before) / 2**20}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            times[name].append(_seconds(call, repeats[name]))
    for name, row in rows.items():
        row["seconds"] = statistics.median(times[name])
    return rows


def _forward(network: nn.Module, x: Tensor, bf16: bool) -> Callable[[], object]:
    def call() -> object:
        with (
            torch.inference_mode(),
            # A cached weight must not be shared with a graph.
            torch.autocast("cuda", torch.bfloat16, enabled=bf16, cache_enabled=False),
        ):
            return network(x)

    return call


def _replay(call: Callable[[], object]) -> Callable[[], object]:
    """The kernels of a call as one CUDA graph, as the torch runtime runs them."""
    for _ in range(2):
        call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def _step(network: nn.Module, x: Tensor, bf16: bool) -> Callable[[], object]:
    labels = torch.zeros(len(x), dtype=torch.long, device="cuda")

    def call() -> object:
        network.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            loss = nn.functional.cross_entropy(network(x), labels)
        return loss.backward()  # type: ignore[no-untyped-call]

    return call


def measure(name: str, batch: int, compile: bool) -> dict[str, Any]:
    """Forward passes in f32 and bf16, eager and in other ways, and training steps of a network."""
    torch.manual_seed(0)
    model = create_model(name).eval()
    peer = torchvision_twin(model).cuda()
    model.cuda()
    x = torch.randn(batch, *SHAPE, device="cuda")
    networks = {"torchvision": peer, "ours": model}
    if compile:
        networks |= {f"{title} compiled": torch.compile(one) for title, one in networks.items()}
    forward = _measure(
        {
            f"{title} {'bf16' if bf16 else 'f32'}": _forward(network, x, bf16)
            for bf16 in (False, True)
            for title, network in networks.items()
        }
    )
    torch.compiler.reset()
    # Peak memory is measured eagerly: a graph keeps what it needs from one replay to the next.
    forward |= _measure(
        {
            f"{title} graph {'bf16' if bf16 else 'f32'}": _replay(_forward(network, x, bf16))
            for bf16 in (False, True)
            for title, network in {"torchvision": peer, "ours": model}.items()
        }
    )
    model.train()
    peer.train()
    step = _measure(
        {
            f"{title} {'bf16' if bf16 else 'f32'}": _step(network, x, bf16)
            for bf16 in (False, True)
            for title, network in {"torchvision": peer, "ours": model}.items()
        }
    )
    return {"model": name, "batch": batch, "forward": forward, "step": step}


def main() -> None:
    """Measures the networks given and prints one row per network, batch and way of running."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--compile", action="store_true", help="about a minute per row")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "networks": [],
    }
    print(f"{results['device']}, torch {results['torch']}", flush=True)
    for name in arguments.models:
        for batch in arguments.batch:
            row = measure(name, batch, arguments.compile)
            results["networks"].append(row)
            for kind in ("forward", "step"):
                for title, found in row[kind].items():
                    base = row[kind][f"torchvision {title.rpartition(' ')[2]}"]["seconds"]
                    print(
                        f"{name} batch {batch} {kind:8}{title:28}{1000 * found['seconds']:9.2f} ms"
                        f"  {base / found['seconds']:5.2f}x  {found['peak_mib']:8.0f} MiB",
                        flush=True,
                    )
            if arguments.out is not None:
                arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
