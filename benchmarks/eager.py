"""Ours beside torchvision's swin3d_t: same weights, same process, alternating, medians.

    python -m benchmarks.eager [--rounds 7] [--threads 2] [--json FILE]

Times are of one forward pass in inference mode, eager float32. They vary with the machine and
its load; the ratio, measured in alternation, is what to look at. Peak memory is that of a process
of its own for each network and batch (the resident set at its highest), interpreter included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.peers import torchvision_twin
from video_swin_transformer import create_model

ARCHITECTURE = "swin_tiny_patch244_window877"
CLIP = (3, 32, 224, 224)
NETWORKS = ("ours", "torchvision")


def build() -> dict[str, torch.nn.Module]:
    """Both networks with one set of random weights."""
    torch.manual_seed(0)
    ours = create_model(ARCHITECTURE).eval()
    return {"ours": ours, "torchvision": torchvision_twin(ours)}


@torch.inference_mode()
def time_alternating(rounds: int) -> dict[str, float]:
    """Median seconds of each network, and the largest difference of their logits."""
    networks = build()
    clip = torch.randn(1, *CLIP)
    logits = {name: network(clip) for name, network in networks.items()}  # also warms up
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(rounds):
        for name, network in networks.items():
            began = time.perf_counter()
            network(clip)
            seconds[name].append(time.perf_counter() - began)
    result = {name: statistics.median(values) for name, values in seconds.items()}
    result["max_difference"] = (logits["ours"] - logits["torchvision"]).abs().max().item()
    return result


def peak_memory_mib(network: str, batch: int, threads: int) -> float:
    """Highest resident set of a process that runs one network on one batch, in MiB."""
    command = [sys.executable, "-m", "benchmarks.eager", "--threads", str(threads)]
    command += ["--memory-of", network, "--batch", str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _print_own_peak_memory(network: str, batch: int) -> None:
    chosen = build().pop(network)  # the other network's memory is given back here
    with torch.inference_mode():
        for _ in range(2):
            chosen(torch.randn(batch, *CLIP))
    # Linux only: getrusage's figure would begin with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--memory-of", choices=NETWORKS, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        _print_own_peak_memory(options.memory_of, options.batch)
        return

    times = time_alternating(options.rounds)
    print(f"{ARCHITECTURE}, 1x3x32x224x224, float32, {options.threads} threads, ", end="")
    print(f"median of {options.rounds}; torch {torch.__version__}")
    print(f"{'':14}{'seconds':>9}{'ratio':>8}")
    for name in NETWORKS:
        print(f"{name:14}{times[name]:9.2f}{times['torchvision'] / times[name]:8.2f}")
    print(f"largest difference of logits: {times['max_difference']:.1e}")
    figures: dict[str, object] = {"architecture": ARCHITECTURE, "times": times, "memory_mib": {}}
    print(f"{'peak memory':14}" + "".join(f"{name:>14}" for name in NETWORKS))
    memory: dict[str, dict[str, float]] = {}
    for batch in (1, 4):
        row = {name: peak_memory_mib(name, batch, options.threads) for name in NETWORKS}
        memory[f"batch {batch}"] = row
        print(f"{f'batch {batch}':14}" + "".join(f"{row[name]:10.0f} MiB" for name in NETWORKS))
    if options.json:
        options.json.write_text(json.dumps({**figures, "memory_mib": memory}, indent=2) + "\n")


if __name__ == "__main__":
    main()
