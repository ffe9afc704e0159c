"""Bounded reads, atomic writes, digests, file locks, and file names as text.

A FIFO or device in place of a file would block a reader forever or fill the memory; `read_file` and
`read_text_file` refuse everything but regular files of a limited size.

After a crash or on a full disk, atomic writes leave the old file or none, never a partial one.
Python has no such function, and packages for it are no longer maintained.

On Linux a file name is any bytes. Bytes that are not UTF-8 are lone surrogates in Python's str,
which no UTF-8 file can contain. In JSON, CSV and HTML they are written as `\\xNN`, with the
hexadecimal value of the byte: b"caf\\xe9.mp4" is the text caf\\xe9.mp4. A backslash that would look
like the start of such a sequence is written as `\\x5c`. All other names are written as they are.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import stat
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from .errors import DataError, InputError

MAX_TEXT_BYTES = 1 << 30  # 1 GiB: lists of millions of clips are read, too
_MAX_NAME_BYTES = 255  # on every common file system
_MAX_PREFIX_CHARACTERS = 32  # of the name of a temporary file; at most 128 bytes
_UNDECODABLE = re.compile(r"[\ud800-\udfff]|\\(?=x[0-9a-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_log = logging.getLogger(__name__)


def read_file(
    path: str | Path,
    *,
    max_bytes: int = MAX_TEXT_BYTES,
    what: str = "file",
    error: type[InputError] = DataError,
) -> bytes:
    """Reads a regular file. It never waits for a FIFO or device, and its memory is bounded.

    Args:
        path: The file.
        max_bytes: The largest size allowed.
        what: What the file is, for messages, such as "label file".
        error: The exception to raise.

    Returns:
        The content.

    Raises:
        InputError: The file does not exist, is not a regular file, is too large or cannot be read;
            of the type `error`.
    """
    name = f"the {what} {str(path)!r}"
    try:
        with _open_without_waiting(path) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise error(_not_regular(name, status.st_mode))
            # One byte more than allowed: the file may grow, and /proc says that it has none.
            data = file.read(min(status.st_size, max_bytes) + 1)
            if len(data) > status.st_size:
                data += file.read(max_bytes + 1 - len(data))
    except IsADirectoryError as cause:
        raise error(_not_regular(name, stat.S_IFDIR)) from cause
    except ValueError as cause:  # a NUL in the name
        raise error(f"Cannot read {name}: {cause}.") from cause
    except OSError as cause:
        raise error(f"Cannot read {name}: {cause.strerror or cause}.") from cause
    if len(data) > max_bytes:
        size = f"{max_bytes // 2**20} MiB" if max_bytes >= 2**20 else f"{max_bytes} bytes"
        raise error(f"Cannot read {name}: it is larger than {size}, the most allowed.")
    return data


def read_text_file(
    path: str | Path,
    *,
    max_bytes: int = MAX_TEXT_BYTES,
    what: str = "file",
    error: type[InputError] = DataError,
) -> str:
    """Reads a regular text file in UTF-8, with or without a byte order mark.

    Args:
        path: The file.
        max_bytes: The largest size allowed.
        what: What the file is, for messages, such as "label file".
        error: The exception to raise.

    Returns:
        The text, with its line breaks as they are.

    Raises:
        InputError: The file does not exist, is not a regular file, is too large, cannot be read or
            is not UTF-8; of the type `error`.
    """
    data = read_file(path, max_bytes=max_bytes, what=what, error=error)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(
            f"Cannot read the {what} {str(path)!r}: byte {cause.start} is not UTF-8; save it as "
            "UTF-8 text."
        ) from cause


def _open_without_waiting(path: str | Path) -> BufferedReader:
    # Without O_NONBLOCK, opening a FIFO waits for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags), "rb")


def _not_regular(name: str, mode: int) -> str:
    kind = _KINDS.get(stat.S_IFMT(mode), "not a file")
    return f"Cannot read {name}: it is {kind}; give a regular file."


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
    handle, name = tempfile.mkstemp(
        prefix=f".{path.name[:_MAX_PREFIX_CHARACTERS]}.", dir=path.parent
    )
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
    """Returns the SHA-256 of a file in hexadecimal. Raises OSError unless it is a regular file."""
    with _open_without_waiting(path) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
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


def path_to_text(path: str | Path) -> str:
    """Returns a path as text that UTF-8 can encode; `path_from_text` reverses it.

    Args:
        path: A path.

    >>> path_to_text("caf\\udce9.mp4")
    'caf\\\\xe9.mp4'
    """
    return _UNDECODABLE.sub(_escape, str(path))


def path_from_text(text: str) -> str:
    """Returns the path of a text from `path_to_text`.

    Args:
        text: The text.
    """
    data = text.encode("utf-8", "surrogateescape")
    data = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode("ascii")), data)
    return data.decode("utf-8", "surrogateescape")


def plain_text(message: str) -> str:
    """Returns a message whose file names may have undecodable bytes as text that UTF-8 can encode.

    Unlike `path_to_text`, it leaves backslashes unchanged.

    Args:
        message: A message.
    """
    return re.sub(r"[\ud800-\udfff]", _escape, message)


def one_line(text: str) -> str:
    """Returns text for a terminal: undecodable bytes and control characters are escaped.

    A line break in a file name would look like the end of a result.

    Args:
        text: A path.
    """
    return _CONTROL.sub(_escape, path_to_text(text))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    is_byte = 0xDC80 <= code <= 0xDCFF
    data = bytes([code - 0xDC00]) if is_byte else found[0].encode("utf-8", "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in data)


def sibling_path(path: Path, suffix: str, stem: str | None = None) -> Path:
    """Returns a path in the same folder whose name is never too long for the file system.

    Args:
        path: A path.
        suffix: What is appended to the name.
        stem: Replaces the name of `path`; None: the whole name.

    Returns:
        The path. A long name is shortened and gets a digest, so that different names stay
        different.
    """
    name = path.name if stem is None else stem
    if len(os.fsencode(name + suffix)) > _MAX_NAME_BYTES:
        digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
        room = _MAX_NAME_BYTES - len(os.fsencode(suffix)) - len(digest) - 1
        name = f"{os.fsencode(name)[:room].decode('utf-8', 'ignore')}-{digest}"
    return path.with_name(name + suffix)


def output_paths(inputs: Sequence[str], out: Path, suffix: str) -> dict[str, Path]:
    """Chooses the output file of each input, named after it.

    If inputs have equal names, the folders below their common folder are kept; if they are in the
    same folder, so is the suffix of the input.

    Args:
        inputs: Paths of the inputs.
        out: Folder for the files.
        suffix: Suffix of the files.

    Returns:
        The output paths by input.

    Raises:
        DataError: Two inputs would have the same output.
    """
    stems = {name: Path(name).stem or "output" for name in inputs}
    targets = {name: sibling_path(out / "x", suffix, stem) for name, stem in stems.items()}
    if _clash(targets) is not None:
        folders = {name: Path(os.path.abspath(name)).parent for name in inputs}  # noqa: PTH100
        try:
            common = os.path.commonpath(folders.values())
        except ValueError:  # different drives of Windows
            common = ""
        for name, folder in folders.items():
            below = folder.relative_to(common) if common else Path(*folder.parts[1:])
            targets[name] = sibling_path(out / below / "x", suffix, stems[name])
        counts = Counter(targets.values())
        for name, target in targets.items():
            if counts[target] > 1:
                targets[name] = sibling_path(target, suffix, Path(name).name)
    if (clash := _clash(targets)) is not None:
        first, second, target = clash
        raise DataError(
            f"{first!r} and {second!r} would both be written to {str(target)!r}; "
            "write them to different folders."
        )
    return targets


def _clash(targets: dict[str, Path]) -> tuple[str, str, Path] | None:
    """Two different inputs with the same target."""
    taken: dict[Path, str] = {}
    for name, target in targets.items():
        other = taken.setdefault(target, name)
        if os.path.abspath(other) != os.path.abspath(name):  # noqa: PTH100
            return other, name, target
    return None
