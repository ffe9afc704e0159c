"""A bar on the terminal while a file is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..terminal import Bar, stderr_console
from .http import Progress


@contextmanager
def terminal_progress(what: str) -> Iterator[Progress | None]:
    """A progress callback that draws on stderr; None where that is no terminal."""
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
    with Bar(console, what, columns) as bar:
        yield bar.show
