"""What is wrong with a dataset, as data: problems by kind, figures by split."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

# kind -> (does it make the clip unusable?, what it is called in the table)
KINDS: dict[str, tuple[bool, str]] = {
    "absent": (True, "path leads to nothing"),
    "unreadable": (True, "cannot be read"),
    "crashed": (True, "crashed its decoder"),
    "timeout": (True, "took too long"),
    "outside_map": (True, "label outside the map"),
    "unlabeled": (False, "without a label"),
    "listed_count": (False, "list tells another number of frames"),
    "stated_count": (False, "container tells another number of frames"),
    "rotated": (False, "stored rotated"),
    "variable_rate": (False, "variable frame rate"),
    "short": (False, "shorter than a clip"),
    "listed_twice": (False, "listed twice"),
    "duplicate": (False, "same content as another clip"),
    "shared": (False, "in another split, too"),
    "singleton_class": (False, "class with a single clip"),
    "empty_class": (False, "class without a clip"),
    "imbalance": (False, "classes of very different size"),
}


@dataclass(frozen=True)
class Problem:
    """path: the clip, or the class for the kinds about classes."""

    split: str
    kind: str
    path: str
    detail: str

    @property
    def is_unusable(self) -> bool:
        return KINDS[self.kind][0]


@dataclass(frozen=True)
class SplitReport:
    """Figures of one split. quarantined: reason by path of what an earlier run left out."""

    name: str
    source: str
    format: str
    num_listed: int
    num_usable: int
    num_frames: int  # of the usable clips
    class_counts: dict[str, int]
    quarantined: dict[str, str]
    notes: tuple[str, ...]

    @property
    def imbalance(self) -> float:
        """The largest class in units of the smallest that has clips; 1 where all are equal."""
        counts = [count for count in self.class_counts.values() if count]
        return max(counts) / min(counts) if counts else 1.0


@dataclass(frozen=True)
class CheckReport:
    """A checked dataset; problems in the order of KINDS."""

    splits: tuple[SplitReport, ...]
    problems: tuple[Problem, ...]

    @property
    def num_unusable(self) -> int:
        """Clips newly found unusable."""
        return sum(problem.is_unusable for problem in self.problems)

    def of(self, kind: str) -> list[Problem]:
        return [problem for problem in self.problems if problem.kind == kind]

    def to_data(self) -> dict[str, Any]:
        """Everything, for JSON."""
        counts = Counter(problem.kind for problem in self.problems)
        return {
            "num_unusable": self.num_unusable,
            "counts": {kind: counts[kind] for kind in KINDS},
            "splits": [
                {
                    "name": split.name,
                    "source": split.source,
                    "format": split.format,
                    "num_listed": split.num_listed,
                    "num_usable": split.num_usable,
                    "num_frames": split.num_frames,
                    "imbalance": round(split.imbalance, 3),
                    "class_counts": split.class_counts,
                    "quarantined": split.quarantined,
                    "notes": list(split.notes),
                }
                for split in self.splits
            ],
            "problems": [
                {
                    "split": problem.split,
                    "kind": problem.kind,
                    "unusable": problem.is_unusable,
                    "path": problem.path,
                    "detail": problem.detail,
                }
                for problem in self.problems
            ],
        }
