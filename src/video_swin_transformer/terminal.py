"""Live displays on the terminal: the only place that opens one.

A live display of rich replaces `sys.stdout` and `sys.stderr` of the process by default, and sends
to its own console whatever is printed. With the display on stderr and stdout redirected, results
would go to the terminal and the file would stay empty. So the displays here never replace either.
Code that prints while a bar is shown erases the bar first; see `Bar.erased`.
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
    """A console on stderr; None unless stderr is a terminal that can redraw a line."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_interactive else None


class Bar:
    """A progress bar that disappears when it is closed. Drawn while used as a context manager."""

    def __init__(self, console: Console, what: str, columns: Sequence[ProgressColumn]) -> None:
        from rich.progress import Progress

        self._progress = Progress(
            *columns,
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task(what, total=None)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, done: int, total: int | None) -> None:
        """Moves the bar. total: None while it is unknown."""
        self._progress.update(self._task, completed=done, total=total)

    @contextmanager
    def erased(self) -> Iterator[None]:
        """Leaves the line to other output, on stdout or stderr, and draws the bar again after it.

        After an exception the bar stays erased.
        """
        self._progress.stop()
        yield
        self._progress.start()


def live_display(console: Console) -> Live:
    """A display that is updated in place and stays when it is stopped."""
    from rich.live import Live

    return Live(console=console, refresh_per_second=4, redirect_stdout=False, redirect_stderr=False)
