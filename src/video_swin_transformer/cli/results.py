"""Classifications as JSON Lines and CSV."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..file_names import csv_cell, path_to_text, plain_text
from ..files import check_output, is_stream, write_atomic

if TYPE_CHECKING:
    from ..predictor import Classification


def classification_data(result: Classification, top_k: int) -> dict[str, Any]:
    """The JSON data of one video: {"input", "model", "labels": [...], "num_views", "error"}."""
    labels = [
        {
            "label": result.label(index),
            "index": index,
            "score": round(float(result.scores[index]), 6),
        }
        for index in result.top_indices(top_k)
    ]
    error = None
    if result.error is not None:
        error = {"type": type(result.error).__name__, "message": plain_text(str(result.error))}
    return {
        "input": path_to_text(result.source),
        "model": path_to_text(result.model),
        "labels": labels,
        "num_views": result.num_views,
        "error": error,
    }


_COLUMNS = ("input", "rank", "label", "index", "score", "error")


def is_csv_table(path: Path) -> bool:
    """Whether a file was written by `CsvTable`.

    Args:
        path: The file.
    """
    heading = ",".join(_COLUMNS).encode()
    with path.open("rb") as file:
        return file.readline(len(heading) + 2).rstrip(b"\r\n") == heading


class CsvTable:
    """Classifications as a CSV file: input, rank, label, index, score, error.

    The file is replaced atomically every few seconds and at the end, so that an interrupted run
    keeps its results. A run that fails before its first result leaves an existing file unchanged.
    An existing file of another kind is refused unless `force` is true.
    """

    _SECONDS_BETWEEN_WRITES = 5.0

    def __init__(self, path: Path, top_k: int, *, force: bool = False) -> None:
        self._path, self._top_k = path, top_k
        self._text = io.StringIO(newline="")
        self._rows = csv.writer(self._text)
        self._rows.writerow(_COLUMNS)
        self._has_results = False
        check_output(path, "a table of classifications", is_csv_table, force=force)
        self._is_stream = is_stream(path)  # read as it is written, so it is written once
        self._written = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._has_results:
            self._write()

    def add(self, result: Classification) -> None:
        """Adds the rows of one video."""
        self._has_results = True
        source = csv_cell(path_to_text(result.source))
        if result.error is not None:
            message = csv_cell(plain_text(str(result.error)))
            self._rows.writerow([source, "", "", "", "", message])
        for rank, index in enumerate(result.top_indices(self._top_k), start=1):
            score = f"{result.scores[index]:.6f}"
            label = csv_cell(result.label(index))
            self._rows.writerow([source, rank, label, index, score, ""])
        is_due = time.monotonic() - self._written > self._SECONDS_BETWEEN_WRITES
        if is_due and not self._is_stream:
            self._write()

    def _write(self) -> None:
        write_atomic(self._path, self._text.getvalue().encode("utf-8"))
        self._written = time.monotonic()
