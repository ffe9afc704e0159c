"""Time of a training step: this package in several modes and torchvision's swin3d, same weights."""

from __future__ import annotations

import dataclasses
import logging
import statistics
import subprocess
import sys
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers import torchvision_name, torchvision_twin
from video_swin_transformer import VideoSwinTransformer
from video_swin_transformer.bench import alternate, own_peak_memory_mib
from video_swin_transformer.registry import find_card
from video_swin_transformer.training.distributed import retain_freed_memory

_log = logging.getLogger(__name__)

PEER = "torchvision f32"
# (implementation, precision, gradient checkpointing) by the name in the table
MODES = {
    PEER: ("torchvision", "f32", False),
    "torchvision bf16": ("torchvision", "bf16", False),
    "torch f32": ("ours", "f32", False),
    "torch f32, checkpointing": ("ours", "f32", True),
    "torch bf16": ("ours", "bf16", False),
    "torch bf16, checkpointing": ("ours", "bf16", True),
}
SHAPES = ((1, 3, 32, 224, 224), (2, 3, 16, 224, 224))
_LEARNING_RATE = 1e-5  # the weights stay close, so that every step is the same work


def _network(architecture: str, implementation: str, checkpointing: bool) -> nn.Module:
    """In training mode without dropout; the same weights in both implementations."""
    config = dataclasses.replace(
        find_card(architecture).bundle.model, drop_path_rate=0.0, head_drop_rate=0.0
    )
    torch.manual_seed(0)
    model = VideoSwinTransformer(config)
    model.set_grad_checkpointing(checkpointing)
    return (model if implementation == "ours" else torchvision_twin(model)).train()


def _loss(network: nn.Module, clips: Tensor, precision: str) -> Tensor:
    """Cross-entropy of (B, 3, T, H, W); with mixed precision the loss itself is in f32."""
    labels = torch.arange(len(clips))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        logits = network(clips)
    return F.cross_entropy(logits.float(), labels)


class _Step:
    """Forward, loss, backward and AdamW of one network."""

    def __init__(self, architecture: str, mode: str) -> None:
        implementation, self.precision, checkpointing = MODES[mode]
        self.network = _network(architecture, implementation, checkpointing)
        self._optimizer = torch.optim.AdamW(self.network.parameters(), lr=_LEARNING_RATE)

    def __call__(self, clips: Tensor) -> float:
        loss = _loss(self.network, clips, self.precision)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._optimizer.zero_grad()
        return loss.item()

    def first(self, clips: Tensor) -> tuple[float, dict[str, Tensor]]:
        """Loss and gradients before any step, the gradients by torchvision's names."""
        loss = _loss(self.network, clips, self.precision)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = {
            torchvision_name(name): parameter.grad.clone()
            for name, parameter in self.network.named_parameters()
            if parameter.grad is not None
        }
        self._optimizer.zero_grad()
        return loss.item(), gradients


def _distance(gradients: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Norm of the difference of two gradients, relative to the second."""
    assert gradients.keys() == expected.keys()
    off = sum(_square(gradients[name] - other) for name, other in expected.items())
    return (off / sum(map(_square, expected.values()))) ** 0.5


def _square(tensor: Tensor) -> float:
    return float(tensor.double().square().sum())


def training(architecture: str, num_rounds: int, threads: int) -> dict[str, Any]:
    """Median seconds, ratio to torchvision, errors and peak MiB of a process, by shape and mode.

    The ratio is the median of the ratios within rounds: other work on the machine affects it less.
    """
    retain_freed_memory()  # as `videoswin train` does; both are faster with it
    steps = {mode: _Step(architecture, mode) for mode in MODES}
    result: dict[str, Any] = {}
    for shape in SHAPES:
        name = "x".join(map(str, shape))
        _log.info("training: %s", name)
        clips = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        losses, gradients = zip(*(step.first(clips) for step in steps.values()), strict=True)
        calls = {mode: partial(step, clips) for mode, step in steps.items()}
        timed = alternate(calls, num_rounds)
        base = timed[PEER].seconds
        result[name] = {
            mode: {
                "seconds": timed[mode].median_seconds,
                "ratio": statistics.median(
                    theirs / ours for theirs, ours in zip(base, timed[mode].seconds, strict=True)
                ),
                "loss_difference": abs(loss - losses[0]) / losses[0],
                "gradient_difference": _distance(gradient, gradients[0]),
                "peak_mib": _peak_mib(architecture, mode, shape, threads),
            }
            for mode, loss, gradient in zip(MODES, losses, gradients, strict=True)
        }
    return result


def _peak_mib(architecture: str, mode: str, shape: tuple[int, ...], threads: int) -> float:
    """Peak resident memory of a new process after two steps."""
    command = [sys.executable, "-m", __name__, architecture, mode, str(threads), *map(str, shape)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _print_peak_memory(architecture: str, mode: str, threads: str, *shape: str) -> None:
    torch.set_num_threads(int(threads))
    retain_freed_memory()
    step = _Step(architecture, mode)
    clips = torch.randn(tuple(map(int, shape)))
    for _ in range(2):
        step(clips)
    print(own_peak_memory_mib())


if __name__ == "__main__":
    _print_peak_memory(*sys.argv[1:])
