"""The console: inputs that the user named, messages and progress on stderr."""

from __future__ import annotations

import codecs
import glob
import json
import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from ..errors import ConfigError, VideoDecodeError
from ..file_names import plain_text
from ..terminal import Bar, stderr_console

if TYPE_CHECKING:
    from rich.console import Console

    from ..predictor import Predictor

T = TypeVar("T")
_MAX_NUMBERS = 8  # of missing images, in a message


def say(message: str) -> None:
    """Writes one line to stderr."""
    print(_message_text(message), file=sys.stderr, flush=True)


def _message_text(message: str) -> str:
    """The text of a message; undecodable bytes are \\xNN, also where repr() wrote \\udcNN."""
    return re.sub(r"\\udc([89a-f][0-9a-f])", r"\\x\1", plain_text(message))


def print_json(data: object) -> None:
    """Writes one line of JSON to stdout, in ASCII if stdout is not UTF-8."""
    is_utf8 = codecs.lookup(sys.stdout.encoding or "ascii").name == "utf-8"
    print(json.dumps(data, ensure_ascii=not is_utf8), flush=True)


def with_progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yields the items with a progress bar on stderr, if that is a terminal and there are several.

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


def refuse_without_effect(context: typer.Context, names: Iterable[str], why: str) -> None:
    """Raises ConfigError if one of the options was given, since it would have no effect.

    Args:
        context: The command line.
        names: Names of the parameters.
        why: Completes "... has no effect", such as "without --csv".
    """
    options = {one.name: (one.opts or [str(one.name)])[0] for one in context.command.params}
    given = []
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            given.append(options[name])
    if given:
        verb = "have" if len(given) > 1 else "has"
        raise ConfigError(f"{' and '.join(given)} {verb} no effect {why}; omit {_it(given)}.")


def _it(names: Sequence[str]) -> str:
    return "them" if len(names) > 1 else "it"


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


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
        message = _message_text(record.getMessage())
        if record.levelno > logging.INFO:
            message = f"{record.levelname.lower()}: {message}"
        if self._console is None:
            print(message, file=sys.stderr, flush=True)
        else:
            self._console.print(message, markup=False, highlight=False, soft_wrap=True)


def expand_inputs(inputs: Iterable[str]) -> list[str]:
    """Expands files, folders and glob patterns to videos, in order and without duplicates.

    A folder is expanded to all videos in it and its subfolders; a folder with images is a video
    itself. Files in it that are not videos are counted on stderr. A pattern with *, ? or [ is
    expanded unless a file has that name. An input without a match is kept, so that reading it
    reports the error.
    """
    passed_over: Counter[str] = Counter()
    found = _expand(inputs, passed_over)
    if passed_over:
        from ..video.discovery import describe_passed_over

        say(describe_passed_over(passed_over) or "")
    for text in found:
        _say_gaps(text)
    return found


def _say_gaps(text: str) -> None:
    """Says that numbers are missing among the images of a frame folder."""
    if not os.path.isdir(text):  # noqa: PTH112
        return
    from ..video.images import find_frames

    try:
        missing = find_frames(text, text, None).missing
    except VideoDecodeError:  # reported when the folder is read
        return
    if missing:
        listed = ", ".join(map(str, missing[:_MAX_NUMBERS]))
        more = ", ..." if len(missing) > _MAX_NUMBERS else ""
        say(f"{text}: missing among its images: {listed}{more}. The others follow one another.")


def _expand(inputs: Iterable[str], passed_over: Counter[str]) -> list[str]:
    from ..video.discovery import find_videos

    found: dict[str, None] = {}
    for text in inputs:
        # os.path returns False if pathlib raises: no permission on a parent, a NUL in the name.
        if os.path.isdir(text):  # noqa: PTH112
            below = [str(path) for path in find_videos(Path(text), passed_over)]
            found.update(dict.fromkeys(below or [text]))
        elif glob.has_magic(text) and not os.path.exists(text):  # noqa: PTH110
            matches = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 (takes any path)
            found.update(dict.fromkeys(_expand(matches, passed_over) if matches else [text]))
        else:
            found[text] = None
    return list(found)


def describe_predictor(predictor: Predictor) -> str:
    """Describes model, runtime and views, and why this runtime was selected."""
    text = f"{predictor.name}: {predictor.runtime.description}, {predictor.views_text}"
    reason = predictor.runtime.selection_reason
    return f"{text}\n{reason}" if reason else text


def report_failures(num_failed: int, num_inputs: int) -> int:
    """Prints the number of failed inputs to stderr. Returns the exit code: 1 if any, else 0."""
    if num_failed and num_inputs > 1:
        rest = "none succeeded" if num_failed == num_inputs else "all others succeeded"
        message = f"{num_failed} of {num_inputs} inputs failed; {rest}."
        say(message)
    return 1 if num_failed else 0
