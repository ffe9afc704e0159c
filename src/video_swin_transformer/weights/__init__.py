"""Where weights come from: a name, a saved folder, or anybody's file of Swin weights.

Names are loaded when they are first used, so that finding a file of weights imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import load_checkpoint
    from .coverage import CoverageReport
    from .loading import create_model, embedded_folder, load_model

__all__ = ["CoverageReport", "create_model", "embedded_folder", "load_checkpoint", "load_model"]

_HOMES = {
    "CoverageReport": "coverage",
    "create_model": "loading",
    "embedded_folder": "loading",
    "load_checkpoint": "checkpoint",
    "load_model": "loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
