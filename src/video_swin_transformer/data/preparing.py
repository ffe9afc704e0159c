"""Prepares a dataset for training: smaller copies of its videos, and its list with their paths.

What is done is recorded in a file of the output folder, so that a run that was stopped continues.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import ConfigError, DataError, UnknownNameError
from ..file_names import path_from_text, path_to_text
from ..files import (
    check_folder,
    locked,
    read_text_file,
    require_inputs_kept,
    require_path,
    write_atomic,
)
from ..strict_json import parse_json
from ..video.discovery import find_videos, video_suffixes
from .list_rewriting import PathList, read_path_list
from .quarantine import Quarantine, absolute_path
from .readers import FORMATS, reject_video
from .transcoding import MAX_CRF, OUTPUT_SUFFIX, FrameSize, Transcoded, TranscodeTask, transcode
from .worker_pool import TaskFailure, run_in_processes

RECORD_NAME = "prepared.jsonl"
_QUARANTINE_NAME = "quarantine.jsonl"
_OWN_NAMES = frozenset({RECORD_NAME, f"{RECORD_NAME}.lock", _QUARANTINE_NAME})
_DEFAULT_SHORT_SIDE = 256
_MIN_SIDE = 16
_MAX_RECORD_BYTES = 2**30


@dataclass(frozen=True)
class PreparedData:
    """The result of `prepare`.

    Attributes:
        data: The rewritten list, or the output folder of a dataset without a list: what `train`
            and `check_dataset` read.
        num_transcoded: Number of videos that were made smaller.
        num_copied: Number of videos that were small enough and copied unchanged.
        num_done_before: Number of videos that an earlier run had finished.
        failed: Reasons by path of the videos that cannot be used.
        quarantined: Reasons by path of videos that an earlier run found unusable.
    """

    data: Path
    num_transcoded: int
    num_copied: int
    num_done_before: int
    failed: Mapping[str, str]
    quarantined: Mapping[str, str]


def prepare(
    data: str | Path,
    out: str | Path,
    *,
    short_side: int | None = None,
    height: int | None = None,
    crf: int = 20,
    root: str | Path | None = None,
    format: str | None = None,
    delimiter: str | None = None,
    quarantine: str | Path | None = None,
    num_workers: int | None = None,
    timeout_seconds: float = 3600.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PreparedData:
    """Copies a dataset with smaller frames, and rewrites its list.

    Every frame is decoded, so that damaged videos are found. Frames keep their number, order and
    times, also at variable rates, and are upright. Videos are written as H.264 in mp4 without
    sound; those that are small enough are copied unchanged. Folders below the root are kept.

    A run that was stopped continues where it was: finished videos are recorded with the size and
    modification time of their source.

    Args:
        data: A folder, of which all videos are prepared, or an annotation list in any format of
            `read_annotations`. Columns and keys that are not paths are kept; exports of Label
            Studio and FiftyOne become ActivityNet JSON.
        out: The folder to write to: a new or empty one, or one of an earlier run.
        short_side: Size in pixels of the shorter side, an even number, 16 or more. None: 256.
        height: Height in pixels instead, as in the authors' copy of Kinetics.
        crf: Constant rate factor of x264, 0 (lossless) to 51.
        root: Folder that paths in a list are relative to. None: the folder of the list.
        format: Format of the list. None detects it.
        delimiter: Separator of path and label in a text list. None: whitespace, or as in the
            heading.
        quarantine: List of unusable videos, which are skipped unless they have changed; those that
            are found are added. None: quarantine.jsonl in `out`.
        num_workers: Number of processes. None: one per core.
        timeout_seconds: Time limit per video.
        progress: Called as `progress(done, total)` after each video.

    Returns:
        What was done.

    Raises:
        ConfigError: A number is out of range, `out` contains other files or was prepared with other
            settings, or an output would replace an input.
        DataError: The list cannot be read, contains no videos, or an output cannot be written.
        UnknownNameError: Unknown format.
    """
    for path, what in ((data, "dataset"), (out, "output folder"), (root, "root folder")):
        require_path(path, what)
    require_path(quarantine, "quarantine list")
    if format is not None and format not in FORMATS:
        raise UnknownNameError("format", format, FORMATS)
    settings = _settings(short_side, height, crf)
    _require_positive(num_workers, timeout_seconds)
    out = Path(out)
    source = _read_source(Path(data), None if root is None else Path(root), format, delimiter)
    targets = _targets(source.files, source.root, out)
    _require_separate(Path(data), out, targets)
    check_folder(out)
    unusable = Quarantine(out / _QUARANTINE_NAME if quarantine is None else quarantine)
    quarantined = {path: reason for path in targets if (reason := unusable.reason(path))}
    with _open_record(out, settings) as record:
        done = {path: output for path in targets if (output := record.output_of(path))}
        tasks = [
            TranscodeTask(path, target, settings.size, crf)
            for path, target in targets.items()
            if path not in done and path not in quarantined
        ]
        record.require_free(tasks)
        results: dict[str, Transcoded] = {}
        try:
            for path, result in _run(tasks, num_workers or os.cpu_count() or 1, timeout_seconds):
                results[path] = result
                record.add(path, result)
                progress(len(results), len(tasks))
        finally:
            failed = {path: one.error for path, one in results.items() if one.error is not None}
            if found := [(path, why) for path, why in failed.items() if not Path(path).is_dir()]:
                unusable.add(found)
    outputs = done | {path: one.output for path, one in results.items() if one.output is not None}
    if not outputs:
        path, reason = next(iter((failed | quarantined).items()))
        raise DataError(
            f"None of {len(targets)} videos of {str(data)!r} can be used; the first is {path!r}: "
            f"{reason}."
        )
    num_copied = sum(one.is_copy for one in results.values())
    return PreparedData(
        _write_list(source.list, Path(data), outputs, out),
        len(results) - len(failed) - num_copied,
        num_copied,
        len(done),
        failed,
        quarantined,
    )


# --- what to prepare ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Settings:
    size: FrameSize
    crf: int


@dataclass(frozen=True)
class _Source:
    """The videos of a dataset: their paths, the folder above them, and the list that names them."""

    files: Sequence[str]
    root: Path
    list: PathList | None


def _settings(short_side: int | None, height: int | None, crf: int) -> _Settings:
    if short_side is not None and height is not None:
        raise ConfigError("short_side and height are both given; give one of them.")
    if short_side is None and height is None:
        short_side = _DEFAULT_SHORT_SIDE
    for name, value in (("short_side", short_side), ("height", height)):
        if value is not None and (value < _MIN_SIDE or value % 2):
            raise ConfigError(
                f"{name} is {value}, but must be an even number, {_MIN_SIDE} or more, as H.264 "
                "requires."
            )
    if not 0 <= crf <= MAX_CRF:
        raise ConfigError(f"crf is {crf}, but must be 0 (lossless) to {MAX_CRF}.")
    return _Settings(FrameSize(short_side, height), crf)


def _require_positive(num_workers: int | None, timeout_seconds: float) -> None:
    if num_workers is not None and num_workers < 1:
        raise ConfigError(f"num_workers is {num_workers}, but must be 1 or more.")
    if not timeout_seconds > 0:
        raise ConfigError(f"timeout_seconds is {timeout_seconds}, but must be positive.")


def _read_source(
    data: Path, root: Path | None, format: str | None, delimiter: str | None
) -> _Source:
    if not data.exists():
        raise DataError(f"File not found: {str(data)!r}; give a folder of videos or a list.")
    reject_video(data)
    if data.is_dir():
        files = [str(path) for path in find_videos(data) if path != data]
        found = _Source(files, data, None)
    else:
        root = data.parent if root is None else root
        listed = read_path_list(data, root, format, delimiter)
        found = _Source(list(dict.fromkeys(map(str, listed.files.values()))), root, listed)
    if not found.files:
        raise DataError(f"{str(data)!r} contains no videos; give a folder or a list with some.")
    return found


def _targets(files: Sequence[str], root: Path, out: Path) -> dict[str, Path]:
    """The path of each copy without its suffix; folders below the root are kept.

    The suffix of the source becomes a part of the name if two names differ only in it.
    """
    places = {path: Path(os.path.abspath(path)) for path in files}  # noqa: PTH100 (keeps links)
    base = Path(os.path.abspath(root))  # noqa: PTH100
    if not all(place.is_relative_to(base) for place in places.values()):
        try:
            base = Path(os.path.commonpath([place.parent for place in places.values()]))
        except ValueError as error:
            raise DataError(
                f"The videos are on different drives, such as {files[0]!r}; list those of one "
                "drive."
            ) from error
    below = {path: place.relative_to(base) for path, place in places.items()}
    stems = {path: _without_video_suffix(place) for path, place in below.items()}
    counts = Counter(str(stem).casefold() for stem in stems.values())
    return {
        path: out / (below[path] if counts[str(stem).casefold()] > 1 else stem)
        for path, stem in stems.items()
    }


def _without_video_suffix(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() in video_suffixes() else path


def _require_separate(data: Path, out: Path, targets: Mapping[str, Path]) -> None:
    """Raises ConfigError if an output would be an input, or would be found as one next time."""
    if data.is_dir() and out.resolve().is_relative_to(data.resolve()):
        raise ConfigError(
            f"The output folder {str(out)!r} is in the dataset {str(data)!r}, which would contain "
            "its own copies; give a folder outside of it."
        )
    outputs = [
        target.with_name(target.name + suffix)
        for path, target in targets.items()
        for suffix in {OUTPUT_SUFFIX, Path(path).suffix}
    ]
    require_inputs_kept([str(data), *targets], [*outputs, out / data.name])
    if data.name in _OWN_NAMES:
        raise ConfigError(f"{data.name!r} is a name of a file of prepare; rename the list.")


def _run(
    tasks: Sequence[TranscodeTask], num_workers: int, timeout_seconds: float
) -> Iterator[tuple[str, Transcoded]]:
    for at, result in run_in_processes(transcode, tasks, num_workers, timeout_seconds):
        if isinstance(result, TaskFailure):
            result = Transcoded(error=result.reason)
        if result.output_error is not None:
            raise DataError(
                f"Cannot write {result.output_error}. Then run again, which continues from here."
            )
        yield tasks[at].source, result


def _write_list(
    listed: PathList | None, data: Path, outputs: Mapping[str, Path], out: Path
) -> Path:
    """Writes the list with the new paths; returns what to train on."""
    if listed is None:
        return out
    new_paths = {
        written: path_to_text(outputs[str(path)].relative_to(out).as_posix())
        for written, path in listed.files.items()
        if str(path) in outputs
    }
    target = out / (data.name if listed.suffix is None else f"{data.stem}{listed.suffix}")
    write_atomic(target, listed.rewritten(new_paths).encode("utf-8"))
    return target


# --- the record of what is done -------------------------------------------------------------------


@dataclass(frozen=True)
class _Done:
    """A finished video: the state of its source, and the path of the copy in the folder."""

    source: str
    num_bytes: int
    modified_ns: int
    output: str


class _Record:
    """The finished videos of an output folder, one line of JSON each, after one of settings."""

    def __init__(self, out: Path, done: Mapping[str, _Done], file: BinaryIO) -> None:
        self._out, self._file = out, file
        self._done = dict(done)

    def output_of(self, path: str) -> Path | None:
        """The finished copy of a video; None if there is none, or the video has changed."""
        done = self._done.get(absolute_path(path))
        if done is None or (done.num_bytes, done.modified_ns) != _state(path):
            return None
        output = self._out / path_from_text(done.output)
        return output if output.is_file() else None

    def require_free(self, tasks: Sequence[TranscodeTask]) -> None:
        """Raises ConfigError if a copy would replace that of another video."""
        owners = {str(self._out / path_from_text(one.output)): one for one in self._done.values()}
        for task in tasks:
            for suffix in (OUTPUT_SUFFIX, Path(task.source).suffix):
                owner = owners.get(f"{task.target}{suffix}")
                if owner is not None and owner.source != absolute_path(task.source):
                    raise ConfigError(
                        f"{str(self._out)!r} contains the copy of {owner.source!r}, which that of "
                        f"{task.source!r} would replace; give another output folder."
                    )

    def add(self, path: str, result: Transcoded) -> None:
        """Records a finished video."""
        state = _state(path)
        if result.output is None or state is None:
            return
        output = path_to_text(result.output.relative_to(self._out).as_posix())
        done = _Done(absolute_path(path), *state, output)
        self._file.write(_line(vars(done) | {"source": path_to_text(done.source)}))
        self._file.flush()
        self._done[done.source] = done


@contextmanager
def _open_record(out: Path, settings: _Settings) -> Iterator[_Record]:
    """Opens the record of a folder, which one process writes at a time."""
    path = out / RECORD_NAME
    if not path.exists() and out.exists():
        names = {one.name for one in out.iterdir() if not one.name.startswith(".")} - _OWN_NAMES
        if names:
            raise ConfigError(
                f"{str(out)!r} contains other files, such as {min(names)!r}; give a new or empty "
                "folder, or one of an earlier run."
            )
    head = {"short_side": settings.size.short_side, "height": settings.size.height}
    head |= {"crf": settings.crf}
    waiting = f"Waiting for another process that prepares videos in {str(out)!r}."
    with ExitStack() as stack:
        with suppress(NotImplementedError):  # a file system without locks
            stack.enter_context(locked(path, waiting))
        done = _read_record(path, head)
        lines = [_line(head)]
        lines += [_line(vars(one) | {"source": path_to_text(one.source)}) for one in done.values()]
        write_atomic(path, b"".join(lines))  # without a line that was not finished
        with path.open("ab") as file:
            yield _Record(out, done, file)


def _read_record(path: Path, head: Mapping[str, Any]) -> dict[str, _Done]:
    if not path.exists():
        return {}
    text = read_text_file(path, max_bytes=_MAX_RECORD_BYTES, what="record of prepared videos")
    first, *lines = text.split("\n")
    done: dict[str, _Done] = {}
    try:
        given = parse_json(first)
        for line in lines[:-1]:  # the last one is empty, or a process was killed while writing it
            one = _Done(**parse_json(line))
            source = path_from_text(one.source)
            done[source] = _Done(source, one.num_bytes, one.modified_ns, one.output)
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{str(path)!r} is not a record of prepared videos; give another output folder."
        ) from error
    if given != head:
        raise ConfigError(
            f"{str(path.parent)!r} was prepared with {_listed(given)}, not {_listed(head)}; give "
            "the same settings or another output folder."
        )
    return done


def _listed(settings: Any) -> str:
    given = settings.items() if isinstance(settings, dict) else ()
    return ", ".join(f"{name} {value}" for name, value in given if value is not None)


def _line(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, ensure_ascii=False) + "\n").encode("utf-8")


def _state(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns
