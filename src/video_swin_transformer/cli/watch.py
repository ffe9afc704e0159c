"""videoswin watch: events of a live source as they start and end."""

from __future__ import annotations

import json
import sys
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from ..errors import ConfigError, counted
from ..file_names import one_line
from ..files import check_output
from ..terminal import live_display, stderr_console
from .console import describe_predictor, say
from .options import (
    AllowTruncated,
    CheckpointFile,
    ConfigFile,
    Device,
    Force,
    HopSeconds,
    Model,
    Precision,
    RuntimeName,
    Threads,
    Verbose,
)
from .segments import parse_threshold, read_class_thresholds

if TYPE_CHECKING:
    from rich.table import Table

    from ..live import LiveScores, WatchStatistics

EXAMPLES = (
    "videoswin watch camera:0 --display",
    "videoswin watch rtsp://camera.local/stream --allow-network --reconnect 10 --out events.jsonl",
    "videoswin watch film.mp4 --speed max",
)

_SHOWN_SECONDS = 60.0
_SHOWN_COLUMNS = 60
_SHOWN_LABELS = 8


def watch(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A video file, which is replayed, camera:N, or with --allow-network a URL.",
            show_default=False,
        ),
    ],
    model: Model = None,
    config: ConfigFile = None,
    checkpoint: CheckpointFile = None,
    hop_seconds: HopSeconds = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            metavar="HIGH[,LOW]",
            help="An event starts at the score HIGH and ends below LOW.",
            show_default="0.5,0.3",
        ),
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Thresholds of each class, which `videoswin segments --fit` wrote."
        ),
    ] = None,
    min_seconds: Annotated[
        float, typer.Option(metavar="S", help="Shorter events and gaps do not count.")
    ] = 0.5,
    speed: Annotated[
        str,
        typer.Option(
            metavar="X|max",
            help="Of files: 1 replays in real time, 10 ten times as fast, max drops nothing.",
        ),
    ] = "1",
    allow_network: Annotated[
        bool, typer.Option("--allow-network", help="Allow URLs (rtsp, http, rtmp, udp, tcp, srt).")
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(metavar="S", help="Time without a frame after which the source hangs."),
    ] = 10.0,
    reconnect: Annotated[
        int,
        typer.Option(metavar="N", help="How often in a row to open the source again."),
    ] = 0,
    max_seconds: Annotated[
        float | None, typer.Option(metavar="S", help="Stop after this time of the source.")
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Also post each event to this URL as JSON.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the events to this file (JSON Lines)."),
    ] = None,
    force: Force = False,
    display: Annotated[
        bool, typer.Option("--display", help="Show a timeline of the last minute.")
    ] = False,
    runtime: RuntimeName = "auto",
    precision: Precision = "f32",
    device: Device = "auto",
    threads: Threads = None,
    allow_truncated: AllowTruncated = False,
    verbose: Verbose = False,
) -> int:
    """Watch a live source and print its events as JSON Lines, as they start and end."""
    from ..live import parse_source
    from ..live import watch as watch_source
    from ..predictor import Predictor
    from ..segments import SegmentRules

    parse_source(source, allow_network=allow_network)  # before the model is loaded
    console = stderr_console() if display else None
    if display and console is None:
        raise ConfigError("--display needs standard error to be a terminal; leave it out.")
    if out is not None:
        check_output(out, "a list of events", _is_events, force=force)
    rules = SegmentRules(
        thresholds=parse_threshold(threshold),
        class_thresholds=read_class_thresholds(thresholds),
        min_seconds=min_seconds,
    )
    predictor = Predictor.load(
        model,
        config=config,
        checkpoint=checkpoint,
        runtime=runtime,
        precision=precision,
        device=device,
        threads=threads,
        allow_truncated=allow_truncated,
    )
    if verbose:
        say(describe_predictor(predictor))
    timeline = _Timeline()
    with ExitStack() as stack:
        events_file: TextIO = sys.stdout
        if out is not None:
            events_file = stack.enter_context(out.open("w", encoding="utf-8"))
        watcher = stack.enter_context(
            watch_source(
                predictor,
                source,
                rules=rules,
                hop_seconds=hop_seconds,
                speed=_parse_speed(speed),
                allow_network=allow_network,
                timeout_seconds=timeout,
                reconnect=reconnect,
                max_seconds=max_seconds,
                webhook=webhook,
                on_scores=None if console is None else timeline.add,
            )
        )
        stack.callback(_say_summary, watcher.statistics)
        if console is not None:
            live = stack.enter_context(live_display(console))
            timeline.show = lambda: live.update(timeline.table(watcher.labels, watcher.statistics))
        for event in watcher:
            line = json.dumps(event.to_dict(), ensure_ascii=False)
            print(line, file=events_file, flush=True)
    if watcher.statistics.webhook_error:
        say(f"warning: the webhook failed, last with {one_line(watcher.statistics.webhook_error)}")
    return 0


def _say_summary(statistics: WatchStatistics) -> None:
    median, slow = statistics.latency_seconds(), statistics.latency_seconds(0.95)
    say(
        f"{counted(statistics.num_frames, 'frame')} ({statistics.num_dropped_frames} dropped), "
        f"{counted(statistics.num_windows, 'window')} ({statistics.num_skipped_windows} skipped), "
        f"{counted(statistics.num_events, 'event')} in {statistics.seconds:.1f} s; "
        f"from frame to score {1000 * median:.0f} ms (median), {1000 * slow:.0f} ms (95%)"
    )
    for failure in statistics.failures:
        say(f"broke off: {failure}")


class _Timeline:
    """The running events of the last minute, as a table of the terminal."""

    def __init__(self) -> None:
        self._scores: deque[LiveScores] = deque()
        self.show: Any = lambda: None

    def add(self, scores: LiveScores) -> None:
        """Adds the scores of a window, and shows the table."""
        self._scores.append(scores)
        while scores.time_seconds - self._scores[0].time_seconds > _SHOWN_SECONDS:
            self._scores.popleft()
        self.show()

    def table(self, labels: tuple[str, ...], statistics: WatchStatistics) -> Table:
        """Returns the table: one row per label, the last minute from left to right."""
        from rich.table import Table

        now = self._scores[-1]
        recent = {label for one in self._scores for label in one.running}
        order = sorted(range(len(labels)), key=lambda i: -now.scores[i])
        shown = [i for i in order if labels[i] in recent or i in order[:3]][:_SHOWN_LABELS]
        title = f"{now.time_seconds:.1f} s, latency {1000 * now.latency_seconds:.0f} ms"
        if statistics.num_dropped_frames:
            title += f", {counted(statistics.num_dropped_frames, 'frame')} dropped"
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for heading in ("label", "score", f"last {_SHOWN_SECONDS:.0f} s"):
            table.add_column(heading, no_wrap=True)
        for index in shown:
            row = f"{float(now.scores[index]):.2f}"
            table.add_row(labels[index], row, self._cells(labels[index], now.time_seconds))
        return table

    def _cells(self, label: str, now: float) -> str:
        cells = ["\u00b7"] * _SHOWN_COLUMNS
        for one in self._scores:
            age = (now - one.time_seconds) / _SHOWN_SECONDS
            if label in one.running:
                cells[max(0, _SHOWN_COLUMNS - 1 - int(age * _SHOWN_COLUMNS))] = "\u2588"
        return "".join(cells)


def _parse_speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--speed is {text!r}, but must be a number or max.") from None


def _is_events(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(10) in (b"", b'{"state": ')
