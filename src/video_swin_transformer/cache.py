"""One remembered value, as part of a module: what was worked out for the last shape.

A module's memory is one entry, so it cannot grow; a copy or a pickle of the module starts empty,
so nothing is saved or shared by accident; and it is replaced in one assignment, so threads that
race recompute at worst.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class LastValueCache(Generic[T]):
    """The last value made, kept for as long as its key and its source tensor are the same."""

    def __init__(self) -> None:
        self._entry: tuple[object, Tensor | None, T] | None = None

    def get(self, key: object, source: Tensor | None, make: Callable[[], T]) -> T:
        """The remembered value if made for this key from an equal `source`, else a new one."""
        entry = self._entry
        if entry is not None and entry[0] == key and _same(entry[1], source):
            return entry[2]
        # Made outside of inference mode, so that a later training step may use it.
        with torch.inference_mode(False), torch.no_grad():
            copy = None if source is None else source.detach().clone()
            value = make()
        self._entry = (key, copy, value)
        return value

    def recall(self, key: object) -> T | None:
        """The remembered value if made for this key, whatever has become of its source."""
        entry = self._entry
        return entry[2] if entry is not None and entry[0] == key else None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)()

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()


def is_traced() -> bool:
    """Whether the forward pass is being compiled or exported; a graph keeps no Python state."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    return tracing or torch.compiler.is_compiling()


def _same(old: Tensor | None, new: Tensor | None) -> bool:
    if old is None or new is None:
        return old is new
    # Compared by value: writes through `.data` (EMA updates) leave no trace in version counters.
    return old.dtype == new.dtype and old.device == new.device and torch.equal(old, new)
