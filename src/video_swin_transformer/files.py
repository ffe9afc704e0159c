"""Atomic writes, digests and file locks.

After a crash or on a full disk, atomic writes leave the old file or none, never a partial one.
Python has no such function, and packages for it are no longer maintained.
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
    """Writes a file atomically. Creates its folder if necessary.

    Args:
        path: The file to replace.
        data: The content.

    Raises:
        OSError: The file cannot be written; `path` is unchanged.
    """
    with open_atomic(path) as file:
        file.write(data)


@contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """Opens a temporary file that replaces `path` when the block ends without an exception.

    Args:
        path: The file to replace.

    Yields:
        The temporary file.

    Raises:
        OSError: The file cannot be written; `path` is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp creates files that only their owner can read
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sha256_file(path: Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_files(paths: Iterable[Path]) -> str:
    """Returns the SHA-256 of the concatenated digests of files in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(bytes.fromhex(sha256_file(path)))
    return digest.hexdigest()


@contextmanager
def locked(path: Path, waiting_message: str) -> Iterator[None]:
    """Holds a lock on `path`.lock, which the operating system releases if the process ends.

    Args:
        path: The file that only one process may write at a time; its folder is created.
        waiting_message: Logged as a warning if another process holds the lock.

    Raises:
        OSError: The folder is not writable.
        NotImplementedError: The file system does not support locks.
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
