"""Evaluation of models that predict numbers: rank and linear correlation, and errors."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..data import clip_source, read_target_annotations
from ..errors import ConfigError, DataError, MissingExtraError
from ..file_names import csv_cell, path_to_text, plain_text
from ..files import check_folder, write_atomic
from ..predictor import Predictor
from .intervals import Measure, bootstrap

Floats: TypeAlias = npt.NDArray[np.float64]

MEASURES = ("srcc", "plcc", "mae", "rmse")
_FILES = ("predictions.csv", "regression.json")


@dataclass(frozen=True)
class TargetResult:
    """The result for one target.

    Attributes:
        name: The target.
        srcc: Spearman's rank correlation.
        plcc: Pearson's linear correlation.
        mae: Mean absolute error, in the units of the target.
        rmse: Root of the mean squared error, in the units of the target.
    """

    name: str
    srcc: Measure
    plcc: Measure
    mae: Measure
    rmse: Measure

    def to_dict(self) -> dict[str, Any]:
        """Returns the result as JSON data."""
        found: dict[str, Any] = {"target": self.name}
        for name in MEASURES:
            measure: Measure = getattr(self, name)
            found[name] = measure.value
            found[f"{name}_interval"] = [measure.low, measure.high]
        return found


@dataclass(frozen=True, eq=False)
class RegressionResult:
    """The result of a model that predicts numbers.

    Attributes:
        model: Name of the model.
        data: The list.
        targets: The result of each target.
        paths: The N clips that could be read.
        truth: (N, R) float64, their true values.
        predicted: (N, R) float64.
        failures: (path, reason) of the others.
    """

    model: str
    data: str
    targets: tuple[TargetResult, ...]
    paths: tuple[str, ...]
    truth: Floats
    predicted: Floats
    failures: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns everything but the predictions as JSON data."""
        return {
            "model": path_to_text(self.model),
            "data": path_to_text(self.data),
            "num_clips": len(self.paths),
            "targets": [one.to_dict() for one in self.targets],
            "failures": [
                {"path": path_to_text(path), "reason": plain_text(why)}
                for path, why in self.failures
            ],
        }


def evaluate_regression(
    predictor: Predictor,
    data: str | Path,
    out: str | Path | None = None,
    *,
    root: str | Path | None = None,
    split: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> RegressionResult:
    """Predicts the clips of a list and compares them with their true numbers.

    Args:
        predictor: A model with regression targets.
        data: A list with a column for each target; see `read_target_annotations`.
        out: Folder for `predictions.csv` and `regression.json`; None writes nothing.
        root: Folder that paths are relative to.
        split: The split to use.
        progress: Called with the number of finished clips and of all clips.

    Returns:
        SRCC, PLCC, MAE and RMSE of each target, with 95% bootstrap intervals over clips.

    Raises:
        ConfigError: The model has no regression targets.
        DataError: The list cannot be used, or no clip can be read.
    """
    names = tuple(target.name for target in predictor.bundle.targets)
    if not names:
        raise ConfigError(
            f"The model {predictor.name} has classes, not regression targets; use evaluate."
        )
    annotations = read_target_annotations(data, names, root=root, split=split)
    if out is not None:
        check_folder(Path(out))
    paths, truth, predicted, failures = [], [], [], []
    results = predictor.predict_many(clip_source(item) for item in annotations.items)
    for number, (item, found) in enumerate(zip(annotations.items, results, strict=True), start=1):
        if found.error is not None:
            failures.append((item.name, str(found.error)))
        else:
            paths.append(item.name)
            truth.append(item.targets)
            predicted.append(found.values)
        progress(number, len(annotations.items))
    if not paths:
        raise DataError(f"No clip of {str(data)!r} can be read. The first: {failures[0][1]}")
    true, values = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    result = RegressionResult(
        predictor.name,
        str(data),
        tuple(_target_result(name, true[:, i], values[:, i]) for i, name in enumerate(names)),
        tuple(paths),
        true,
        values,
        tuple(failures),
    )
    if out is not None:
        _write(result, Path(out))
    return result


def srcc(truth: Floats, predicted: Floats) -> float:
    """Computes Spearman's rank correlation; 0 if one of them is constant.

    Args:
        truth: (N,) values.
        predicted: (N,) values.
    """
    return plcc(_ranks(truth), _ranks(predicted))


def plcc(truth: Floats, predicted: Floats) -> float:
    """Computes Pearson's correlation; 0 if one of them is constant.

    Args:
        truth: (N,) values.
        predicted: (N,) values.
    """
    if len(truth) < 2 or np.ptp(truth) == 0 or np.ptp(predicted) == 0:
        return 0.0
    return float(np.corrcoef(truth, predicted)[0, 1])


def _ranks(values: Floats) -> Floats:
    try:
        from scipy.stats import rankdata
    except ImportError as error:
        raise MissingExtraError("scipy", "evaluate", "Rank correlation") from error
    ranks: Floats = rankdata(values)
    return ranks


def _target_result(name: str, truth: Floats, predicted: Floats) -> TargetResult:
    def measure(statistic: Callable[[Floats, Floats], float]) -> Measure:
        def of_counts(counts: npt.NDArray[np.int64]) -> float:
            return statistic(np.repeat(truth, counts), np.repeat(predicted, counts))

        return bootstrap(of_counts, len(truth), len(truth))

    return TargetResult(
        name,
        srcc=measure(srcc),
        plcc=measure(plcc),
        mae=measure(lambda t, p: float(np.abs(t - p).mean())),
        rmse=measure(lambda t, p: float(np.sqrt(np.mean((t - p) ** 2)))),
    )


def _write(result: RegressionResult, out: Path) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    names = [one.name for one in result.targets]
    heading = [f"{kind}_{name}" for name in names for kind in ("true", "predicted")]
    writer.writerow(["path", *map(csv_cell, heading)])
    for path, true, found in zip(result.paths, result.truth, result.predicted, strict=True):
        numbers = [f"{value:.9g}" for pair in zip(true, found, strict=True) for value in pair]
        writer.writerow([csv_cell(path_to_text(path)), *numbers])
    data = json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n"
    for name, content in zip(_FILES, (text.getvalue(), data), strict=True):
        write_atomic(out / name, content.encode("utf-8"))
