"""`probe_features`: how well simple classifiers tell labels from features, in seconds.

Videos are the samples: rows of one video are averaged, and are never split between training and
test. Groups of videos (of one scene, one person) can be kept together, too, or the test videos can
be given.
"""

from __future__ import annotations

import importlib
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import require
from ..data import Annotations, read_annotations
from ..errors import ConfigError, DataError, MissingExtraError, counted
from .table import FeatureTable, Floats, Ints


@dataclass(frozen=True, eq=False)
class ProbeScore:
    """The result of one classifier.

    Attributes:
        accuracy: Share of test videos with the correct label, in [0, 1].
        fold_accuracies: The same for each fold.
        predicted: (V,) int64, the label index of each test video.
    """

    accuracy: float
    fold_accuracies: tuple[float, ...]
    predicted: Ints


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """The results of `probe_features`.

    Attributes:
        linear: Logistic regression on standardized features.
        knn: Vote of the nearest neighbors by cosine similarity.
        labels: Label names.
        videos: The test videos: with cross-validation all of them, each when it was not trained on.
        truth: (V,) int64, the label index of each test video.
        majority: Accuracy of always answering the most frequent label.
    """

    linear: ProbeScore
    knn: ProbeScore
    labels: tuple[str, ...]
    videos: tuple[str, ...]
    truth: Ints
    majority: float

    def __repr__(self) -> str:
        lines = [f"{counted(len(self.videos), 'video')}, {counted(len(self.labels), 'label')}"]
        for name, score in (("linear", self.linear), ("knn", self.knn)):
            low, high = min(score.fold_accuracies), max(score.fold_accuracies)
            folds = f"  (folds {low:.1%} to {high:.1%})" if len(score.fold_accuracies) > 1 else ""
            lines.append(f"{name:8} {score.accuracy:6.1%}{folds}")
        lines.append(f"majority {self.majority:6.1%}")
        return "\n".join(lines)


def probe_features(
    features: FeatureTable,
    labels: Mapping[str, str],
    *,
    test_labels: Mapping[str, str] | None = None,
    folds: int = 5,
    num_neighbors: int = 5,
    group_by: str | None = None,
    seed: int = 0,
) -> ProbeResult:
    """Cross-validates a linear and a nearest-neighbor classifier.

    Args:
        features: One or more rows per video.
        labels: The label of each video, by its name in the table. Videos without one are left out.
        test_labels: Labels of the test videos. The classifiers are then trained on `labels` and
            tested once, without cross-validation.
        folds: Number of folds; each label needs at least as many videos (or groups).
        num_neighbors: Neighbors of the nearest-neighbor classifier.
        group_by: Regular expression searched in the name of each video. Videos with the same match
            (its groups, if it has any) stay together, such as r"_g(\\d+)_" for UCF-101.
        seed: Seed of the folds.

    Returns:
        The accuracies.

    Raises:
        ConfigError: The expression is invalid, or a number is out of range.
        DataError: Too few videos have labels, or a video is in both training and test.
        MissingExtraError: scikit-learn is not installed.
    """
    require(folds >= 2, "folds", folds, "2 or more")
    require(num_neighbors >= 1, "num_neighbors", num_neighbors, "1 or more")
    vectors, names = _video_vectors(features)
    both = {**labels, **(test_labels or {})}
    known = [index for index, name in enumerate(names) if name in both]
    classes = sorted({both[names[index]] for index in known})
    if len(classes) < 2:
        raise DataError(
            f"{len(known)} of {len(names)} videos have labels, and there are {len(classes)} "
            "different ones; a probe needs at least two labels."
        )
    videos = [names[index] for index in known]
    truth = np.array([classes.index(both[name]) for name in videos])
    if test_labels is not None:
        splits = [_given_split(videos, labels, test_labels)]
    else:
        splits = _folds(videos, truth, classes, folds, group_by, seed)
    linear, knn = _fit(vectors[known], truth, splits, num_neighbors)
    tested = np.sort(np.concatenate([test for _, test in splits]))
    majority = float(np.bincount(truth[tested]).max() / len(tested))
    return ProbeResult(
        linear,
        knn,
        tuple(classes),
        tuple(videos[index] for index in tested),
        truth[tested],
        majority,
    )


_Splits = list[tuple[Ints, Ints]]


