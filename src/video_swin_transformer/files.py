"""Atomic writes, digests and locks of files.

Atomic: after a crash or on a full disk the old file is there, or none, never half of one. Python
has no such function, and the packages that had one are no longer maintained.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_log = logging.getLogger(__name__)


def write_atomic(path: Path, data: bytes) -> None:
    """Writes `data` beside `path`, then renames it. Raises OSError; `path` is then unchanged."""
    with open_atomic(path) as file:
        file.write(data)


@contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that replaces `path` at the end, for what is too large to hold twice.

    Raises OSError; `path` is unchanged by that and by any error inside the block.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes files that only their owner can read
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the digests of several files, in their order, in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(bytes.fromhex(sha256_file(path)))
    return digest.hexdigest()


@contextmanager
def locked(path: Path, waiting_message: str) -> Iterator[None]:
    """Holds the lock file `path`.lock; the lock ends with its holder, however that ends.

    Args:
        path: the file that only one process may write at a time; its folder is created.
        waiting_message: logged as a warning when another process holds the lock.

    Raises:
        OSError: the folder cannot be written to.
        NotImplementedError: the file system has no locks.
    """
    import filelock

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=1)
    except filelock.Timeout:
        _log.warning(waiting_message)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
