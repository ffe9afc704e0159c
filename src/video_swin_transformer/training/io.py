"""The files of a run: checkpoints, CSV tables and TensorBoard.

OUT/checkpoints/step_00001200.pt   everything that a bit-exact resume needs
OUT/checkpoints/best.pt            weights of the best epoch so far
OUT/steps.csv                      one row per step: loss, accuracy, learning rate, speed
OUT/epochs.csv                     one row per epoch, with the validation metrics
OUT/tensorboard/                   the same as curves
"""

from __future__ import annotations

import csv
import io
import logging
import os
import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch

from ..errors import CheckpointError, MissingExtraError
from ..files import open_atomic, write_atomic
from .data import Task
from .validation import metric_names

logger = logging.getLogger(__name__)

# --- checkpoints ----------------------------------------------------------------------------------

State = dict[str, Any]
VERSION = 2
_BEST = "best.pt"


class Checkpoints:
    """The checkpoints of one run.

    Args:
        out: The folder of the run.
        max_checkpoints: How many are kept, not counting the best epoch's.
    """

    def __init__(self, out: Path, max_checkpoints: int) -> None:
        self.folder = out / "checkpoints"
        self._max_checkpoints = max_checkpoints

    def paths(self) -> list[Path]:
        """The checkpoints on disk, oldest first."""
        return sorted(self.folder.glob("step_*.pt"))

    def save(self, step: int, state: State) -> Path:
        """Writes a checkpoint and deletes the oldest ones over the limit."""
        path = self.folder / f"step_{step:08d}.pt"
        _write(path, {"version": VERSION, **state})
        for old in self.paths()[: -self._max_checkpoints]:
            old.unlink(missing_ok=True)
        return path

    def save_best(self, state: State) -> None:
        """Replaces the weights of the best epoch."""
        _write(self.folder / _BEST, {"version": VERSION, **state})

    def load_best(self) -> State | None:
        """The weights of the best epoch, None if there was no validation."""
        path = self.folder / _BEST
        return _read(path) if path.is_file() else None

    def load_last(self) -> State:
        """The newest checkpoint that can be read; warns about those that cannot.

        Raises:
            CheckpointError: There is none.
        """
        for path in reversed(self.paths()):
            try:
                return _read(path)
            except CheckpointError as error:
                logger.warning("%s Using the checkpoint before it.", error)
        raise CheckpointError(
            f"There is no checkpoint in {str(self.folder)!r} to resume from; start a new run "
            "without resume=True (--resume)."
        )


def _write(path: Path, state: State) -> None:
    """Writes directly to a temporary file: the state may not fit in memory twice."""
    try:
        with open_atomic(path) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        reason = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(
            f"The checkpoint {str(path)!r} cannot be written ({reason}); free some space or choose "
            "another output folder. Earlier checkpoints are intact."
        ) from error


def _read(path: Path) -> State:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{str(path)!r} cannot be read: {reason}.") from error
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise CheckpointError(
            f"{str(path)!r} is not a training checkpoint of this version (format {VERSION})."
        )
    return state


# --- tables and curves ----------------------------------------------------------------------------

STEP_COLUMNS = (
    "step", "epoch", "loss", "accuracy", "learning_rate", "clips", "clips_per_second",
    "data_wait_fraction", "memory_bytes",
)  # fmt: skip


def val_columns(task: Task) -> tuple[str, ...]:
    """The validation columns of epochs.csv."""
    return ("val_loss", *(f"val_{name}" for name in metric_names(task)), "val_clips")


class TrainLog:
    """steps.csv, epochs.csv and TensorBoard; opened by the main process only.

    Args:
        out: The folder of the run.
        step: Rows after this step, from before an interruption, are removed.
        task: Which validation metrics there are.
    """

    def __init__(self, out: Path, step: int, task: Task) -> None:
        columns = val_columns(task)
        self._epoch_columns = ("epoch", "step", "train_loss", "train_accuracy", *columns, "seconds")
        self._steps = _CsvLog(out / "steps.csv", STEP_COLUMNS, step)
        self._epochs = _CsvLog(out / "epochs.csv", self._epoch_columns, step)
        self._tensorboard = _open_tensorboard(out / "tensorboard", step)

    def write_step(self, row: Mapping[str, float]) -> None:
        """Adds a row of `STEP_COLUMNS` to steps.csv."""
        self._steps.write(row)
        self._write_scalars("train", row, int(row["step"]), STEP_COLUMNS[2:])

    def write_epoch(self, row: Mapping[str, float]) -> None:
        """Adds a row to epochs.csv."""
        self._epochs.write(row)
        self._write_scalars("epoch", row, int(row["epoch"]), self._epoch_columns[2:])

    def close(self) -> None:
        """Writes everything to disk."""
        self._steps.close()
        self._epochs.close()
        self._tensorboard.close()

    def _write_scalars(
        self, group: str, row: Mapping[str, float], at: int, names: Sequence[str]
    ) -> None:
        for name in names:
            if name in row:
                self._tensorboard.add_scalar(f"{group}/{name}", row[name], at)


class _CsvLog:
    """A CSV file that grows; each row is flushed immediately."""

    def __init__(self, path: Path, columns: Sequence[str], step: int) -> None:
        text = io.StringIO(newline="")
        rows = csv.DictWriter(text, columns, extrasaction="ignore")
        rows.writeheader()
        if step and path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                # A killed run may have left half a line at the end.
                kept = [row for row in csv.DictReader(file) if _is_until(row, columns, step)]
            rows.writerows(kept)
        write_atomic(path, text.getvalue().encode())
        self._file: IO[str] = path.open("a", newline="", encoding="utf-8")
        self._rows = csv.DictWriter(self._file, columns)

    def write(self, row: Mapping[str, float]) -> None:
        self._rows.writerow({key: _format_number(value) for key, value in row.items()})
        self._file.flush()

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _is_until(row: Mapping[str, Any], columns: Sequence[str], step: int) -> bool:
    is_complete = all(row.get(name) is not None for name in columns) and None not in row
    return is_complete and row["step"].isdecimal() and int(row["step"]) <= step


def _format_number(value: float) -> str:
    return repr(value) if isinstance(value, int) else f"{value:.9g}"


def _open_tensorboard(folder: Path, step: int) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries that tensorboard uses
            from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard", "train", "The training log") from error
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)
