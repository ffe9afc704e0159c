"""How results reach people and programs: stdout is data, stderr is talk."""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ..errors import VideoSwinError
from ..files import write_atomic
from ..terminal import Bar, stderr_console

if TYPE_CHECKING:
    from ..predictor import Classification

T = TypeVar("T")


def say(message: str) -> None:
    """One line to the person at the terminal."""
    print(message, file=sys.stderr, flush=True)


def with_progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Hands items on, with a bar and an estimate on stderr if that is a terminal.

    The bar is erased while the caller has an item, so that the caller may print.
    """
    with _open_bar(what) if total > 1 else nullcontext() as bar:
        for number, item in enumerate(items, start=1):
            if bar is None:
                yield item
                continue
            bar.show(number, total)
            with bar.erased():
                yield item


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Gives show(done, total): a bar and an estimate on stderr if that is a terminal."""
    with _open_bar(what) as bar:
        yield (lambda done, total: None) if bar is None else bar.show


def _open_bar(what: str) -> AbstractContextManager[Bar | None]:
    """A bar that counts items, once entered; None where it cannot be drawn."""
    console = stderr_console()
    if console is None:
        return nullcontext()
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Bar(console, what, columns)


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side, for people; the first row heads them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def describe_error(error: VideoSwinError) -> dict[str, str]:
    return {"type": type(error).__name__, "message": str(error)}


def classification_json(result: Classification, count: int) -> str:
    """One line of JSON: {"input", "model", "labels": [...], "error"}."""
    labels = [
        {
            "label": result.label(index),
            "index": index,
            "score": round(float(result.scores[index]), 6),
        }
        for index in result.top_indices(count)
    ]
    error = None if result.error is None else describe_error(result.error)
    line: dict[str, Any] = {
        "input": result.source,
        "model": result.model,
        "labels": labels,
        "error": error,
    }
    return json.dumps(line, ensure_ascii=False)


class CsvTable:
    """Classifications as a CSV file: input, rank, label, index, score, error.

    The file is replaced whole every few seconds and at the end, so that a stopped run keeps what
    it had. With path None it only counts failures.
    """

    _SECONDS_BETWEEN_WRITES = 5.0

    def __init__(self, path: Path | None, count: int) -> None:
        self.num_failed = 0
        self._path, self._count = path, count
        self._text = io.StringIO(newline="")
        self._rows = csv.writer(self._text)
        self._rows.writerow(["input", "rank", "label", "index", "score", "error"])
        self._write()  # a place that cannot be written to is found before the work, not after it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def add(self, result: Classification) -> None:
        if result.error is not None:
            self.num_failed += 1
            self._rows.writerow([result.source, "", "", "", "", str(result.error)])
        for rank, index in enumerate(result.top_indices(self._count), start=1):
            score = f"{result.scores[index]:.6f}"
            self._rows.writerow([result.source, rank, result.label(index), index, score, ""])
        if time.monotonic() - self._written > self._SECONDS_BETWEEN_WRITES:
            self._write()

    def _write(self) -> None:
        if self._path is not None:
            write_atomic(self._path, self._text.getvalue().encode("utf-8"))
        self._written = time.monotonic()
