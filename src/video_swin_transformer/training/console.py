"""Progress of a run on the terminal: a table that is updated in place, else plain lines."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..terminal import live_display

if TYPE_CHECKING:
    from rich.console import Console

_SECONDS_BETWEEN_LINES = 30.0
_PAIRS_PER_ROW = 3
_METRIC_LABELS = {"top1": "top-1", "map": "mAP", "srcc": "SRCC"}


@dataclass(frozen=True)
class Progress:
    """Where a run is; passed to the `progress` callback after each step.

    Attributes:
        step: Steps so far.
        num_steps: Steps of the whole training.
        epoch: The current epoch, from 0.
        num_epochs: Epochs of the whole training.
        loss: Mean training loss of this epoch so far.
        accuracy: Training accuracy of this epoch so far; NaN if it is not defined.
        learning_rate: Learning rate of the head in the last step.
        clips_per_second: Speed since the process started.
        data_wait_fraction: Fraction of the time spent waiting for clips.
        memory_bytes: Memory of this process (CUDA: the peak).
        seconds_left: Estimated time to the end.
        metric_name: The validation metric: "top1" or "map".
        val_metric: Its last value, None before the first validation.
        num_failures: Clips that could not be read.
    """

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
    metric_name: str
    val_metric: float | None
    num_failures: int

    @property
    def is_epoch_end(self) -> bool:
        """Whether the last step was the last one of its epoch."""
        return self.step % (self.num_steps // self.num_epochs) == 0


def metric_label(metric_name: str) -> str:
    """How a validation metric is printed."""
    return _METRIC_LABELS.get(metric_name, metric_name)


def format_metric(metric_name: str, value: float) -> str:
    """Formats the value of a validation metric."""
    return f"{value:.3f}" if metric_name == "srcc" else f"{value:.1%}"


def format_duration(seconds: float) -> str:
    """
    >>> format_duration(3700)
    '1 h 02 min'
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02d} min" if hours < 48 else f"{hours / 24:.1f} days"


class ProgressDisplay:
    """A `progress` callback for `train`, and the context in which it may draw.

    Args:
        console: The terminal that shows a table. Whatever else is printed meanwhile must go
            through this console. None: plain lines on stderr, one every 30 seconds and per epoch.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._live: Any = None if console is None else live_display(console)
        self._last_line = 0.0

    def __enter__(self) -> ProgressDisplay:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, progress: Progress) -> None:
        if self._live is not None:
            self._live.update(_table(progress))
            return
        now = time.monotonic()
        if progress.is_epoch_end or now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            line = ", ".join(f"{name} {value}" for name, value in _cells(progress))
            print(line, file=sys.stderr, flush=True)


def _cells(progress: Progress) -> list[tuple[str, str]]:
    p = progress
    return [
        ("epoch", f"{p.epoch + 1}/{p.num_epochs}"),
        ("step", f"{p.step}/{p.num_steps}"),
        ("loss", f"{p.loss:.4f}"),
        ("accuracy", "-" if p.accuracy != p.accuracy else f"{p.accuracy:.1%}"),
        (
            f"val {metric_label(p.metric_name)}",
            "-" if p.val_metric is None else format_metric(p.metric_name, p.val_metric),
        ),
        ("lr", f"{p.learning_rate:.2e}"),
        ("clips/s", f"{p.clips_per_second:.2f}"),
        ("data wait", f"{p.data_wait_fraction:.0%}"),
        ("memory", f"{p.memory_bytes / 2**30:.1f} GB"),
        ("unreadable clips", str(p.num_failures)),
        ("left", format_duration(p.seconds_left)),
    ]


def _table(progress: Progress) -> Any:
    """Three pairs per row, which fits any terminal."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    cells = _cells(progress)
    for begin in range(0, len(cells), _PAIRS_PER_ROW):
        row = cells[begin : begin + _PAIRS_PER_ROW]
        table.add_row(*(text for name, value in row for text in (f"[dim]{name}[/dim]", value)))
    return table
