"""Shows the log messages of the package on stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def log_to_stderr(
    console: Console | None = None, *, is_on: bool = True, level: int = logging.INFO
) -> Iterator[None]:
    """Writes log messages of this package to stderr; warnings are prefixed with "warning:".

    It replaces the handlers of the package's logger while active, so it can be nested.

    Args:
        console: Prints the messages above a live display of the same console.
        is_on: False discards messages, for all but the first of several processes.
        level: Lowest level shown.
    """
    logger = logging.getLogger(__name__.partition(".")[0])
    previous_level, handlers = logger.level, logger.handlers
    logger.handlers = [_StderrHandler(console) if is_on else logging.NullHandler()]
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.handlers = handlers
        logger.setLevel(previous_level)


class _StderrHandler(logging.Handler):
    """Writes one line per message, prefixed with the level for warnings and errors."""

    def __init__(self, console: Console | None) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno > logging.INFO:
            message = f"{record.levelname.lower()}: {message}"
        if self._console is None:
            print(message, file=sys.stderr, flush=True)
        else:
            self._console.print(message, markup=False, highlight=False, soft_wrap=True)
