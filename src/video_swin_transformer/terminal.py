"""Progress bars and live displays on the terminal.

By default, live displays of rich replace `sys.stdout` and `sys.stderr` and redirect all output to
their console. With a display on stderr and stdout redirected to a file, results would be missing
in the file. Therefore redirection is disabled here. Code that prints while a bar is displayed must
erase it first; see `Bar.erased`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.progress import ProgressColumn


def stderr_console() -> Console | None:
    """Returns a console on stderr; None unless stderr is an interactive terminal."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_interactive else None


class Bar:
    """A progress bar, displayed while used as a context manager."""

    def __init__(self, console: Console, label: str, columns: Sequence[ProgressColumn]) -> None:
        from rich.progress import Progress

        self._progress = Progress(
            *columns,
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task(label, total=None)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, done: int, total: int | None) -> None:
        """Updates the bar.

        Args:
            done: Amount done.
            total: Total amount; None if unknown.
        """
        self._progress.update(self._task, completed=done, total=total)

    @contextmanager
    def erased(self) -> Iterator[None]:
        """Erases the bar during the block, so that other output can be printed.

        After an exception the bar stays erased.
        """
        self._progress.stop()
        yield
        self._progress.start()


def live_display(console: Console) -> Live:
    """Returns a display that is updated in place and remains visible when stopped.

    Args:
        console: The console.
    """
    from rich.live import Live

    return Live(console=console, refresh_per_second=4, redirect_stdout=False, redirect_stderr=False)
