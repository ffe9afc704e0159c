"""How a run looks to the person at the terminal: a table that lives, else plain lines."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..terminal import live_display, stderr_console

_SECONDS_BETWEEN_LINES = 30.0
_PAIRS_PER_LINE = 3


@dataclass(frozen=True)
class Progress:
    """Where a run is. loss, accuracy: over the epoch so far; nan where there is none. watched:
    top-1 or, with several labels a clip, mAP."""

    step: int
    num_steps: int
    epoch: int
    num_epochs: int
    loss: float
    accuracy: float
    learning_rate: float
    clips_per_second: float
    data_wait_fraction: float
    memory_bytes: int
    seconds_left: float
    watched: float | None
    is_multilabel: bool
    num_bad_clips: int

    def cells(self) -> list[tuple[str, str]]:
        val = "-" if self.watched is None else f"{self.watched:.1%}"
        return [
            ("epoch", f"{self.epoch + 1}/{self.num_epochs}"),
            ("step", f"{self.step}/{self.num_steps}"),
            ("loss", f"{self.loss:.4f}"),
            ("accuracy", "-" if self.accuracy != self.accuracy else f"{self.accuracy:.1%}"),
            ("watched mAP" if self.is_multilabel else "watched", val),
            ("rate", f"{self.learning_rate:.2e}"),
            ("clips/s", f"{self.clips_per_second:.2f}"),
            ("waiting for data", f"{self.data_wait_fraction:.0%}"),
            ("memory", f"{self.memory_bytes / 2**30:.1f} GB"),
            ("bad clips", str(self.num_bad_clips)),
            ("left", duration(self.seconds_left)),
        ]


def duration(seconds: float) -> str:
    """
    >>> duration(3700)
    '1 h 02 min'
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02d} min" if hours < 48 else f"{hours / 24:.1f} days"


class Display:
    """Shows progress on stderr. `say` puts a line above the table."""

    def __init__(self, say: Callable[[str], None], *, is_shown: bool = True) -> None:
        self._say = say if is_shown else lambda message: None
        self._is_shown = is_shown
        self._live: Any = None
        self._last_line = 0.0

    def __enter__(self) -> Display:
        console = stderr_console() if self._is_shown else None
        if console is not None:
            self._live = live_display(console)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, message: str) -> None:
        if self._live is None:
            self._say(message)
        else:
            self._live.console.print(message, markup=False, highlight=False)

    def show(self, progress: Progress, *, at_once: bool = False) -> None:
        if self._live is not None:
            self._live.update(_as_table(progress))
            return
        now = time.monotonic()
        if self._is_shown and (at_once or now - self._last_line >= _SECONDS_BETWEEN_LINES):
            self._last_line = now
            self._say(", ".join(f"{name} {value}" for name, value in progress.cells()))


def _as_table(progress: Progress) -> Any:
    """Three pairs a line, which fits any terminal."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    cells = progress.cells()
    for begin in range(0, len(cells), _PAIRS_PER_LINE):
        line = cells[begin : begin + _PAIRS_PER_LINE]
        table.add_row(*(text for name, value in line for text in (f"[dim]{name}[/dim]", value)))
    return table
