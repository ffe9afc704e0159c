"""Storage of the logits of all views of an evaluation.

    plan.json            model, views and clips
    logits.safetensors   "logits" (all views, num_classes) float32
    index.jsonl          {"item", "path", "first_row", "num_views", "failure", "error"} per clip

During the evaluation, each process appends to its own pair of files, the logits first and then
the index line:

    part-<rank>-<run>.f32 and .jsonl

If a process is killed, only the clips in progress are lost. A resumed run writes new parts and
skips finished clips. At the end, the parts are merged into the final files.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, DataError
from ..file_names import path_from_text, path_to_text, plain_text
from ..files import read_text_file, write_atomic
from ..strict_json import parse_json

_MAX_PLAN_BYTES = 2**30
PLAN_FILE = "plan.json"
LOGITS_FILE = "logits.safetensors"
INDEX_FILE = "index.jsonl"
_VALUE_BYTES = 4

# Why a clip has no logits: it cannot be read, its logits are not finite, or it is on the quarantine
# list.
Failure = Literal["unreadable", "not_finite", "quarantined"]

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Plan:
    """Everything that determines the logits of an evaluation.

    Attributes:
        settings: Model, sampling, preprocessing and dataset, as JSON data.
        paths: Paths of the clips; of segments with their times, such as a.mp4#t=1.5,4.0.
        labels: Class indices of each clip, in the same order.
        num_frames: Number of frames of each clip given in the annotation; empty if there are none.
    """

    settings: Mapping[str, Any]
    paths: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]
    num_frames: tuple[int | None, ...] = ()

    def to_json(self) -> str:
        """Serializes the plan as JSON text."""
        counts = self.num_frames or (None,) * len(self.paths)
        items = [
            [path_to_text(path), list(labels), *(() if count is None else (count,))]
            for path, labels, count in zip(self.paths, self.labels, counts, strict=True)
        ]
        return json.dumps({"settings": self.settings, "items": items}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Reads a plan from JSON text.

        Args:
            text: Output of `to_json`.

        Returns:
            The plan.

        Raises:
            ValueError: The text is not valid JSON.
            KeyError: An entry is missing.
            TypeError: An entry has the wrong type.
        """
        data = parse_json(text)
        items = data["items"]
        counts = tuple(item[2] if len(item) > 2 else None for item in items)
        return cls(
            data["settings"],
            tuple(path_from_text(item[0]) for item in items),
            tuple(tuple(item[1]) for item in items),
            counts if any(count is not None for count in counts) else (),
        )

    def difference(self, other: Plan) -> str | None:
        """Describes the first difference to another plan.

        Args:
            other: The plan to compare with.

        Returns:
            A description for messages; None if the plans are equal.
        """
        for key in sorted({*self.settings, *other.settings}):
            mine, theirs = self.settings.get(key), other.settings.get(key)
            if mine != theirs:
                return f"{key} was {mine!r} and is now {theirs!r}"
        mine, theirs = ((p.paths, p.labels, p.num_frames) for p in (self, other))
        if mine != theirs:
            return f"its {len(self.paths)} clips or their labels have changed"
        return None


@dataclass(frozen=True)
class ClipIndexEntry:
    """The location of a clip's logits.

    Attributes:
        item: Index of the clip in the plan.
        path: Path of the clip.
        first_row: Row of its first view in the logits.
        num_views: Number of views; 0 if it failed.
        failure: Kind of failure, if any.
        error: Error message, if any.
    """

    item: int
    path: str
    first_row: int
    num_views: int
    failure: Failure | None = None
    error: str | None = None


@dataclass(frozen=True)
class Scores:
    """The logits of a finished evaluation.

    Attributes:
        plan: The plan.
        clips: Index entries in the order of the plan.
        logits: (views of all clips, num_classes) float32.
    """

    plan: Plan
    clips: tuple[ClipIndexEntry, ...]
    logits: Logits

    def of(self, clip: ClipIndexEntry) -> Logits:
        """Returns the logits of one clip.

        Args:
            clip: An entry of `clips`.

        Returns:
            (V, num_classes) float32, crop-major; empty if the clip failed.
        """
        return self.logits[clip.first_row : clip.first_row + clip.num_views]


