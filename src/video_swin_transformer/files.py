"""Bounded reads, atomic writes, digests and file locks.

A FIFO or device in place of a file would block a reader forever or fill the memory; `read_file` and
`read_text_file` refuse everything but regular files of a limited size.

After a crash or on a full disk, atomic writes leave the old file or none, never a partial one.
Python has no such function, and packages for it are no longer maintained.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import logging
import os
import platform
import re
import secrets
import shutil
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import ConfigError, DataError, InputError

MAX_TEXT_BYTES = 1 << 30  # 1 GiB: lists of millions of clips are read, too
_MAX_NAME_BYTES = 255  # on every common file system
_TEMPORARY_NAME = re.compile(r"\..+\.([0-9a-f]{6})-(\d+)-[0-9a-f]{8}\.part")
_MAX_PREFIX_CHARACTERS = 32  # of the name of a temporary file; at most 128 bytes

_MAX_OWN_BYTES = 1 << 28  # of an output that is recognized
_STANDARD_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
_ADVICE = {
    errno.ENOSPC: "free some space or choose another place",
    errno.EDQUOT: "free some space or choose another place",
    errno.EACCES: "change its permissions or choose another place",
    errno.EPERM: "change its permissions or choose another place",
    errno.EROFS: "choose another place",
    errno.EIO: "check that the disk has space, or choose another place",
}
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_log = logging.getLogger(__name__)


def require_path(path: object, what: str) -> None:
    """Rejects an empty path, which pathlib would take for the current folder.

    Args:
        path: A path as the user gave it.
        what: What it is, for messages, such as "dataset".

    Raises:
        ConfigError: It is an empty string.
    """
    if path is not None and not isinstance(path, str | os.PathLike):
        raise ConfigError(
            f"The path of the {what} is of type {type(path).__name__}, but must be text or a "
            "pathlib.Path."
        )
    if path == "":
        raise ConfigError(
            f"The path of the {what} is an empty string; give a path, or '.' for the current "
            "folder."
        )


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
        # Without O_NONBLOCK, opening a FIFO waits for a writer.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise error(f"Cannot read {name}: {_not_regular(status.st_mode)}.")
            # One byte more than allowed: the file may grow, and /proc says that it has none.
            data = file.read(min(status.st_size, max_bytes) + 1)
            if len(data) > status.st_size:
                data += file.read(max_bytes + 1 - len(data))
    except IsADirectoryError as cause:
        raise error(f"Cannot read {name}: {_not_regular(stat.S_IFDIR)}.") from cause
    except InputError:
        raise
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


def require_regular(path: Path) -> None:
    """Raises OSError if a path exists and is not a regular file; opening a FIFO would wait.

    Args:
        path: The path of a file.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, _not_regular(mode), str(path))


