"""Compiled models on disk, so that the second start is quick.

They are in `compiled/` of the cache folder (registry/cache.py), one folder per set of weights,
named by its digest; all of it may be deleted at any time. Each file begins with the digest of the
rest, is written atomically, and is built by one process at a time. The least recently used files
are deleted beyond `MAX_CACHE_BYTES` in total.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from ..errors import ConfigError
from ..files import locked, write_atomic
from ..registry import cache_folder

MAX_CACHE_BYTES = 4 << 30
FOLDER = "compiled"

_DIGEST_BYTES = hashlib.sha256().digest_size

_log = logging.getLogger(__name__)

T = TypeVar("T")


def load_or_compile(
    digest: str,
    name: str,
    load: Callable[[bytes], T],
    build: Callable[[], tuple[T, bytes]],
) -> T:
    """Loads a compiled model from the cache, or compiles and caches it.

    A damaged file is compiled again, with a warning. Where nothing can be cached, the model is
    compiled every time.

    Args:
        digest: of the weights.
        name: of the file.
        load: bytes -> a compiled model; any exception means that the file cannot be used.
        build: compiles; returns the model and the bytes to load it from next time.
    """
    path = _path(digest, name)
    if path is None:
        return build()[0]
    loaded = _load(path, load)
    if loaded is not None:
        return loaded
    with _exclusive(path):
        loaded = _load(path, load)  # another process may have built it meanwhile
        if loaded is not None:
            return loaded
        built, data = build()
        _store(path, data)
    return built


def read_cached_text(digest: str, name: str) -> str | None:
    """A small text cached beside the compiled models, or None if it is absent or damaged."""
    path = _path(digest, name)
    data = None if path is None else _read(path)
    return None if data is None else data.decode("utf-8", "replace")


def write_cached_text(digest: str, name: str, text: str) -> None:
    """Caches a small text beside the compiled models."""
    path = _path(digest, name)
    if path is not None:
        _store(path, text.encode())


def _path(digest: str, name: str) -> Path | None:
    try:
        return cache_folder() / FOLDER / digest[:32] / name
    except ConfigError as error:  # a user without a home
        _log.warning("Compiled models are not cached. %s", error)
        return None


def _load(path: Path, load: Callable[[bytes], T]) -> T | None:
    data = _read(path)
    if data is None:
        return None
    try:
        loaded = load(data)
    except Exception as error:  # runtimes raise all kinds of exceptions
        _log.warning(
            "%s cannot be used (%s); it is compiled again.", path, str(error).splitlines()[-1]
        )
        path.unlink(missing_ok=True)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # used just now: see _make_room
    return loaded


def _read(path: Path) -> bytes | None:
    """The content of a cached file; None if it is absent or, with a warning, damaged."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("%s cannot be read (%s); it is compiled again.", path, error.strerror)
        return None
    stored, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != stored:
        _log.warning("%s is damaged; it is compiled again.", path)
        path.unlink(missing_ok=True)
        return None
    return content


def _store(path: Path, data: bytes) -> None:
    try:
        write_atomic(path, hashlib.sha256(data).digest() + data)
        _make_room(path)
    except OSError as error:
        _log.warning(
            "The compiled model cannot be cached in %s (%s), so the next start is as slow; set "
            "VIDEOSWIN_HOME to a writable folder.",
            path.parent,
            error.strerror or error,
        )


def _make_room(newest: Path) -> None:
    """Deletes the least recently used files while all of them are larger than MAX_CACHE_BYTES."""
    files = [(file.stat(), file) for file in newest.parent.parent.glob("*/*") if file.is_file()]
    total = sum(status.st_size for status, _ in files)
    for status, file in sorted(files, key=lambda one: one[0].st_mtime):
        if total <= MAX_CACHE_BYTES:
            break
        if file != newest:
            file.unlink(missing_ok=True)
            total -= status.st_size


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Holds the lock of `path`; does nothing where locks are not possible."""
    with contextlib.ExitStack() as stack:
        # _keep reports that nothing can be written there.
        with contextlib.suppress(OSError, NotImplementedError):
            waiting = f"Waiting for another process that compiles {path.name}."
            stack.enter_context(locked(path, waiting))
        yield
