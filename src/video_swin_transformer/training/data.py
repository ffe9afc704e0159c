"""The datasets of a training run: which clips to train on, to validate on and to test on."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from ..config import RegressionTarget
from ..data import (
    Annotations,
    ClipRecord,
    Quarantine,
    default_quarantine,
    find_splits,
    hold_out,
    label_map,
    read_annotations,
    read_target_annotations,
    require_disjoint,
    require_same_labels,
)
from ..errors import ConfigError, DataError, counted
from .config import DataConfig, LossConfig
from .generated import ClipSource, source_annotations

Task: TypeAlias = Literal["classes", "multilabel", "regression"]

_VAL_NAMES = ("val", "valid", "validation")
_TEST_NAMES = ("test", "testing")
_NUM_NAMED = 5


@dataclass(frozen=True)
class TrainingData:
    """The three sets. If one of them is multi-label, all are.

    Attributes:
        train: Training clips.
        val: Validation clips, None without validation.
        test: Test clips, None without a test.
        num_classes: Number of classes.
        quarantine: The list that unreadable clips are added to.
        excluded: Paths of training and validation clips that were in the quarantine list when the
            run began.
        notes: What was found and decided, one sentence each.
        warnings: What may be wrong with the data, one sentence each.
    """

    train: Annotations
    val: Annotations | None
    test: Annotations | None
    num_classes: int
    quarantine: Quarantine
    excluded: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def task(self) -> Task:
        """What is learned."""
        if self.train.targets:
            return "regression"
        return "multilabel" if self.train.is_multilabel else "classes"

    def regression_targets(self) -> tuple[RegressionTarget, ...]:
        """The numbers to predict, with mean and standard deviation over the training clips.

        Raises:
            DataError: A number is the same for all clips.
        """
        values = np.array([item.targets for item in self.train.items], np.float64)
        found = []
        for name, column in zip(self.train.targets, values.T, strict=True):
            if np.ptp(column) == 0:
                raise DataError(
                    f"All training clips of {self.train.source!r} have the {name} {column[0]:g}, "
                    "so there is nothing to learn."
                )
            found.append(RegressionTarget(name, float(column.mean()), float(column.std())))
        return tuple(found)

    @property
    def fingerprint(self) -> str:
        """A digest of the training clips, their order and their classes."""
        lines = "\n".join(
            f"{item.name}\t{item.targets or item.labels}" for item in self.train.items
        )
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def read_training_data(
    config: DataConfig,
    seed: int,
    *,
    excluded: Collection[str] | None = None,
    clip_source: ClipSource | None = None,
) -> TrainingData:
    """Reads and checks the annotations.

    Args:
        config: The `data` section of the recipe.
        seed: Seed of the validation split.
        excluded: Clips that a resumed run leaves out; None: those in the quarantine list.
        clip_source: Generates the training clips; None: they come from `data.train`.

    Raises:
        DataError: A label outside the label map, an empty set, or a clip in two sets.
        ConfigError: The recipe does not say what to train on.
    """
    train, splits = _read_train(config, clip_source)
    if train.targets and config.class_balanced:
        raise ConfigError(
            "data.class_balanced samples clips by their class, but a regression has none. Leave it "
            "out."
        )
    num_classes = config.num_classes or train.num_classes
    val = _read_other(config, config.val, splits, _VAL_NAMES, train.classes, num_classes)
    test = _read_other(config, config.test, splits, _TEST_NAMES, train.classes, num_classes)
    notes: list[str] = []
    warnings: list[str] = []
    for split in (train, val, test):
        if split is not None:
            split.require_valid()
            notes += split.notes
    if any(split is not None and split.is_multilabel for split in (train, val, test)):
        train = dataclasses.replace(train, is_multilabel=True)
        val, test = _as_multilabel(val), _as_multilabel(test)
        notes.append(_multilabel_note(config, train))
    unlabeled = [item.name for item in train.items if not item.labels and not train.targets]
    if unlabeled and not train.is_multilabel:
        warnings.append(
            f"Left out: {counted(len(unlabeled), 'clip')} without a label, such as {unlabeled[0]}."
        )
        train = train.where(lambda item: bool(item.labels))
        train.require_valid()
    for other in (val, test):
        if other is not None:
            require_disjoint(train, other)
            require_same_labels(train, other)

    source = config.train or config.val or config.test or train.source
    quarantine = Quarantine(config.quarantine or default_quarantine(source))
    if excluded is None:
        excluded = tuple(quarantine.filter(train)[1])
        if val is not None:
            excluded += tuple(quarantine.filter(val)[1])
    if excluded:
        left_out = set(excluded)
        notes.append(
            f"Left out: {counted(len(left_out), 'clip')} in the quarantine list {quarantine.path}."
        )
        train = train.where(lambda item: item.name not in left_out)
        val = None if val is None else val.where(lambda item: item.name not in left_out)

    if val is None and config.val_fraction > 0:
        num_clips = len(train.items)
        train, val = hold_out(train, config.val_fraction, seed, _group_function(config.group))
        if val.items:
            notes.append(
                f"{len(val.items)} of {counted(num_clips, 'clip')} become the validation set."
            )
        else:
            warnings.append(
                f"data.val_fraction={config.val_fraction} of {counted(num_clips, 'clip')} gives no "
                "validation clip, so this run has no validation. Increase it, or set data.val."
            )
    if val is not None and not val.items:
        val = None
    if not train.items:
        raise DataError(f"There is no training clip left in {train.source!r}.")
    warnings += _class_warnings(train, num_classes)
    return TrainingData(
        train,
        val,
        test,
        num_classes,
        quarantine,
        tuple(sorted(excluded)),
        tuple(notes),
        tuple(warnings),
    )


def _read_train(
    config: DataConfig, clip_source: ClipSource | None
) -> tuple[Annotations, list[str]]:
    """The training clips, and the names of all splits in the same place."""
    if clip_source is not None:
        if config.train is not None or config.val_fraction:
            raise ConfigError(
                "The argument `clips` generates the training clips, so the recipe must not set "
                "data.train or data.val_fraction. Validation clips come from data.val."
            )
        return source_annotations(clip_source), []
    if config.train is None:
        raise ConfigError(
            "The recipe has no training clips; set data.train to a folder of classes or an "
            "annotation file (data=FOLDER)."
        )
    splits = find_splits(config.train, config.format) if Path(config.train).exists() else []
    split = config.split or next((name for name in splits if name.startswith("train")), None)
    return _read(config, config.train, split), splits


def _read_other(
    config: DataConfig,
    source: str | None,
    train_splits: list[str],
    split_names: tuple[str, ...],
    classes: tuple[str, ...],
    num_classes: int,
) -> Annotations | None:
    """An annotation of its own, or a split next to the training clips, with the same classes."""
    if source is not None:
        splits = find_splits(source, config.format) if Path(source).exists() else []
        split = next((name for name in splits if name.lower() in split_names), None)
        return _read(config, source, split, classes, num_classes)
    split = next((name for name in train_splits if name.lower() in split_names), None)
    if split is None or config.train is None:
        return None
    return _read(config, config.train, split, classes, num_classes)


def _read(
    config: DataConfig,
    source: str,
    split: str | None,
    classes: tuple[str, ...] = (),
    num_classes: int | None = None,
) -> Annotations:
    if config.targets is not None:
        return read_target_annotations(source, config.targets, root=config.root, split=split)
    labels = classes or (None if config.labels is None else label_map(config.labels))
    return read_annotations(
        source,
        root=config.root,
        format=config.format,
        labels=labels,
        num_classes=num_classes or config.num_classes,
        delimiter=config.delimiter,
        split=split,
        background=config.background,
        annotation_fps=config.annotation_fps,
    )


def _as_multilabel(split: Annotations | None) -> Annotations | None:
    return None if split is None else dataclasses.replace(split, is_multilabel=True)


def _multilabel_note(config: DataConfig, train: Annotations) -> str:
    """Raises ConfigError if the recipe requires one label per clip."""
    if config.class_balanced:
        raise ConfigError(
            f"data.class_balanced samples clips by their class, but those of {train.source!r} have "
            "several labels each. Leave it out."
        )
    unlabeled = sum(not item.labels for item in train.items)
    more = f" {unlabeled} clips have no label: they show none of the classes." if unlabeled else ""
    return (
        "Clips have several labels, so the loss is a binary cross-entropy per class "
        f"(loss.kind=binary) and the validation metric is mAP.{more}"
    )


def _group_function(pattern: str | None) -> Callable[[ClipRecord], str] | None:
    """The function that names the group of a clip: what of its file name matches the pattern."""
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"data.group is {pattern!r}, which is not a regular expression: {error}."
        ) from error

    def group_of(item: ClipRecord) -> str:
        match = compiled.search(Path(item.path).name)
        return match[0] if match else item.path

    return group_of


def _class_warnings(train: Annotations, num_classes: int) -> list[str]:
    if train.targets:
        return []
    if num_classes < 2:
        raise DataError(
            f"All clips of {train.source!r} have the same class, but training needs at least two. "
            "Give a folder with one folder per class."
        )
    counts = train.class_counts()
    warnings = []
    for number, what in ((0, "no training clip"), (1, "a single training clip")):
        names = [train.class_name(label) for label, count in enumerate(counts) if count == number]
        if names:
            more = f" and {len(names) - _NUM_NAMED} more" if len(names) > _NUM_NAMED else ""
            have = "class has" if len(names) == 1 else "classes have"
            warnings.append(f"{len(names)} {have} {what}: {', '.join(names[:_NUM_NAMED])}{more}.")
    return warnings


def uses_binary_loss(config: LossConfig, data: TrainingData) -> bool:
    """Whether the loss is a binary cross-entropy per class.

    Raises:
        ConfigError: The recipe sets a loss that does not fit multi-label annotations.
    """
    if (config.kind == "regression") != bool(data.train.targets):
        raise ConfigError(
            "A regression needs both loss.kind=regression and data.targets, the columns of the "
            "numbers to predict; set both or neither."
        )
    if data.train.targets and config.class_weights is not None:
        raise ConfigError(
            "loss.class_weights weights a clip by its class, but a regression has none. Leave it "
            "out."
        )
    if not data.train.is_multilabel:
        return config.kind == "binary"
    if config.kind == "cross_entropy":
        raise ConfigError(
            f"The clips of {data.train.source!r} have several labels each, but "
            "loss.kind=cross_entropy allows one correct class per clip. Leave it out, or set "
            "loss.kind=binary."
        )
    if config.class_weights is not None:
        raise ConfigError(
            "loss.class_weights weights a clip by its class, but the clips of "
            f"{data.train.source!r} have several labels each. Leave it out."
        )
    return True