def _not_regular(mode: int) -> str:
    return f"it is {_KINDS.get(stat.S_IFMT(mode), 'not a file')}; give a regular file"


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

    Symbolic links are followed, and an existing file keeps its permissions. A FIFO, a character
    device or an open file such as /dev/stdout is written to directly.

    Args:
        path: The file to replace.

    Yields:
        The temporary file.

    Raises:
        OSError: The file cannot be written; `path` is unchanged. The error names `path`.
    """
    with errors_naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_stream(path):
            with _open_stream(path) as file:
                yield file
            return
        target = Path(os.path.realpath(path))
        temporary, file = _create_beside(target)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileNotFoundError):
                temporary.chmod(stat.S_IMODE(target.stat().st_mode))
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def is_stream(path: Path) -> bool:
    """Whether a path is a FIFO, socket, character device or open file such as /dev/stdout.

    What is written there is read at once, so it must be written once and in order.

    Args:
        path: The path.
    """
    if _descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def check_output(
    path: Path, what: str, is_own: Callable[[Path], bool], *, force: bool = False
) -> None:
    """Checks, before the work, that an output can be written and replaces only its own kind.

    Args:
        path: The file that will be written. Its folder is created.
        what: What the file will be, for messages, such as "a report".
        is_own: Whether an existing file is of that kind.
        force: Allow replacing a file of another kind.

    Raises:
        ConfigError: The path is a folder, or a file of another kind and `force` is false.
        OSError: The path cannot be written.
    """
    with errors_naming(path):
        if path.is_dir():
            raise ConfigError(f"{str(path)!r} is a folder; give the path of the file to write.")
        if is_stream(path):
            return
        target = Path(os.path.realpath(path))
        if target.exists() and not force and target.stat().st_size and not is_own(target):
            raise ConfigError(
                f"{str(path)!r} exists and is not {what}, so it was not replaced; give another "
                "path, or add --force to replace it."
            )
        check_folder(target.parent)


def require_inputs_kept(inputs: Iterable[str], outputs: Iterable[Path]) -> None:
    """Checks that no output would replace an input.

    Args:
        inputs: Paths of the inputs.
        outputs: Files that will be written.

    Raises:
        ConfigError: An output is an input.
    """
    places = {os.path.realpath(path): path for path in inputs}
    for output in outputs:
        if (path := places.get(os.path.realpath(output))) is not None:
            raise ConfigError(
                f"The output {str(output)!r} would replace the input {path!r}; choose another "
                "folder for the outputs."
            )


def check_folder(folder: Path) -> None:
    """Checks that a folder can be created and written to. Leaves nothing behind.

    Args:
        folder: The folder.

    Raises:
        ConfigError: The folder, or one above it, is a file.
        OSError: The folder cannot be created or written to. The error names it.
    """
    above = [folder, *folder.parents]
    for part in above:
        if part.exists() and not part.is_dir():
            raise ConfigError(f"{str(part)!r} is a file, but must be a folder; give another path.")
    created = [part for part in above if not part.exists()]
    with errors_naming(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            temporary, file = _create_beside(folder / "output")
            file.close()
            temporary.unlink()
        finally:
            for part in created:
                with suppress(OSError):  # another process has written to it, or it was not created
                    part.rmdir()


def is_json_with(path: Path, *keys: str) -> bool:
    """Whether a file is a JSON object that has all of the keys.

    Args:
        path: The file.
        keys: The keys.
    """
    try:
        data = json.loads(read_file(path, max_bytes=_MAX_OWN_BYTES))
    except (ValueError, RecursionError):  # InputError is a ValueError
        return False
    return isinstance(data, dict) and set(keys) <= data.keys()


def os_error_reason(error: OSError) -> str:
    """Returns why a file cannot be used, and what to do about it, without the name of the file.

    Args:
        error: The error.

    >>> os_error_reason(OSError(28, "No space left on device"))
    'No space left on device; free some space or choose another place'
    """
    text = error.strerror or str(error)
    advice = _ADVICE.get(error.errno or 0)
    return f"{text}; {advice}" if advice else text


@contextmanager
def errors_naming(path: Path) -> Iterator[None]:
    """Makes errors about the temporary files of an output, or about its folder, name the output.

    Args:
        path: The output.
    """
    try:
        yield
    except OSError as error:
        name = error.filename
        is_other = isinstance(name, str) and not _is_beside(Path(name), path)
        if error.errno is None or is_other or name == str(path):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _is_beside(name: Path, path: Path) -> bool:
    """Whether `name` is `path`, above it, or a temporary file beside it."""
    target = Path(os.path.realpath(path))
    for one in (name, name.parent):
        if _TEMPORARY_NAME.fullmatch(one.name) and one.parent in (
            target,
            target.parent,
            path.parent,
        ):
            return True
    return name in (path, *path.parents, target, *target.parents)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Creates a hidden folder and removes it at the end of the block.

    Args:
        parent: The folder to create it in; it is created if necessary.

    Yields:
        The folder.
    """
    _remove_leftovers(parent)
    folder = parent / _temporary_name("folder")
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _temporary_name(prefix: str) -> str:
    return f".{prefix}.{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.part"


@functools.cache
def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


@functools.cache  # once per folder and process
def _remove_leftovers(folder: Path) -> None:
    """Removes the temporary files of processes of this machine that were killed."""
    if os.name != "posix":
        return  # no way to ask for a process without other effects
    with suppress(OSError):
        for path in list(folder.iterdir()):
            found = _TEMPORARY_NAME.fullmatch(path.name)
            if found is None or found[1] != _machine() or _is_running(int(found[2])):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _create_beside(target: Path) -> tuple[Path, BinaryIO]:
    """Creates a new file in the same folder, with the permissions that the umask gives."""
    _remove_leftovers(target.parent)
    temporary = target.with_name(_temporary_name(target.name[:_MAX_PREFIX_CHARACTERS]))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return temporary, os.fdopen(os.open(temporary, flags, 0o666), "wb")


def _descriptor(path: Path) -> int | None:
    """The open file that a path such as /dev/stdout or /dev/fd/3 stands for."""
    if os.name != "posix":
        return None
    text = os.path.abspath(path)  # noqa: PTH100 (resolve() would follow the link)
    found = re.fullmatch(r"(?:/dev|/proc/self)/fd/(\d+)", text)
    return int(found[1]) if found else _STANDARD_STREAMS.get(text)


def _open_stream(path: Path) -> BinaryIO:
    number = _descriptor(path)
    if number is None:
        return path.open("wb")
    sys.stdout.flush()
    sys.stderr.flush()
    return os.fdopen(os.dup(number), "wb")  # shares the position with what is printed


def sha256_file(path: Path) -> str:
    """Returns the SHA-256 of a regular file in hexadecimal. Raises OSError for other files."""
    require_regular(path)
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