class ScoreStore:
    """The folder with the logits of one evaluation.

    Args:
        folder: The folder; `begin` creates it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def begin(self, plan: Plan, *, resume: bool) -> None:
        """Starts or resumes an evaluation.

        Args:
            plan: The plan; it is written to the folder if there is none.
            resume: Allow continuing an interrupted run.

        Raises:
            ConfigError: The folder contains scores and `resume` is False, or the scores belong to
                a different plan.
        """
        if (self.folder / PLAN_FILE).exists():
            if not resume:
                raise ConfigError(
                    f"{str(self.folder)!r} contains the scores of a previous run; add --resume to "
                    "continue it, or choose a different folder with --out."
                )
            if difference := self.plan().difference(plan):
                raise ConfigError(
                    f"{str(self.folder)!r} contains the scores of a different evaluation: "
                    f"{difference}. Choose a different folder with --out."
                )
            return
        write_atomic(self.folder / PLAN_FILE, plan.to_json().encode("utf-8"))

    def plan(self) -> Plan:
        """Reads the plan.

        Raises:
            DataError: The plan is missing or damaged.
        """
        path = self.folder / PLAN_FILE
        try:
            return Plan.from_json(read_text_file(path, max_bytes=_MAX_PLAN_BYTES))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{str(self.folder)!r} contains no scores ({PLAN_FILE} is missing or damaged); "
                "give the folder that videoswin evaluate wrote with --out."
            ) from error

    def finished_items(self) -> set[int]:
        """Returns the indices of the clips that are finished or failed.

        Raises:
            DataError: The plan is missing or damaged.
        """
        if (self.folder / INDEX_FILE).exists():
            return {clip.item for clip in self._index()}
        num_classes = int(self.plan().settings["num_classes"])
        return {
            clip.item for part in self._parts() for clip in _iter_complete_clips(part, num_classes)
        }

    def open_writer(self, rank: int) -> PartWriter:
        """Creates a new part.

        Args:
            rank: Rank of the process.

        Returns:
            A writer, to be used as a context manager.
        """
        run = 0
        while (part := self.folder / f"part-{rank:03d}-{run:03d}").with_suffix(".jsonl").exists():
            run += 1
        return PartWriter(part)

    def finish(self) -> None:
        """Merges the parts into the final files. Does nothing if that has been done.

        Raises:
            DataError: Clips are missing, or the plan is missing or damaged.
        """
        if (self.folder / INDEX_FILE).exists():
            return
        plan = self.plan()
        found: dict[int, tuple[ClipIndexEntry, Logits]] = {}
        for part in self._parts():
            for clip, logits in _read_part(part, int(plan.settings["num_classes"])):
                found.setdefault(clip.item, (clip, logits))
        missing = len(plan.paths) - len(found)
        if missing:
            raise DataError(
                f"{missing} of {len(plan.paths)} clips have no scores in {str(self.folder)!r}; add "
                "--resume to continue. All machines of a distributed run must share this folder."
            )
        lines, rows, first_row = [], [], 0
        for item in range(len(plan.paths)):
            clip, logits = found[item]
            line = {
                "item": item,
                "path": path_to_text(plan.paths[item]),
                "first_row": first_row,
                "num_views": clip.num_views,
                "failure": clip.failure,
                "error": clip.error,
            }
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
            rows.append(logits)
            first_row += clip.num_views
        from safetensors.numpy import save

        write_atomic(self.folder / LOGITS_FILE, save({"logits": np.concatenate(rows)}))
        write_atomic(self.folder / INDEX_FILE, "".join(lines).encode("utf-8"))
        for part in self._parts():  # no longer needed once the index exists
            part.with_suffix(".f32").unlink(missing_ok=True)
            part.unlink()

    def load(self) -> Scores:
        """Loads a finished evaluation.

        Returns:
            The logits.

        Raises:
            DataError: The evaluation is unfinished, or the files are damaged.
        """
        plan = self.plan()
        if not (self.folder / INDEX_FILE).exists():
            raise DataError(
                f"The evaluation in {str(self.folder)!r} is unfinished "
                f"({len(self.finished_items())} of {len(plan.paths)} clips); run the "
                "same command again with --resume."
            )
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            # Not load_file, which rejects paths with undecodable bytes.
            logits = load((self.folder / LOGITS_FILE).read_bytes())["logits"]
            clips = tuple(self._index())
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise DataError(
                f"The scores in {str(self.folder)!r} are damaged ({error}); evaluate again."
            ) from error
        num_rows = sum(clip.num_views for clip in clips)
        if len(clips) != len(plan.paths) or num_rows != len(logits):
            raise DataError(
                f"The files in {str(self.folder)!r} are inconsistent: {len(clips)} of "
                f"{len(plan.paths)} clips, {len(logits)} of {num_rows} rows. Evaluate again."
            )
        return Scores(plan, clips, logits)

    def _index(self) -> Iterator[ClipIndexEntry]:
        with (self.folder / INDEX_FILE).open(encoding="utf-8") as file:
            for line in file:
                entry = ClipIndexEntry(**parse_json(line))
                yield dataclasses.replace(entry, path=path_from_text(entry.path))

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.jsonl"))


class PartWriter:
    """Appends clips to the part of one process. Each clip is flushed to disk.

    Args:
        part: Path of the part without suffix.
    """

    def __init__(self, part: Path) -> None:
        part.parent.mkdir(parents=True, exist_ok=True)
        self._data = part.with_suffix(".f32").open("wb")
        self._lines = part.with_suffix(".jsonl").open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._data.close()
        self._lines.close()

    def add(
        self,
        item: int,
        path: str,
        logits: Logits,
        failure: Failure | None = None,
        error: str | None = None,
    ) -> None:
        """Appends a clip.

        Args:
            item: Index of the clip in the plan.
            path: Path of the clip.
            logits: (V, num_classes) float32; V is 0 if there is a `failure`.
            failure: Kind of failure, if any.
            error: Error message, if any.
        """
        first_byte = self._data.tell()
        self._data.write(np.ascontiguousarray(logits, np.dtype("<f4")).tobytes())
        self._data.flush()
        line = {
            "item": item,
            "path": path_to_text(path),
            "first_byte": first_byte,
            "num_views": 0 if failure else len(logits),
            "failure": failure,
            "error": None if error is None else plain_text(error),
        }
        self._lines.write((json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8"))
        self._lines.flush()


def _iter_complete_clips(part: Path, num_classes: int) -> Iterator[ClipIndexEntry]:
    """Yields the complete clips of a part; `first_row` is a byte offset here.

    Stops at the first truncated line, or line whose logits are incomplete.
    """
    num_bytes = part.with_suffix(".f32").stat().st_size
    for line in part.read_bytes().split(b"\n")[:-1]:
        try:
            data = parse_json(line.decode())
            clip = ClipIndexEntry(
                item=data["item"],
                path=path_from_text(data["path"]),
                first_row=data["first_byte"],
                num_views=data["num_views"],
                failure=data["failure"],
                error=data["error"],
            )
        except (ValueError, KeyError, TypeError):
            return
        if clip.first_row + clip.num_views * num_classes * _VALUE_BYTES > num_bytes:
            return
        yield clip


def _read_part(part: Path, num_classes: int) -> Iterator[tuple[ClipIndexEntry, Logits]]:
    data = part.with_suffix(".f32").read_bytes()
    for clip in _iter_complete_clips(part, num_classes):
        values = np.frombuffer(data, "<f4", clip.num_views * num_classes, clip.first_row)
        yield clip, values.reshape(clip.num_views, num_classes)
