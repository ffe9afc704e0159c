"""A dataset as this package sees it: a list of clips with their classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import DataError

_NUM_NAMED = 3  # how many culprits a message names


@dataclass(frozen=True, slots=True)
class ClipRecord:
    """One clip: a video file or a folder of frames.

    labels: class numbers; one, several in a multi-label set, none where nothing is known.
    num_frames: what the annotation says, None where it says nothing.
    """

    path: str
    labels: tuple[int, ...]
    num_frames: int | None = None


@dataclass(frozen=True, slots=True)
class RejectedEntry:
    """A line of the annotation that cannot be used, and why (a label outside the map)."""

    path: str
    reason: str


@dataclass(frozen=True)
class Annotations:
    """The clips of one split.

    classes: names in the order of class numbers, empty where the annotation has numbers only.
    refused: what was left out. notes: what was taken otherwise than written, for people.
    """

    source: str
    format: str
    items: tuple[ClipRecord, ...]
    classes: tuple[str, ...] = ()
    is_multilabel: bool = False
    refused: tuple[RejectedEntry, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """Number of classes: of the names, or one more than the largest number."""
        if self.classes:
            return len(self.classes)
        return 1 + max((label for item in self.items for label in item.labels), default=-1)

    def class_name(self, label: int) -> str:
        """The name of a class; its number where there are no names."""
        return self.classes[label] if label < len(self.classes) else str(label)

    def class_counts(self) -> npt.NDArray[np.int64]:
        """(num_classes,) int64: how many clips each class has."""
        labels = [label for item in self.items for label in item.labels]
        return np.bincount(np.asarray(labels, np.int64), minlength=self.num_classes)

    def where(self, keep: Callable[[ClipRecord], bool]) -> Annotations:
        """The same set with those clips only for which `keep` is true."""
        return dataclasses.replace(self, items=tuple(filter(keep, self.items)))

    def require_sound(self) -> None:
        """Raises DataError if a label lies outside the map, or if no clip is left."""
        if self.refused:
            first = "; ".join(f"{r.path}: {r.reason}" for r in self.refused[:_NUM_NAMED])
            more = len(self.refused) - _NUM_NAMED
            raise DataError(
                f"{len(self.refused)} clips of {self.source!r} have a label outside the map: "
                f"{first}{f'; and {more} more' if more > 0 else ''}. Correct the list, or give "
                "the label map that it was made with (--labels)."
            )
        if not self.items:
            raise DataError(
                f"{self.source!r} names no clip; give a list or folder that holds some."
            )


def require_disjoint(train: Annotations, other: Annotations) -> None:
    """Raises DataError if a clip stands in both splits (by its path; check-data compares content).

    A clip that was trained on says nothing about new ones.
    """
    both = sorted({item.path for item in train.items} & {item.path for item in other.items})
    if both:
        raise DataError(
            f"{len(both)} clips are in {train.source!r} and in {other.source!r}, such as "
            f"{', '.join(both[:_NUM_NAMED])}; a clip may be in one split only."
        )


def hold_out(
    annotations: Annotations,
    fraction: float,
    seed: int = 0,
    group_of: Callable[[ClipRecord], str] | None = None,
) -> tuple[Annotations, Annotations]:
    """(the rest, the held-out part), at random and by class (the first of several), with at least
    one of each class left.

    `group_of` names what must stay together (takes of one scene); whole groups are then held out,
    by the class of their first clip.
    """
    groups: dict[str, list[ClipRecord]] = {}
    for item in annotations.items:
        groups.setdefault(item.path if group_of is None else group_of(item), []).append(item)
    by_class: dict[tuple[int, ...], list[str]] = {}
    for name, members in groups.items():
        by_class.setdefault(members[0].labels[:1], []).append(name)
    generator = np.random.default_rng(seed)
    held: set[str] = set()
    for labels in sorted(by_class):
        names = sorted(by_class[labels])
        count = min(round(fraction * len(names)), len(names) - 1)
        held.update(names[at] for at in generator.permutation(len(names))[:count])
    held_paths = {item.path for name in held for item in groups[name]}
    return (
        annotations.where(lambda item: item.path not in held_paths),
        annotations.where(lambda item: item.path in held_paths),
    )