def _given_split(
    videos: list[str], labels: Mapping[str, str], test_labels: Mapping[str, str]
) -> tuple[Ints, Ints]:
    train = np.flatnonzero([name in labels for name in videos])
    test = np.flatnonzero([name in test_labels for name in videos])
    shared = np.intersect1d(train, test)
    if len(shared):
        raise DataError(f"{videos[shared[0]]!r} is both in training and in test.")
    if not len(train) or not len(test):
        raise DataError(
            f"There are {len(train)} training and {len(test)} test videos with features; both "
            "need at least one."
        )
    return train, test


def _folds(
    videos: list[str],
    truth: Ints,
    classes: list[str],
    folds: int,
    group_by: str | None,
    seed: int,
) -> _Splits:
    groups = _groups(videos, group_by)
    members = [np.unique(groups[truth == label]) for label in range(len(classes))]
    fewest = min(range(len(classes)), key=lambda label: len(members[label]))
    if len(members[fewest]) < folds:
        what = "videos" if group_by is None else "groups"
        raise DataError(
            f"The label {classes[fewest]!r} has {len(members[fewest])} {what}, but {folds} folds "
            "need as many; use fewer folds."
        )
    splitter = _sklearn("model_selection").StratifiedGroupKFold(
        folds, shuffle=True, random_state=seed
    )
    return list(splitter.split(truth, truth, groups))


def _sklearn(module: str) -> Any:
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "features", "A probe") from error


def _fit(
    vectors: Floats, truth: Ints, splits: _Splits, num_neighbors: int
) -> tuple[ProbeScore, ProbeScore]:
    neighbors = min(num_neighbors, *(len(train) for train, _ in splits))
    regression = _sklearn("linear_model").LogisticRegression(max_iter=2000)
    scaler = _sklearn("preprocessing").StandardScaler()
    classifiers = (
        _sklearn("pipeline").make_pipeline(scaler, regression),
        _sklearn("neighbors").KNeighborsClassifier(neighbors, metric="cosine"),
    )
    scores = []
    for classifier in classifiers:
        predicted = np.full(len(truth), -1)
        accuracies = []
        for train, test in splits:
            classifier.fit(vectors[train], truth[train])
            predicted[test] = classifier.predict(vectors[test])
            accuracies.append(float((predicted[test] == truth[test]).mean()))
        tested = predicted >= 0
        accuracy = float((predicted == truth)[tested].mean())
        scores.append(ProbeScore(accuracy, tuple(accuracies), predicted[tested]))
    return scores[0], scores[1]


def _video_vectors(features: FeatureTable) -> tuple[Floats, list[str]]:
    """Averages the rows of each video: (V, C), and their names."""
    vectors = features.vectors()
    rows: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(features.names):
        rows[name].append(row)
    averaged = np.stack([vectors[indices].mean(axis=0) for indices in rows.values()])
    return averaged, list(rows)


def _groups(videos: list[str], group_by: str | None) -> Ints:
    if group_by is None:
        return np.arange(len(videos))
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise ConfigError(f"group_by is {group_by!r}, which is not valid: {error}.") from error
    keys = []
    for video in videos:
        found = pattern.search(video)
        if found is None:
            raise DataError(f"group_by {group_by!r} is not found in {video!r}.")
        keys.append("\0".join(map(str, found.groups())) if found.groups() else found[0])
    return np.unique(keys, return_inverse=True)[1]


def read_video_labels(source: str | Path, features: FeatureTable) -> dict[str, str]:
    """Reads the labels of the videos of a table from an annotation list or a folder of classes.

    Args:
        source: What `read_annotations` reads. Paths need not be those of the table: a video also
            matches by its file name without suffix, if that is unique.
        features: The table.

    Returns:
        The label of each video that has one, by its name in the table.

    Raises:
        DataError: The labels cannot be read, or a video has several.
    """
    annotations = read_annotations(source)
    if annotations.is_multilabel:
        raise DataError(f"{str(source)!r} has several labels per video; a probe needs one.")
    by_path, by_stem = _index(annotations)
    found = {}
    for video in features.videos:
        path = Path(video.name)
        stems = by_stem.get(path.stem, set())
        label = by_path.get(str(path.resolve())) or (next(iter(stems)) if len(stems) == 1 else None)
        if label is not None:
            found[video.name] = label
    return found


def _index(annotations: Annotations) -> tuple[dict[str, str], dict[str, set[str]]]:
    by_path: dict[str, str] = {}
    by_stem: dict[str, set[str]] = defaultdict(set)
    for item in annotations.items:
        if item.labels:
            label = annotations.class_name(item.labels[0])
            by_path[str(Path(item.path).resolve())] = label
            by_stem[Path(item.path).stem].add(label)
    return by_path, by_stem
