"""Lists of unusable clips that later runs skip.

One JSON object per line: {"path", "reason", "num_bytes", "modified_ns"}. An entry applies as long
as the size and modification time match; a repaired or replaced file is used again.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..file_names import path_from_text, path_to_text, plain_text
from ..files import os_error_reason, read_text_file, require_path, sibling_path, write_atomic
from ..strict_json import parse_json
from ..video.segment import parse_segment
from .annotations import Annotations, ClipRecord

_MAX_BYTES = 2**28


@dataclass(frozen=True, slots=True)
class QuarantinedClip:
    """An entry of the list; num_bytes and modified_ns are None for a missing file."""

    path: str
    reason: str
    num_bytes: int | None
    modified_ns: int | None


class Quarantine:
    """A quarantine list stored as a JSON Lines file.

    Args:
        path: The file. If it does not exist, the list is empty.

    Raises:
        DataError: The file exists but is not a quarantine list.
    """

    def __init__(self, path: str | Path) -> None:
        require_path(path, "quarantine list")
        self.path = Path(path)
        self._clips: dict[str, QuarantinedClip] = {}
        for number, line in enumerate(self._lines(), start=1):
            try:
                clip = QuarantinedClip(**parse_json(line))
                clip = dataclasses.replace(clip, path=path_from_text(clip.path))
            except (ValueError, TypeError, AttributeError) as error:
                raise DataError(
                    f"Line {number} of {str(self.path)!r} is not a quarantine entry; give another "
                    "file with --quarantine, or delete this one."
                ) from error
            self._clips[clip.path] = clip

    def __len__(self) -> int:
        return len(self._clips)

    def reason(self, path: str) -> str | None:
        """Returns why a clip is quarantined.

        Args:
            path: Path of the clip, or name of a segment.

        Returns:
            The reason; None if the clip is not quarantined or has changed since.
        """
        clip = self._clips.get(absolute_path(path))
        if clip is None or (clip.num_bytes, clip.modified_ns) != _state(path):
            return None
        return clip.reason

    def filter(self, annotations: Annotations) -> tuple[Annotations, dict[str, str]]:
        """Removes quarantined clips.

        Args:
            annotations: The clips.

        Returns:
            The remaining clips, and the reasons by name of the removed ones.
        """
        out: dict[str, str] = {}
        if not self._clips:
            return annotations, out
        kept: list[ClipRecord] = []
        for item in annotations.items:
            reason = self.reason(item.path)
            if reason is None and item.segment is not None:
                reason = self.reason(item.name)
            if reason is None:
                kept.append(item)
            else:
                out[item.name] = reason
        return dataclasses.replace(annotations, items=tuple(kept)), out

    def add(self, reasons: Iterable[tuple[str, str]]) -> None:
        """Adds clips and rewrites the file.

        Args:
            reasons: (path, reason) pairs; for a segment, its name.

        Raises:
            DataError: The file cannot be written.
        """
        for path, reason in reasons:
            self._clips[absolute_path(path)] = QuarantinedClip(
                absolute_path(path), reason, *_state(path)
            )
        lines = (
            json.dumps(
                dataclasses.asdict(clip)
                | {"path": path_to_text(clip.path), "reason": plain_text(clip.reason)},
                ensure_ascii=False,
            )
            for clip in self._clips.values()
        )
        try:
            write_atomic(self.path, "".join(f"{line}\n" for line in lines).encode("utf-8"))
        except OSError as error:
            raise DataError(
                f"Cannot write the quarantine list {str(self.path)!r} "
                f"({os_error_reason(error)}); give another file with --quarantine."
            ) from error

    def _lines(self) -> list[str]:
        try:
            self.path.stat()
        except FileNotFoundError:
            return []
        except (OSError, ValueError):  # read_text_file names the reason
            pass
        text = read_text_file(self.path, max_bytes=_MAX_BYTES, what="quarantine list")
        # Not splitlines(): JSON strings may contain U+2028 and other line separators.
        return text.removesuffix("\n").split("\n")


def default_quarantine(source: str | Path) -> Path:
    """Returns the default quarantine path of a dataset.

    Args:
        source: An annotation list or a folder of classes.

    Returns:
        A path next to the list, or inside the folder.
    """
    source = Path(source)
    if source.is_dir():
        return source / "quarantine.jsonl"
    return sibling_path(source, ".quarantine.jsonl")


def absolute_path(path: str) -> str:
    """Returns the path that stands for a file in lists of this package.

    Args:
        path: The path, absolute or relative to the working directory.
    """
    return os.path.abspath(path)  # noqa: PTH100 (resolve() would access the disk)


def _state(path: str) -> tuple[int | None, int | None]:
    segment = parse_segment(path)
    file = Path(path if segment is None or Path(path).exists() else segment.path)
    try:
        status = file.stat()
    except (OSError, ValueError):
        return None, None
    return status.st_size, status.st_mtime_ns
