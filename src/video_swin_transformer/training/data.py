"""The clips of a training: which are for learning, which to watch, which to test."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ..data import (
    Annotations,
    ClipRecord,
    Quarantine,
    default_quarantine,
    find_splits,
    hold_out,
    label_map,
    read_annotations,
    require_disjoint,
)
from ..errors import ConfigError, DataError
from .config import DataConfig, LossConfig
from .generated import ClipSource, annotations_of

_VAL_NAMES = ("val", "valid", "validation")
_TEST_NAMES = ("test", "testing")
_NUM_NAMED = 5


@dataclass(frozen=True)
class TrainingData:
    """left_out: paths in quarantine when the run began. notes: for people, warnings among them.
    Where one of the lists gives a clip several labels, all are lists of several labels."""

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
    plan: DataConfig,
    seed: int,
    left_out: Collection[str] | None = None,
    maker: ClipSource | None = None,
) -> TrainingData:
    """Reads and checks the lists. left_out: of the run that is resumed, instead of the quarantine.
    maker: of the clips to learn from, instead of `data.train`.

    Raises DataError for a label outside the map, an empty list or a clip in two splits;
    ConfigError where the recipe does not say what to learn from.
    """
    train, inner = _to_learn_from(plan, maker)
    notes: list[str] = []
    num_classes = plan.num_classes or train.num_classes
    names = train.classes
    val = _other(plan, plan.val, inner, _VAL_NAMES, names, num_classes)
    test = _other(plan, plan.test, inner, _TEST_NAMES, names, num_classes)
    for split in (train, val, test):
        if split is not None:
            split.require_sound()
            notes += split.notes
    if any(split is not None and split.is_multilabel for split in (train, val, test)):
        train = dataclasses.replace(train, is_multilabel=True)
        val, test = _of_several_labels(val), _of_several_labels(test)
        notes.append(_say_several_labels(plan, train))
    unlabeled = [item.path for item in train.items if not item.labels]
    if unlabeled and not train.is_multilabel:
        notes.append(
            f"warning: {len(unlabeled)} clips have no label and are left out, such as "
            f"{unlabeled[0]}."
        )
        train = train.where(lambda item: bool(item.labels))
        train.require_sound()
    for other in (val, test):
        if other is not None:
            require_disjoint(train, other)
    beside = plan.train or plan.val or plan.test or train.source
    quarantine = Quarantine(plan.quarantine or default_quarantine(beside))
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
        raise DataError(f"No clip of {train.source!r} is left to learn from.")
    notes += _warnings(train, num_classes)
    return TrainingData(
        train, val, test, num_classes, quarantine, tuple(sorted(left_out)), tuple(notes)
    )


def is_multi_label(plan: LossConfig, data: TrainingData) -> bool:
    """Whether each class is learned on its own. Raises ConfigError for a loss that the list, of
    several labels a clip, cannot have."""
    if not data.train.is_multilabel:
        return plan.kind == "binary"
    if plan.kind == "cross_entropy":
        raise ConfigError(
            f"The clips of {data.train.source!r} have several labels each, and loss.kind is "
            "cross_entropy, which takes one to be right and all others wrong. Leave it out, or "
            "take loss.kind=binary."
        )
    if plan.class_weights is not None:
        raise ConfigError(
            "loss.class_weights weighs a clip by its class, but the clips of "
            f"{data.train.source!r} have several labels each. Leave it out."
        )
    return True


def _of_several_labels(split: Annotations | None) -> Annotations | None:
    return None if split is None else dataclasses.replace(split, is_multilabel=True)


def _say_several_labels(plan: DataConfig, train: Annotations) -> str:
    """Raises ConfigError where the recipe counts on one label a clip."""
    if plan.class_balanced:
        raise ConfigError(
            f"data.class_balanced draws clips by their class, but those of {train.source!r} have "
            "several labels each. Leave it out."
        )
    without = sum(not item.labels for item in train.items)
    more = f" {without} clips have none and are learned from as showing none." if without else ""
    return (
        "Clips have several labels, so each class is learned on its own (loss.kind=binary) and "
        f"mAP is watched.{more}"
    )


def _to_learn_from(plan: DataConfig, maker: ClipSource | None) -> tuple[Annotations, list[str]]:
    """The clips to learn from, and the splits beside them."""
    if maker is not None:
        if plan.train is not None or plan.hold_out:
            raise ConfigError(
                "Clips are made by a program, and the recipe names data.train or data.hold_out as "
                "well. Leave these out; clips to watch come from data.val."
            )
        return annotations_of(maker), []
    if plan.train is None:
        raise ConfigError(
            "The recipe has no clips to learn from; give a folder of classes or a list: "
            "data=FOLDER."
        )
    inner = find_splits(plan.train, plan.format) if Path(plan.train).exists() else []
    split = plan.split or next((name for name in inner if name.startswith("train")), None)
    return _read(plan, plan.train, split), inner


def _read(
    plan: DataConfig,
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
    plan: DataConfig,
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

    def group_of(item: ClipRecord) -> str:
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
