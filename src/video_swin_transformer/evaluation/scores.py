"""What the network said of every view of every clip, on disk.

    plan.json            what gives these numbers: model, views, clips
    logits.safetensors   "logits" (all views, num_classes) float32
    index.jsonl          {"item", "path", "first_row", "num_views", "failure", "error"} per clip

While a pass runs, each process appends to a pair of files of its own, the logits first and the
line that counts them afterwards:

    part-<rank>-<run>.f32 and .jsonl

so that a kill at any moment costs the clips in work and nothing else; the next run begins new
parts and skips what is done. The parts become the two files when all is done.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, DataError
from ..files import write_atomic

PLAN_FILE = "plan.json"
LOGITS_FILE = "logits.safetensors"
INDEX_FILE = "index.jsonl"
_VALUE_BYTES = 4

# Why a clip has no scores: it cannot be read, the network's outputs are not finite, or it was on
# the quarantine list when the evaluation began.
Failure = Literal["unreadable", "not_finite", "quarantined"]

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Plan:
    """What a pass is: `settings` as JSON data, the clips and their labels in order."""

    settings: Mapping[str, Any]
    paths: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]

    def to_json(self) -> str:
        items = [[p, list(found)] for p, found in zip(self.paths, self.labels, strict=True)]
        return json.dumps({"settings": self.settings, "items": items}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        data = json.loads(text)
        items = data["items"]
        return cls(
            data["settings"],
            tuple(path for path, _ in items),
            tuple(tuple(labels) for _, labels in items),
        )

    def difference(self, other: Plan) -> str | None:
        """What of `other` is not as in this plan, in words; None if they are the same."""
        for key in sorted({*self.settings, *other.settings}):
            mine, theirs = self.settings.get(key), other.settings.get(key)
            if mine != theirs:
                return f"{key} was {mine!r} and is now {theirs!r}"
        if self.paths != other.paths or self.labels != other.labels:
            return f"its {len(self.paths)} clips or their labels are others now"
        return None


@dataclass(frozen=True)
class StoredClip:
    """Where a clip's logits are; `failure` and `error` say why there are none."""

    item: int
    path: str
    first_row: int
    num_views: int
    failure: Failure | None = None
    error: str | None = None


@dataclass(frozen=True)
class Scores:
    """A finished pass: `clips` in the order of the plan, logits (all views, num_classes)."""

    plan: Plan
    clips: tuple[StoredClip, ...]
    logits: Logits

    def of(self, clip: StoredClip) -> Logits:
        """(V, num_classes) float32, the views of one clip, crop-major."""
        return self.logits[clip.first_row : clip.first_row + clip.num_views]


