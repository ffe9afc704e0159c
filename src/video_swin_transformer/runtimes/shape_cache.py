"""What a runtime prepares for a clip shape: built once, by one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from ..config import ClipShape

T = TypeVar("T")


class ShapeCache(Generic[T]):
    """Builds a value for each clip shape that is requested, and keeps the latest.

    Threads that request a cached value do not wait. A replaced value lives on in the calls that
    still use it.

    Args:
        build: clip shape -> value.
        max_entries: number of values kept; None keeps all.
    """

    def __init__(self, build: Callable[[ClipShape], T], max_entries: int | None) -> None:
        self._build, self._max_entries = build, max_entries
        self._entries: dict[ClipShape, T] = {}
        self._lock = threading.Lock()

    def get(self, shape: ClipShape) -> T:
        """The value of a shape. Raises what `build` raises, and then caches nothing."""
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
