"""Replays the forward pass on a CUDA GPU: one launch for all kernels of a batch.

A batch of one or two views takes a modern GPU less time than Python needs to launch its kernels.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Forward = Callable[[Tensor], tuple[Tensor, Tensor]]

MAX_GRAPHS = 4  # batch shapes; the graphs share one memory pool

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    x: Tensor
    outputs: tuple[Tensor, Tensor]


class CudaGraphs:
    """A forward pass that is captured when a shape occurs for the second time.

    Call it in inference mode, with the same autocast settings each time. Weights may be changed in
    place between calls, but not replaced.

    Args:
        forward: Maps a batch of views to logits and features, without waiting for the GPU.
    """

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._captured: dict[tuple[int, ...], _Captured] = {}
        self._seen: set[tuple[int, ...]] = set()
        self._eager_only: set[tuple[int, ...]] = set()
        self._pool: Any = None  # torch declares two types for it
        self._lock = threading.Lock()  # the graphs have one input and one output each

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the forward pass on a batch (B, C, T, H, W)."""
        shape = tuple(x.shape)
        with self._lock:
            if shape not in self._seen or shape in self._eager_only:
                self._seen.add(shape)
                return self._forward(x)
            captured = self._captured.get(shape) or self._capture(shape, x)
            if captured is None:
                return self._forward(x)
            captured.x.copy_(x)
            captured.graph.replay()
            logits, features = captured.outputs
            return logits.clone(), features.clone()

    def release(self) -> bool:
        """Frees the memory of the graphs. Returns whether there were any."""
        with self._lock:
            had_graphs = bool(self._captured)
            self._captured.clear()
            self._seen.clear()
            self._pool = None
        if had_graphs:
            torch.cuda.empty_cache()
        return had_graphs

    def _capture(self, shape: tuple[int, ...], x: Tensor) -> _Captured | None:
        if len(self._captured) >= MAX_GRAPHS:
            del self._captured[next(iter(self._captured))]
        static_x, graph = x.clone(), torch.cuda.CUDAGraph()
        try:
            with torch.cuda.device(x.device):
                # Weights that autocast has cast and cached are freed when autocast ends, so none
                # may be in use from outside of the graph.
                torch.clear_autocast_cache()
                # Other threads of the program may use the GPU meanwhile.
                with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                    outputs = self._forward(static_x)
        except RuntimeError as error:  # out of memory, or an operation that cannot be captured
            _log.info(
                "No CUDA graph for batches of shape %s: %s", shape, str(error).splitlines()[0]
            )
            self._eager_only.add(shape)
            return None
        finally:
            torch.clear_autocast_cache()
        self._pool = graph.pool()
        captured = self._captured[shape] = _Captured(graph, static_x, outputs)
        return captured