class ScoreStore:
    """The folder of one pass."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def begin(self, plan: Plan, *, resume: bool) -> None:
        """Lays down the plan, or finds the one of an interrupted run.

        Raises ConfigError where scores are there and `resume` is not asked for, or where they
        belong to another plan.
        """
        if (self.folder / PLAN_FILE).exists():
            if not resume:
                raise ConfigError(
                    f"{str(self.folder)!r} holds the scores of an earlier run; add --resume to go "
                    "on with it, or name another folder with --out."
                )
            if difference := self.plan().difference(plan):
                raise ConfigError(
                    f"{str(self.folder)!r} holds the scores of another evaluation: {difference}. "
                    "Name another folder with --out."
                )
            return
        write_atomic(self.folder / PLAN_FILE, plan.to_json().encode("utf-8"))

    def plan(self) -> Plan:
        """The plan of the folder. Raises DataError where there is none."""
        path = self.folder / PLAN_FILE
        try:
            return Plan.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{str(self.folder)!r} holds no scores ({PLAN_FILE} is missing or damaged); give "
                "the folder that videoswin evaluate wrote with --out."
            ) from error

    def done(self) -> set[int]:
        """The numbers of the clips that need no further work."""
        if (self.folder / INDEX_FILE).exists():
            return {clip.item for clip in self._index()}
        num_classes = int(self.plan().settings["num_classes"])
        return {clip.item for part in self._parts() for clip in _whole_clips(part, num_classes)}

    def append(self, rank: int) -> PartWriter:
        """A new part for the process of that rank."""
        run = 0
        while (part := self.folder / f"part-{rank:03d}-{run:03d}").with_suffix(".jsonl").exists():
            run += 1
        return PartWriter(part)

    def finish(self) -> None:
        """Joins the parts to the final files. Raises DataError where clips are missing."""
        if (self.folder / INDEX_FILE).exists():
            return
        plan = self.plan()
        found: dict[int, tuple[StoredClip, Logits]] = {}
        for part in self._parts():
            for clip, logits in _read_part(part, int(plan.settings["num_classes"])):
                found.setdefault(clip.item, (clip, logits))
        missing = len(plan.paths) - len(found)
        if missing:
            raise DataError(
                f"{missing} of {len(plan.paths)} clips have no scores in {str(self.folder)!r}; add "
                "--resume to go on. Several machines must see one and the same folder."
            )
        lines, rows, first_row = [], [], 0
        for item in range(len(plan.paths)):
            clip, logits = found[item]
            line = {
                "item": item,
                "path": plan.paths[item],
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
        for part in self._parts():  # the index is there: from now on it counts
            part.with_suffix(".f32").unlink(missing_ok=True)
            part.unlink()

    def load(self) -> Scores:
        """A finished pass. Raises DataError where it is unfinished or damaged."""
        plan = self.plan()
        if not (self.folder / INDEX_FILE).exists():
            raise DataError(
                f"The pass in {str(self.folder)!r} is unfinished ({len(self.done())} of "
                f"{len(plan.paths)} clips); run the same command again with --resume."
            )
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            logits = load_file(self.folder / LOGITS_FILE)["logits"]
            clips = tuple(self._index())
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise DataError(
                f"The scores in {str(self.folder)!r} are damaged ({error}); evaluate again."
            ) from error
        num_rows = sum(clip.num_views for clip in clips)
        if len(clips) != len(plan.paths) or num_rows != len(logits):
            raise DataError(
                f"The files in {str(self.folder)!r} do not belong together: {len(clips)} clips of "
                f"{len(plan.paths)}, {len(logits)} rows of {num_rows}. Evaluate again."
            )
        return Scores(plan, clips, logits)

    def _index(self) -> Iterator[StoredClip]:
        with (self.folder / INDEX_FILE).open(encoding="utf-8") as file:
            for line in file:
                yield StoredClip(**json.loads(line))

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.jsonl"))


class PartWriter:
    """Appends the clips of one process. Each call leaves a finished clip on the disk."""

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
        """Appends a clip: logits (V, num_classes) float32, empty if there is a `failure`."""
        first_byte = self._data.tell()
        self._data.write(np.ascontiguousarray(logits, np.dtype("<f4")).tobytes())
        self._data.flush()
        line = {
            "item": item,
            "path": path,
            "first_byte": first_byte,
            "num_views": 0 if failure else len(logits),
            "failure": failure,
            "error": error,
        }
        self._lines.write((json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8"))
        self._lines.flush()


def _whole_clips(part: Path, num_classes: int) -> Iterator[StoredClip]:
    """The clips of a part, `first_row` in bytes here.

    A line that a kill truncated ends it, and so does data that a loss of power kept from the disk.
    """
    num_bytes = part.with_suffix(".f32").stat().st_size
    for line in part.read_bytes().split(b"\n")[:-1]:
        try:
            data = json.loads(line)
            clip = StoredClip(
                item=data["item"],
                path=data["path"],
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


def _read_part(part: Path, num_classes: int) -> Iterator[tuple[StoredClip, Logits]]:
    data = part.with_suffix(".f32").read_bytes()
    for clip in _whole_clips(part, num_classes):
        values = np.frombuffer(data, "<f4", clip.num_views * num_classes, clip.first_row)
        yield clip, values.reshape(clip.num_views, num_classes)
