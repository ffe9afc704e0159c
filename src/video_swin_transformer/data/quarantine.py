"""Clips that were found unusable, in a file that later runs honor.

One JSON object a line: {"path", "reason", "num_bytes", "modified_ns"}. An entry holds as long as
the file is the one that failed; a file that was repaired or copied again is looked at again.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..files import write_atomic
from .annotations import Annotations, ClipRecord


@dataclass(frozen=True, slots=True)
class QuarantinedClip:
    """num_bytes and modified_ns are None for a file that is not there."""

    path: str
    reason: str
    num_bytes: int | None
    modified_ns: int | None


class Quarantine:
    """The list at `path`; a file that does not exist is an empty list.

    Raises DataError where the file is there and is something else.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._clips: dict[str, QuarantinedClip] = {}
        for number, line in enumerate(self._lines(), start=1):
            try:
                clip = QuarantinedClip(**json.loads(line))
            except (json.JSONDecodeError, TypeError, RecursionError) as error:
                raise DataError(
                    f"Line {number} of {str(self.path)!r} is no entry of a quarantine list; name "
                    "the right file with --quarantine, or move this one away."
                ) from error
            self._clips[clip.path] = clip

    def __len__(self) -> int:
        return len(self._clips)

    def reason(self, path: str) -> str | None:
        """Why the clip at `path` is left out, or None if it is not."""
        clip = self._clips.get(_key(path))
        if clip is None or (clip.num_bytes, clip.modified_ns) != _state(path):
            return None
        return clip.reason

    def filter(self, annotations: Annotations) -> tuple[Annotations, dict[str, str]]:
        """(the clips that may be used, reason by path of those left out)."""
        out: dict[str, str] = {}
        if not self._clips:
            return annotations, out
        kept: list[ClipRecord] = []
        for item in annotations.items:
            reason = self.reason(item.path)
            if reason is None:
                kept.append(item)
            else:
                out[item.path] = reason
        return dataclasses.replace(annotations, items=tuple(kept)), out

    def add(self, reasons: Iterable[tuple[str, str]]) -> None:
        """Takes in (path, reason) pairs and writes the file whole. Raises DataError."""
        for path, reason in reasons:
            self._clips[_key(path)] = QuarantinedClip(_key(path), reason, *_state(path))
        lines = (
            json.dumps(dataclasses.asdict(clip), ensure_ascii=False)
            for clip in self._clips.values()
        )
        try:
            write_atomic(self.path, "".join(f"{line}\n" for line in lines).encode("utf-8"))
        except OSError as error:
            raise DataError(
                f"The quarantine list {str(self.path)!r} cannot be written "
                f"({error.strerror or error}); name another file with --quarantine."
            ) from error

    def _lines(self) -> list[str]:
        try:
            return self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"The quarantine list {str(self.path)!r} cannot be read: {error}."
            ) from error


def default_quarantine(source: str | Path) -> Path:
    """Where the list of an annotation is kept: beside a file, inside a folder of classes."""
    source = Path(source)
    if source.is_dir():
        return source / "quarantine.jsonl"
    return source.with_name(f"{source.name}.quarantine.jsonl")


def _key(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100 (resolving links would ask the disk)


def _state(path: str) -> tuple[int | None, int | None]:
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None, None
    return status.st_size, status.st_mtime_ns
