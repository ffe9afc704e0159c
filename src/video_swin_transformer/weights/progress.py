"""A progress bar for downloads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..terminal import Bar, stderr_console
from .http import Progress


@contextmanager
def terminal_progress(label: str) -> Iterator[Progress | None]:
    """Yields a progress callback that draws on stderr; None if stderr is not a terminal."""
    console = stderr_console()
    if console is None:
        yield None
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(console, label, columns) as bar:
        yield bar.show
