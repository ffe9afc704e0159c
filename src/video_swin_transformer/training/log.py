"""What is written down of a run: two CSV tables and TensorBoard.

OUT/steps.csv      a line a step: loss, accuracy and rate as they went
OUT/epochs.csv     a line an epoch, with the accuracy (or mAP) on the clips that are watched
OUT/tensorboard/   the same as curves
"""

from __future__ import annotations

import csv
import io
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ..errors import MissingExtraError
from ..files import write_atomic
from .validation import metric_names

STEP_COLUMNS = (
    "step", "epoch", "loss", "accuracy", "learning_rate", "clips", "clips_per_second",
    "data_wait_fraction", "memory_bytes",
)  # fmt: skip


def val_columns(is_multilabel: bool) -> tuple[str, ...]:
    """What is written down of the clips that are watched."""
    return ("val_loss", *(f"val_{name}" for name in metric_names(is_multilabel)), "val_clips")


class RunLog:
    """Opened by one process. Lines after `step`, from before an interruption, are taken back."""

    def __init__(self, out: Path, step: int, is_multilabel: bool) -> None:
        watched = val_columns(is_multilabel)
        self._columns = ("epoch", "step", "train_loss", "train_accuracy", *watched, "seconds")
        self._steps = _Table(out / "steps.csv", STEP_COLUMNS, step)
        self._epochs = _Table(out / "epochs.csv", self._columns, step)
        self._curves = _open_tensorboard(out / "tensorboard", step)

    def step(self, row: Mapping[str, float]) -> None:
        self._steps.add(row)
        self._draw("train", row, int(row["step"]), STEP_COLUMNS[2:])

    def epoch(self, row: Mapping[str, float]) -> None:
        self._epochs.add(row)
        self._draw("epoch", row, int(row["epoch"]), self._columns[2:])

    def close(self) -> None:
        self._steps.close()
        self._epochs.close()
        self._curves.close()

    def _draw(self, group: str, row: Mapping[str, float], at: int, names: Sequence[str]) -> None:
        for name in names:
            if name in row:
                self._curves.add_scalar(f"{group}/{name}", row[name], at)


class _Table:
    """A CSV file that grows; every line reaches the system at once."""

    def __init__(self, path: Path, columns: Sequence[str], step: int) -> None:
        text = io.StringIO(newline="")
        rows = csv.DictWriter(text, columns, extrasaction="ignore")
        rows.writeheader()
        if step and path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                # A killed run may have left half a line at the end.
                kept = [r for r in csv.DictReader(file) if _is_before(r, columns, step)]
            rows.writerows(kept)
        write_atomic(path, text.getvalue().encode())
        self._file: IO[str] = path.open("a", newline="", encoding="utf-8")
        self._rows = csv.DictWriter(self._file, columns)

    def add(self, row: Mapping[str, float]) -> None:
        self._rows.writerow({key: _written(value) for key, value in row.items()})
        self._file.flush()

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _is_before(row: Mapping[str, Any], columns: Sequence[str], step: int) -> bool:
    whole = all(row.get(name) is not None for name in columns) and None not in row
    return whole and row["step"].isdecimal() and int(row["step"]) <= step


def _written(value: float) -> str:
    return repr(value) if isinstance(value, int) else f"{value:.9g}"


def _open_tensorboard(folder: Path, step: int) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries that tensorboard uses
            from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard", "train", "The log of a training") from error
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)
