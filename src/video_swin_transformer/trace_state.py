"""Whether the forward pass is being recorded as a graph."""

from __future__ import annotations

import torch


def is_tracing() -> bool:
    """Returns whether the forward pass is being compiled or exported."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    return tracing or torch.compiler.is_compiling()
