"""Optimizations for CPU inference: chunked computation and caching of derived tensors.

On a GPU, during training and in traced graphs, these functions compute without optimizations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

T = TypeVar("T")

# Number of tokens that wide layers process at once. Their intermediate results then fit in the CPU
# cache, and their memory is reused for the next chunk, which is up to twice as fast.
CPU_CHUNK_TOKENS = 8192


def is_tracing() -> bool:
    """Returns whether the forward pass is being compiled or exported."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    return tracing or torch.compiler.is_compiling()


def is_cpu_inference(x: Tensor) -> bool:
    """Whether the fast path applies to `x`."""
    is_plain = x.device.type == "cpu" and not torch.is_grad_enabled() and not is_tracing()
    return is_plain and not is_in_torch_dispatch_mode()  # such as FakeTensorMode


def map_tokens(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies a function to tokens, in chunks during CPU inference.

    Args:
        function: Maps (..., C) to (..., C'), independently for each token.
        x: (..., C), tokens with any leading axes.

    Returns:
        (..., C').
    """
    if not is_cpu_inference(x):
        return function(x)
    tokens = x.flatten(0, -2)  # (..., C) -> (tokens, C)
    if len(tokens) <= CPU_CHUNK_TOKENS:
        result = function(tokens)
        return result.view(*x.shape[:-1], result.shape[-1])
    first, *rest = torch.split(tokens, CPU_CHUNK_TOKENS)
    result = function(first)
    out = result.new_empty(len(tokens), result.shape[-1])
    out[: len(first)] = result
    start = len(first)
    for chunk in rest:
        out[start : start + len(chunk)] = function(chunk)
        start += len(chunk)
    return out.view(*x.shape[:-1], -1)


class LastValueCache(Generic[T]):
    """The last value computed from a tensor, reused while the tensor stays equal.

    The cache has a single entry. Copies and pickles are empty. The entry is replaced atomically, so
    concurrent threads recompute at worst. The cache is used only during CPU inference, never under
    autograd.
    """

    _entry: tuple[object, Tensor, T] | None = None

    def get(self, key: object, source: Tensor, compute: Callable[[], T]) -> T:
        """Returns the cached value if `key` and `source` are unchanged, else computes it.

        `source` is compared by value, since version counters do not detect writes through `.data`
        (EMA updates). This takes microseconds for a bias table.

        Args:
            key: Everything the value depends on besides `source`, compared with ==.
            source: The tensor that the value is computed from.
            compute: Computes the value.
        """
        if not is_cpu_inference(source):
            return compute()
        entry = self._entry
        if entry is not None and entry[0] == key and _equal(entry[1], source):
            return entry[2]
        # Without inference mode, so that a later training step can use the tensors.
        with torch.inference_mode(False), torch.no_grad():
            copy = source.detach().clone()
            value = compute()
        self._entry = (key, copy, value)
        return value

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)()

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()


def _equal(old: Tensor, new: Tensor) -> bool:
    return old.dtype == new.dtype and old.device == new.device and torch.equal(old, new)
