"""Loading of weights by model name, from a saved folder or from a third-party checkpoint.

Submodules are imported on first use, so that resolving a model name does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import load_backbone, load_checkpoint
    from .factory import create_model, load_model
    from .report import LoadReport
    from .resolve import pretrained_folder, resolve_model

__all__ = [
    "LoadReport",
    "create_model",
    "load_backbone",
    "load_checkpoint",
    "load_model",
    "pretrained_folder",
    "resolve_model",
]

_LAZY_IMPORTS = {
    "LoadReport": "report",
    "create_model": "factory",
    "pretrained_folder": "resolve",
    "resolve_model": "resolve",
    "load_backbone": "checkpoint",
    "load_checkpoint": "checkpoint",
    "load_model": "factory",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY_IMPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LAZY_IMPORTS[name]}", __name__), name)
