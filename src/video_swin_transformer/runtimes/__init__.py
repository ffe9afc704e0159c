"""Runtimes that run a model behind one protocol.

A runtime takes views as NumPy arrays and returns logits and pooled features as NumPy arrays.
Weights run on all runtimes; compiled models are cached on disk (`compile_cache.py`). Exported
models run without torch.
"""

from .protocol import Runtime
from .selection import PRECISIONS, RUNTIMES, open_runtime

__all__ = ["PRECISIONS", "RUNTIMES", "Runtime", "open_runtime"]
