"""The fast path of inference on a CPU: work in chunks, and reuse what depends on weights only.

Everything that the network does differently there goes through this module. On a GPU, in training
and in a traced graph the functions do the plain thing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

# Tokens that go through the wide layers at once. Their intermediate results, four times as wide,
# then stay in the CPU's cache, and their memory is reused by the next chunk instead of being
# requested from the system again: up to twice as fast, and far less memory.
CPU_CHUNK_TOKENS = 8192


def is_tracing() -> bool:
    """Whether the forward pass is being compiled or exported."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    return tracing or torch.compiler.is_compiling()


def is_cpu_inference(x: Tensor) -> bool:
    """Whether the fast path applies to `x`."""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not is_tracing()


def map_tokens(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`function(x)` for (..., C) tokens that it treats independently, in chunks on a CPU."""
    if not is_cpu_inference(x):
        return function(x)
    tokens = x.flatten(0, -2)  # (B, L, C) -> (B * L, C)
    if len(tokens) <= CPU_CHUNK_TOKENS:
        return function(tokens).view(*x.shape[:-1], -1)
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

    It holds one entry, so it cannot grow. A copy or a pickle of the module that owns it starts
    empty. The entry is replaced in one assignment, so racing threads recompute at worst. Nothing
    is stored or reused outside of CPU inference, so it cannot cut a gradient.
    """

    _entry: tuple[object, Tensor, T] | None = None

    def get(self, key: object, source: Tensor, compute: Callable[[], T]) -> T:
        """`compute()`, or the cached value if `key` and the values of `source` are the same.

        `source` is compared by value, since writes through `.data` (EMA updates) leave no trace
        in version counters. That takes microseconds for a bias table.
        """
        if not is_cpu_inference(source):
            return compute()
        entry = self._entry
        if entry is not None and entry[0] == key and _equal(entry[1], source):
            return entry[2]
        # Outside of inference mode, so that a later training step may use the tensors.
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
