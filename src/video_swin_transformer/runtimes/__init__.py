"""Runtimes that execute the network behind one protocol.

A runtime takes views as NumPy arrays and returns logits and pooled features as NumPy arrays.
Weights run on every runtime: they are traced and compiled once, and cached on disk
(`compile_cache.py`). Exported models run without torch.
"""

from .protocol import Runtime
from .selection import PRECISIONS, RUNTIMES, open_runtime

__all__ = ["PRECISIONS", "RUNTIMES", "Runtime", "open_runtime"]
