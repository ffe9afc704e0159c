"""A thread-safe cache of values per clip shape, such as compiled models."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from ..config import ClipShape

T = TypeVar("T")


class ShapeCache(Generic[T]):
    """Builds one value per clip shape and keeps the most recently built ones.

    Values are built by one thread at a time. Requests for cached values do not block.

    Args:
        build: Builds the value for a clip shape (C, T, H, W).
        max_entries: Maximum number of values to keep; None keeps all.
    """

    def __init__(self, build: Callable[[ClipShape], T], max_entries: int | None) -> None:
        self._build, self._max_entries = build, max_entries
        self._entries: dict[ClipShape, T] = {}
        self._lock = threading.Lock()

    def get(self, shape: ClipShape) -> T:
        """Returns the value for a shape. Exceptions of `build` propagate and are not cached."""
        value = self._entries.get(shape)
        if value is not None:
            return value
        with self._lock:
            value = self._entries.get(shape)  # another thread may have built it meanwhile
            if value is None:
                if self._max_entries is not None and len(self._entries) >= self._max_entries:
                    del self._entries[next(iter(self._entries))]  # before building: saves memory
                value = self._entries[shape] = self._build(shape)
        return value
