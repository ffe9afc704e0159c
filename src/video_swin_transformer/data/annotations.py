"""Dataset annotations: clips and their labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..video import VideoSegment

_NUM_NAMED = 3  # examples listed in an error message


@dataclass(frozen=True, slots=True, order=True)
class TimeRange:
    """A part of a video.

    Attributes:
        start: Seconds from the first frame.
        end: Seconds; the frame that begins here is the first one after the part.
    """

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class ClipRecord:
    """One clip: a video file, a segment of one, or a folder of frames.

    Attributes:
        path: Path of the file or folder.
        labels: Class indices: one, several in a multi-label dataset, empty if unlabeled.
        num_frames: Number of frames given in the annotation, if any.
        segment: The part of the file that is the clip; None: all of it.
        targets: The numbers of a regression; empty for classes.
    """

    path: str
    labels: tuple[int, ...]
    num_frames: int | None = None
    segment: TimeRange | None = None
    targets: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """The path, for a segment with its times as a media fragment: a.mp4#t=1.5,4.0."""
        if self.segment is None:
            return self.path
        return str(VideoSegment(self.path, self.segment.start, self.segment.end))


@dataclass(frozen=True, slots=True)
class RejectedEntry:
    """An annotation entry rejected because its label is not in the label map.

    Attributes:
        path: Path of the clip.
        reason: What is wrong with the label.
        place: Where the entry is in the list, such as "line 3"; empty for folders.
    """

    path: str
    reason: str
    place: str = ""

    def __str__(self) -> str:
        return f"{self.path}{f' ({self.place})' if self.place else ''}: {self.reason}"


@dataclass(frozen=True)
class Annotations:
    """The clips of one dataset split.

    Attributes:
        source: Path of the list or folder.
        format: One of `FORMATS`.
        items: The clips.
        classes: Class names by class index; empty if the annotation has only numbers.
        is_multilabel: Whether a clip can have several labels.
        refused: Entries with invalid labels, not in `items`.
        notes: Messages for the user, such as paths found with a different suffix.
        targets: Names of the numbers of a regression; empty for classes.
    """

    source: str
    format: str
    items: tuple[ClipRecord, ...]
    classes: tuple[str, ...] = ()
    is_multilabel: bool = False
    refused: tuple[RejectedEntry, ...] = ()
    notes: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """Number of class names or, without names, the largest class index plus one."""
        if self.classes:
            return len(self.classes)
        return 1 + max((label for item in self.items for label in item.labels), default=-1)

    def class_name(self, label: int) -> str:
        """Returns the name of a class, or its index as text if there are no names.

        Args:
            label: Class index.
        """
        return self.classes[label] if label < len(self.classes) else str(label)

    def class_counts(self) -> npt.NDArray[np.int64]:
        """Returns the number of clips per class, (num_classes,) int64."""
        labels = [label for item in self.items for label in item.labels]
        return np.bincount(np.asarray(labels, np.int64), minlength=self.num_classes)

    def where(self, keep: Callable[[ClipRecord], bool]) -> Annotations:
        """Returns a copy with the clips for which `keep` returns True.

        Args:
            keep: Predicate of a clip.
        """
        return dataclasses.replace(self, items=tuple(filter(keep, self.items)))

    def require_valid(self) -> None:
        """Checks that there are clips and that all labels are valid.

        Raises:
            DataError: A label is not in the label map, or there are no clips.
        """
        if self.refused:
            first = "; ".join(
                str(one).replace(" is not in the label map", "")
                for one in self.refused[:_NUM_NAMED]
            )
            more = len(self.refused) - _NUM_NAMED
            raise DataError(
                f"{len(self.refused)} clips of {self.source!r} have a label that is not in the "
                f"label map: {first}{f'; and {more} more' if more > 0 else ''}. Fix it, or give "
                "the label map it was created with (--labels)."
            )
        if not self.items:
            raise DataError(
                f"{self.source!r} contains no clips; give a list or folder that contains some."
            )


def require_disjoint(train: Annotations, other: Annotations) -> None:
    """Checks that two splits have no clip in common.

    Compares paths only; `check_dataset` also compares file contents.

    Args:
        train: The split to train on.
        other: The split to validate or test on.

    Raises:
        DataError: A path is in both splits.
    """
    both = sorted({item.name for item in train.items} & {item.name for item in other.items})
    if both:
        raise DataError(
            f"{len(both)} clips are in both {train.source!r} and {other.source!r}, such as "
            f"{', '.join(both[:_NUM_NAMED])}; remove them from one of the splits."
        )


def require_same_labels(train: Annotations, other: Annotations) -> None:
    """Checks that two splits do not use class indices and class names for their labels.

    Args:
        train: The training split.
        other: The split to validate or test on.

    Raises:
        DataError: One has class names and the other class indices.
    """
    if not (train.num_classes and other.num_classes) or bool(train.classes) == bool(other.classes):
        return
    named, numbered = (train, other) if train.classes else (other, train)
    raise DataError(
        f"The labels of {named.source!r} are names and those of {numbered.source!r} are class "
        "indices, so they cannot be compared; give the label map with labels (--labels)."
    )


def hold_out(
    annotations: Annotations,
    fraction: float,
    seed: int = 0,
    group_of: Callable[[ClipRecord], str] | None = None,
) -> tuple[Annotations, Annotations]:
    """Splits off a random validation set, stratified by class.

    Clips are stratified by their first label. At least one clip (or group) of each class stays in
    the training set.

    Args:
        annotations: The clips to split.
        fraction: Fraction of each class to hold out, 0 to 1.
        seed: Seed of the random selection.
        group_of: Returns the group of a clip, such as its scene. Groups are never split; they are
            stratified by the first label of their first clip. None: every clip is its own group.

    Returns:
        The remaining clips and the held-out clips.
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
