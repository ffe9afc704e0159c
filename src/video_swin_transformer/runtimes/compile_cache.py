"""Compiled models on disk, so that the second start is quick.

They lie in `compiled/` of the cache (registry/cache.py: $VIDEOSWIN_HOME or the user's cache
folder), one folder for each set of weights, named by its digest; all of it may be deleted at any
time. Each file begins with the digest of the rest, is written whole or not at all, and is built by
one process at a time. The least recently used give way beyond `MAX_CACHE_BYTES` in total.
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
    start: Callable[[bytes], T],
    build: Callable[[], tuple[T, bytes]],
) -> T:
    """What `start` makes of the file kept under `digest` and `name`, built first if need be.

    start: bytes -> a compiled model; whatever it raises means that the file is of no use here.
    build: a compiled model, and the bytes `start` makes it from next time.
    A damaged file is built anew, with a notice; where nothing can be kept, the model is built.
    """
    path = _path(digest, name)
    if path is None:
        return build()[0]
    started = _started(path, start)
    if started is not None:
        return started
    with _exclusive(path):
        started = _started(path, start)  # another process may have built it meanwhile
        if started is not None:
            return started
        built, data = build()
        _keep(path, data)
    return built


def read_cached_text(digest: str, name: str) -> str | None:
    """A small text kept beside the compiled models, if it is there and whole."""
    path = _path(digest, name)
    data = None if path is None else _read(path)
    return None if data is None else data.decode("utf-8", "replace")


def write_cached_text(digest: str, name: str, text: str) -> None:
    path = _path(digest, name)
    if path is not None:
        _keep(path, text.encode())


def _path(digest: str, name: str) -> Path | None:
    try:
        return cache_folder() / FOLDER / digest[:32] / name
    except ConfigError as error:  # a user without a home
        _log.warning("Compiled models are not kept. %s", error)
        return None


def _started(path: Path, start: Callable[[bytes], T]) -> T | None:
    data = _read(path)
    if data is None:
        return None
    try:
        started = start(data)
    except Exception as error:  # engines raise what they like
        _log.warning("%s cannot be used (%s); it is built anew.", path, str(error).splitlines()[-1])
        path.unlink(missing_ok=True)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # used just now: see _make_room
    return started


def _read(path: Path) -> bytes | None:
    """The content of a kept file; None if it is absent or, with a notice, if it is damaged."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("%s cannot be read (%s); it is built anew.", path, error.strerror)
        return None
    stored, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != stored:
        _log.warning("%s is damaged; it is built anew.", path)
        path.unlink(missing_ok=True)
        return None
    return content


def _keep(path: Path, data: bytes) -> None:
    try:
        write_atomic(path, hashlib.sha256(data).digest() + data)
        _make_room(path)
    except OSError as error:
        _log.warning(
            "The compiled model cannot be kept in %s (%s), so the next start is as slow; set "
            "VIDEOSWIN_HOME to a folder that can be written to.",
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
