"""Classifications as JSON Lines and CSV."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..files import path_to_text, plain_text, write_atomic

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


class CsvTable:
    """Classifications as a CSV file: input, rank, label, index, score, error.

    The file is replaced atomically every few seconds and at the end, so that an interrupted run
    keeps its results. A run that fails before its first result leaves an existing file unchanged.
    """

    _SECONDS_BETWEEN_WRITES = 5.0

    def __init__(self, path: Path, top_k: int) -> None:
        self._path, self._top_k = path, top_k
        self._text = io.StringIO(newline="")
        self._rows = csv.writer(self._text)
        self._rows.writerow(["input", "rank", "label", "index", "score", "error"])
        self._has_results = False
        # Fails early if the path is not writable. An existing file is kept until the first result.
        write_atomic(path, path.read_bytes() if path.is_file() else self._text.getvalue().encode())
        self._written = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._has_results:
            self._write()

    def add(self, result: Classification) -> None:
        """Adds the rows of one video."""
        self._has_results = True
        source = path_to_text(result.source)
        if result.error is not None:
            self._rows.writerow([source, "", "", "", "", plain_text(str(result.error))])
        for rank, index in enumerate(result.top_indices(self._top_k), start=1):
            score = f"{result.scores[index]:.6f}"
            self._rows.writerow([source, rank, result.label(index), index, score, ""])
        if time.monotonic() - self._written > self._SECONDS_BETWEEN_WRITES:
            self._write()

    def _write(self) -> None:
        write_atomic(self._path, self._text.getvalue().encode("utf-8"))
        self._written = time.monotonic()
