"""A cache of compiled models on disk.

It is in the folder `compiled/` of the cache folder (registry/cache.py), with one subfolder per set
of weights, named by digest. It may be deleted at any time. Each file starts with the SHA-256 of its
content, is written atomically, and is built by one process at a time. If the total size exceeds
`MAX_CACHE_BYTES`, the least recently used files are deleted.
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

    Damaged files are recompiled, with a warning. If the cache is not writable, the model is
    compiled every time.

    Args:
        digest: Digest of the weights.
        name: File name.
        load: Loads a compiled model from bytes; any exception means that the file is unusable.
        build: Compiles the model and returns it with its serialized form.

    Returns:
        The compiled model.
    """
    path = _path(digest, name)
    if path is None:
        return build()[0]
    loaded = _load(path, load)
    if loaded is not None:
        return loaded
    with _lock(path):
        loaded = _load(path, load)  # another process may have built it
        if loaded is not None:
            return loaded
        built, data = build()
        _write_cached(path, data)
    return built


def read_cached_text(digest: str, name: str) -> str | None:
    """Returns a text from the cache; None if it is absent or damaged.

    Args:
        digest: Digest of the weights.
        name: File name.
    """
    path = _path(digest, name)
    data = None if path is None else _read(path)
    return None if data is None else data.decode("utf-8", "replace")


def write_cached_text(digest: str, name: str, text: str) -> None:
    """Writes a text to the cache.

    Args:
        digest: Digest of the weights.
        name: File name.
        text: The text.
    """
    path = _path(digest, name)
    if path is not None:
        _write_cached(path, text.encode())


def _path(digest: str, name: str) -> Path | None:
    try:
        return cache_folder() / FOLDER / digest[:32] / name
    except ConfigError as error:  # no home folder
        _log.warning("Compiled models are not cached. %s", error)
        return None


def _load(path: Path, load: Callable[[bytes], T]) -> T | None:
    data = _read(path)
    if data is None:
        return None
    try:
        loaded = load(data)
    except Exception as error:  # runtimes raise many types of exceptions
        _log.warning("%s cannot be used (%s); compiling again.", path, str(error).splitlines()[-1])
        path.unlink(missing_ok=True)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # for _evict
    return loaded


def _read(path: Path) -> bytes | None:
    """Reads a cached file; None if it is absent, unreadable or damaged (logged)."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("%s cannot be read (%s); compiling again.", path, error.strerror)
        return None
    stored, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != stored:
        _log.warning("%s is damaged; compiling again.", path)
        path.unlink(missing_ok=True)
        return None
    return content


def _write_cached(path: Path, data: bytes) -> None:
    try:
        write_atomic(path, hashlib.sha256(data).digest() + data)
        _evict(path)
    except OSError as error:
        _log.warning(
            "The compiled model cannot be cached in %s (%s), so it is compiled on every start; set "
            "VIDEOSWIN_HOME to a writable folder.",
            path.parent,
            error.strerror or error,
        )


def _evict(newest: Path) -> None:
    """Deletes least recently used files until the total is at most MAX_CACHE_BYTES."""
    files = [(file.stat(), file) for file in newest.parent.parent.glob("*/*") if file.is_file()]
    total = sum(status.st_size for status, _ in files)
    for status, file in sorted(files, key=lambda one: one[0].st_mtime):
        if total <= MAX_CACHE_BYTES:
            break
        if file != newest:
            file.unlink(missing_ok=True)
            total -= status.st_size


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Locks `path`, if the file system supports locks."""
    with contextlib.ExitStack() as stack:
        # _write_cached logs if the folder is not writable.
        with contextlib.suppress(OSError, NotImplementedError):
            waiting = f"Waiting for another process to compile {path.name}."
            stack.enter_context(locked(path, waiting))
        yield
