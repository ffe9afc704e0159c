"""What people see: stdout is data, stderr is messages and progress."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

from ..terminal import Bar, stderr_console

T = TypeVar("T")


def say(message: str) -> None:
    """Writes one line to stderr."""
    print(message, file=sys.stderr, flush=True)


def with_progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yields the items with a progress bar on stderr, if that is a terminal.

    The bar is erased while the caller handles an item, so that it may print.
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
    """progress(done, total) for library functions: a bar with an estimate on a terminal."""
    with _open_bar(what) as bar:
        yield (lambda done, total: None) if bar is None else bar.show


def _open_bar(what: str) -> AbstractContextManager[Bar | None]:
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
    """Aligned columns; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
