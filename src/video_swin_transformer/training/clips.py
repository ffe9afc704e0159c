"""The clips of a training: which are for learning, which to watch, which to test."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ..data import (
    Annotations,
    Item,
    Quarantine,
    default_quarantine,
    find_splits,
    hold_out,
    label_map,
    read_annotations,
    require_disjoint,
)
from ..errors import ConfigError, DataError
from .recipe import DataPart

_VAL_NAMES = ("val", "valid", "validation")
_TEST_NAMES = ("test", "testing")
_NUM_NAMED = 5


@dataclass(frozen=True)
class TrainingData:
    """left_out: paths in quarantine when the run began. notes: for people, warnings among them."""

    train: Annotations
    val: Annotations | None
    test: Annotations | None
    num_classes: int
    quarantine: Quarantine
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Changes with the training clips, their order and their classes."""
        lines = "\n".join(f"{item.path}\t{item.labels}" for item in self.train.items)
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def read_training_data(
    plan: DataPart, seed: int, left_out: Collection[str] | None = None
) -> TrainingData:
    """Reads and checks the lists. left_out: of the run that is resumed, instead of the quarantine.

    Raises DataError for a label outside the map, an empty list or a clip in two splits;
    ConfigError where the recipe does not say what to learn from.
    """
    if plan.train is None:
        raise ConfigError(
            "The recipe has no clips to learn from; give a folder of classes or a list: "
            "data=FOLDER."
        )
    notes: list[str] = []
    inner = find_splits(plan.train, plan.format) if Path(plan.train).exists() else []
    train_split = plan.split or next((name for name in inner if name.startswith("train")), None)
    train = _read(plan, plan.train, train_split)
    if train.is_multilabel:
        raise ConfigError(
            f"The clips of {plan.train!r} have several labels each; training is for one label."
        )
    num_classes = plan.num_classes or train.num_classes
    names = train.classes
    val = _other(plan, plan.val, inner, _VAL_NAMES, names, num_classes)
    test = _other(plan, plan.test, inner, _TEST_NAMES, names, num_classes)
    for split in (train, val, test):
        if split is not None:
            split.require_sound()
            notes += split.notes
    unlabelled = [item.path for item in train.items if not item.labels]
    if unlabelled:
        notes.append(
            f"warning: {len(unlabelled)} clips have no label and are left out, such as "
            f"{unlabelled[0]}."
        )
        train = train.where(lambda item: bool(item.labels))
        train.require_sound()
    for other in (val, test):
        if other is not None:
            require_disjoint(train, other)
    quarantine = Quarantine(plan.quarantine or default_quarantine(plan.train))
    if left_out is None:
        left_out = tuple(quarantine.filter(train)[1])
        if val is not None:
            left_out += tuple(quarantine.filter(val)[1])
    if left_out:
        gone = set(left_out)
        notes.append(f"{len(gone)} clips are left out: they stand in {quarantine.path}.")
        train = train.where(lambda item: item.path not in gone)
        val = None if val is None else val.where(lambda item: item.path not in gone)
    if val is None and plan.hold_out > 0:
        train, val = hold_out(train, plan.hold_out, seed, _group_of(plan.group))
        notes.append(f"{len(val.items)} of the clips are held out to watch the training.")
    if val is not None and not val.items:
        val = None
    if not train.items:
        raise DataError(f"No clip of {plan.train!r} is left to learn from.")
    notes += _warnings(train, num_classes)
    return TrainingData(
        train, val, test, num_classes, quarantine, tuple(sorted(left_out)), tuple(notes)
    )


def _read(
    plan: DataPart,
    source: str,
    split: str | None,
    names: tuple[str, ...] = (),
    num_classes: int | None = None,
) -> Annotations:
    labels = names or (None if plan.labels is None else label_map(plan.labels))
    return read_annotations(
        source,
        root=plan.root,
        format=plan.format,
        labels=labels,
        num_classes=num_classes or plan.num_classes,
        delimiter=plan.delimiter,
        split=split,
    )


def _other(
    plan: DataPart,
    source: str | None,
    inner: list[str],
    inner_names: tuple[str, ...],
    names: tuple[str, ...],
    num_classes: int,
) -> Annotations | None:
    """A list of its own, or a split beside the training clips; classes are those of training."""
    if source is not None:
        own = find_splits(source, plan.format) if Path(source).exists() else []
        split = next((name for name in own if name.lower() in inner_names), None)
        return _read(plan, source, split, names, num_classes)
    split = next((name for name in inner if name.lower() in inner_names), None)
    if split is None or plan.train is None:
        return None
    return _read(plan, plan.train, split, names, num_classes)


def _group_of(pattern: str | None):  # type: ignore[no-untyped-def]
    """The function that says which clips belong together: by what of their names matches."""
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"data.group is {pattern!r}, which is no pattern: {error}.") from error

    def group_of(item: Item) -> str:
        found = compiled.search(Path(item.path).name)
        return found[0] if found else item.path

    return group_of


def _warnings(train: Annotations, num_classes: int) -> list[str]:
    counts = train.class_counts()
    notes = []
    if num_classes < 2:
        raise DataError(
            f"All clips of {train.source!r} are of one class; there is nothing to tell apart. "
            "Give a folder with one folder a class."
        )
    for number, what in ((0, "no clip"), (1, "a single clip")):
        short = [train.class_name(label) for label, count in enumerate(counts) if count == number]
        if short:
            more = f" and {len(short) - _NUM_NAMED} more" if len(short) > _NUM_NAMED else ""
            notes.append(
                f"warning: {len(short)} classes have {what} to learn from: "
                f"{', '.join(short[:_NUM_NAMED])}{more}."
            )
    return notes
