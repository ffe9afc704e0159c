"""The results of a dataset check: problems by kind, statistics by split."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ..file_names import path_to_text, plain_text

# kind -> (whether the clip is unusable, description in the table)
KINDS: dict[str, tuple[bool, str]] = {
    "absent": (True, "file not found"),
    "unreadable": (True, "cannot be read"),
    "empty_segment": (True, "segment without frames"),
    "outside_segment": (True, "segment outside of its video"),
    "fewer_frames": (True, "fewer frames than listed"),
    "crashed": (True, "crashed its decoder"),
    "timeout": (True, "timed out"),
    "outside_map": (True, "label not in the label map"),
    "unlabeled": (False, "no label"),
    "listed_count": (False, "frame count differs from the list"),
    "stated_count": (False, "frame count differs from the container"),
    "gaps": (False, "images missing in a frame folder"),
    "other_images": (False, "other images in a frame folder"),
    "rotated": (False, "stored rotated"),
    "variable_rate": (False, "variable frame rate"),
    "long_segment": (False, "segment ends after its video"),
    "overlap": (False, "segments overlap"),
    "short": (False, "shorter than a clip"),
    "listed_twice": (False, "listed twice"),
    "duplicate": (False, "same content as another clip"),
    "shared": (False, "also in another split"),
    "singleton_class": (False, "class with a single clip"),
    "empty_class": (False, "class without clips"),
    "imbalance": (False, "class imbalance"),
}


@dataclass(frozen=True)
class Problem:
    """A problem with a clip or a class.

    Attributes:
        split: Name of the split.
        kind: A key of `KINDS`.
        path: Path of the clip, or name of the class.
        detail: Explanation for the user.
    """

    split: str
    kind: str
    path: str
    detail: str

    @property
    def is_unusable(self) -> bool:
        """Whether the clip cannot be used for training."""
        return KINDS[self.kind][0]


@dataclass(frozen=True)
class SplitReport:
    """Statistics of one split.

    Attributes:
        name: Name of the split.
        source: Path of the list or folder.
        format: Annotation format.
        num_listed: Number of clips in the annotation.
        num_usable: Number of usable clips.
        num_frames: Total number of frames of the usable clips.
        class_counts: Number of clips by class name.
        class_seconds: Seconds by class name, of a list of segments; empty for other lists.
        quarantined: Skipped clips: reason by path.
        notes: Messages for the user.
    """

    name: str
    source: str
    format: str
    num_listed: int
    num_usable: int
    num_frames: int
    class_counts: dict[str, int]
    class_seconds: dict[str, float]
    quarantined: dict[str, str]
    notes: tuple[str, ...]

    @property
    def imbalance(self) -> float:
        """Ratio of the largest to the smallest nonempty class; 1 if all are equal.

        Of seconds for a list of segments, else of clips.
        """
        sizes = self.class_seconds or self.class_counts
        counts = [count for count in sizes.values() if count]
        return max(counts) / min(counts) if counts else 1.0


@dataclass(frozen=True)
class CheckReport:
    """The result of `check_dataset`.

    Attributes:
        splits: Statistics per split.
        problems: All problems, in the order of `KINDS`.
    """

    splits: tuple[SplitReport, ...]
    problems: tuple[Problem, ...]

    @property
    def num_unusable(self) -> int:
        """Number of newly found unusable clips."""
        return sum(problem.is_unusable for problem in self.problems)

    def of(self, kind: str) -> list[Problem]:
        """Returns the problems of one kind.

        Args:
            kind: A key of `KINDS`.
        """
        return [problem for problem in self.problems if problem.kind == kind]

    def to_data(self) -> dict[str, Any]:
        """Returns the report as JSON data."""
        counts = Counter(problem.kind for problem in self.problems)
        return {
            "num_unusable": self.num_unusable,
            "counts": {kind: counts[kind] for kind in KINDS},
            "splits": [
                {
                    "name": path_to_text(split.name),
                    "source": path_to_text(split.source),
                    "format": split.format,
                    "num_listed": split.num_listed,
                    "num_usable": split.num_usable,
                    "num_frames": split.num_frames,
                    "imbalance": round(split.imbalance, 3),
                    "class_counts": split.class_counts,
                    "class_seconds": {
                        name: round(seconds, 3) for name, seconds in split.class_seconds.items()
                    },
                    "quarantined": {
                        path_to_text(path): plain_text(reason)
                        for path, reason in split.quarantined.items()
                    },
                    "notes": list(map(plain_text, split.notes)),
                }
                for split in self.splits
            ],
            "problems": [
                {
                    "split": path_to_text(problem.split),
                    "kind": problem.kind,
                    "unusable": problem.is_unusable,
                    "path": path_to_text(problem.path),
                    "detail": plain_text(problem.detail),
                }
                for problem in self.problems
            ],
        }
