"""`FeatureTable`: features with the time of each row and everything that determined them."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, MissingExtraError
from ..plotting import Segment, figure_svg, timeline_chart
from ..receipt import Receipt

Floats: TypeAlias = npt.NDArray[np.float32]
Seconds: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

MODES = ("clip", "stream")
POOLINGS = ("vector", "tokens", "map", "logits")
_SHOWN_ROWS = 6
_MAX_HTML_ROWS = 500  # with a timeline


@dataclass(frozen=True)
class FeatureSettings:
    """What determines the rows of a table. Rows of different settings are not comparable.

    Attributes:
        mode: "clip": each window of frames alone; "stream": one pass over the whole video.
        model: Name of the model, for display.
        weights_digest: SHA-256 of its files; "" if unknown.
        num_frames: Frames per window, or in a stream frames per row.
        stride: Step between the frames of a window; None if it is `stride_seconds`.
        stride_seconds: The step in seconds, converted to frames at the rate of each video.
        spread: Whether the frames of a window are spread evenly over the whole video or segment.
        fps: Constant rate to which the frames were resampled; None for the video's own frames.
        short_side: Short side of the resized frames in pixels.
        crop_size: Side of the crops in pixels.
        crops: Number of crops; "full" for the whole frame.
        average_crops: Whether rows are averaged over crops; if not, they have an axis of crops.
        stage: Stage of the network, from 0; the last one is normalized.
        pooling: "vector", "tokens", "map" or "logits".
        projection: How channels were projected; "" if they were not.
    """

    mode: str
    model: str
    weights_digest: str
    num_frames: int
    stride: int | None
    stride_seconds: float | None
    spread: bool
    fps: float | None
    short_side: int
    crop_size: int
    crops: str
    average_crops: bool
    stage: int
    pooling: str
    projection: str = ""


@dataclass(frozen=True)
class VideoInfo:
    """A video and how its rows were placed.

    Attributes:
        name: Path or description of the video.
        content_digest: SHA-256 of its content.
        num_frames: Frames of the video.
        fps: Average frames per second; None if unknown.
        is_variable_rate: Whether a frame is more than half a frame away from a constant rate.
        duration_seconds: Time from the first frame to the end of the last one; None if unknown.
        stride: Step between the frames of a window, in frames (of the resampled video).
        span: Frames that a row covers, `num_frames * stride`; 0 if rows differ.
        hop: Frames between the starts of rows; 0 if it is not constant.
    """

    name: str
    content_digest: str
    num_frames: int
    fps: float | None
    is_variable_rate: bool
    duration_seconds: float | None
    stride: int
    span: int
    hop: int


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features, one row per window of frames or per time step of a stream.

    Attributes:
        values: float32 (N, C) for "vector" and "logits", (N, D, C) for "tokens", (N, C, D, h, w)
            for "map"; after the first axis there is one of crops if they were not averaged.
        video_index: (N,) int64, the video of each row.
        start_frames: (N,) int64, first frame that a row covers.
        end_frames: (N,) int64, one past the last frame that it covers. A window of 32 frames at
            stride 2 covers 64.
        start_seconds: (N,) float64, presentation time of the first frame, relative to the first
            frame of the video; NaN if unknown.
        end_seconds: (N,) float64, when the last frame ends; NaN if unknown.
        videos: The videos.
        settings: What determined the rows.
        placement: How windows were placed, such as {"hop_frames": 16}; for display.
        lag_frames: In a stream, how far rows trail the input, (fewest, most) frames of the video
            (of the first one, where they differ).
        library_version: Version of this package.
        request: Digest of everything above but the rows: equal requests give equal rows.
        receipt: Which frames and crops each row came from, if the predictor keeps receipts. Files
            do not contain it.
    """

    values: Floats
    video_index: Ints
    start_frames: Ints
    end_frames: Ints
    start_seconds: Seconds
    end_seconds: Seconds
    videos: tuple[VideoInfo, ...]
    settings: FeatureSettings
    placement: dict[str, Any]
    lag_frames: tuple[int, int] | None
    library_version: str
    request: str
    receipt: Receipt | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def ids(self) -> list[str]:
        """A name for each row: the video and the number of the row in it, as "clip.mp4#3"."""
        numbers = np.zeros(len(self.videos), np.int64)
        names = []
        for video in self.video_index:
            names.append(f"{self.videos[video].name}#{numbers[video]}")
            numbers[video] += 1
        return names

    @property
    def names(self) -> list[str]:
        """The video of each row."""
        return [self.videos[video].name for video in self.video_index]

    @property
    def center_seconds(self) -> Seconds:
        """(N,) float64, the middle of each row."""
        return (self.start_seconds + self.end_seconds) / 2

    def vectors(self) -> Floats:
        """Returns one vector per row, (N, C): tokens, maps and crops are averaged."""
        values = self.values
        if not self.settings.average_crops:
            values = values.mean(axis=1)
        if self.settings.pooling == "tokens":
            values = values.mean(axis=1)
        elif self.settings.pooling == "map":
            values = values.mean(axis=(2, 3, 4))
        return values.astype(np.float32, copy=False)

    def _repr_html_(self) -> str:
        """The time that rows cover, with matplotlib a timeline of each video, for notebooks."""
        text = f"<pre>{html.escape(repr(self))}</pre>"
        times = np.concatenate([self.start_seconds, self.end_seconds])
        if not len(self) or len(self) > _MAX_HTML_ROWS or not np.isfinite(times).all():
            return text
        segments = [
            # Neighbors in two shades, so that they can be distinguished where they touch.
            Segment(float(start), float(end), PurePath(name).name, 1.0 if row % 2 else 0.4)
            for row, (start, end, name) in enumerate(
                zip(self.start_seconds, self.end_seconds, self.names, strict=True)
            )
        ]
        try:
            chart = timeline_chart(
                segments, float(self.end_seconds.max()), title="", theme="page", in_lanes=True
            )
        except MissingExtraError:
            return text
        return f"{text}<div>{figure_svg(chart, 'Time that rows cover')}</div>"

    def __repr__(self) -> str:
        count = len(self.videos)
        videos = self.videos[0].name if count == 1 else f"{count} videos"
        row = "x".join(map(str, self.values.shape[1:]))
        lines = [
            f"FeatureTable: {len(self)} rows of {row} from {videos} "
            f"({self.settings.mode}, {self.settings.model})"
        ]
        for index in range(min(len(self), _SHOWN_ROWS)):
            name = "" if count == 1 else f"  {self.names[index]}"
            lines.append(
                f"{index:6d}  frames {self.start_frames[index]}-{self.end_frames[index]}  "
                f"{self.start_seconds[index]:.3f}-{self.end_seconds[index]:.3f} s{name}"
            )
        if len(self) > _SHOWN_ROWS:
            lines.append(f"   ... {len(self) - _SHOWN_ROWS} more")
        return "\n".join(lines)


def require_comparable(first: FeatureTable, second: FeatureTable) -> None:
    """Checks that rows of two tables may be mixed.

    Raises:
        ConfigError: They differ in mode, weights or sampling. The message names both.
    """
    ours, theirs = (dataclasses.asdict(table.settings) for table in (first, second))
    for name, value in ours.items():
        # The digest tells models apart; their names are for display.
        if name != "model" and value != theirs[name]:
            raise ConfigError(
                f"Features of {_describe(first)} and {_describe(second)} cannot be mixed: {name} "
                f"is {value!r} in the first and {theirs[name]!r} in the second. Extract both with "
                "the same settings."
            )
    if first.values.shape[1:] != second.values.shape[1:] and first.settings.pooling == "vector":
        raise ConfigError(
            f"Features of {_describe(first)} and {_describe(second)} cannot be mixed: their rows "
            f"have shapes {first.values.shape[1:]} and {second.values.shape[1:]}."
        )


def _describe(table: FeatureTable) -> str:
    name = repr(table.videos[0].name)
    return name if len(table.videos) == 1 else f"{name} and {len(table.videos) - 1} more"


def concatenate(tables: Sequence[FeatureTable]) -> FeatureTable:
    """Joins tables.

    Args:
        tables: At least one, of the same settings and with rows of one shape.

    Returns:
        All rows, in order.

    Raises:
        ConfigError: The tables differ in mode, weights or sampling, or in the shape of rows.
    """
    first = tables[0]
    for table in tables[1:]:
        require_comparable(first, table)
        if table.values.shape[1:] != first.values.shape[1:]:
            raise ConfigError(
                f"Rows of {_describe(first)} have shape {first.values.shape[1:]} and those of "
                f"{_describe(table)} {table.values.shape[1:]}, so they cannot be in one table; "
                "load the files one by one."
            )
    if len(tables) == 1:
        return first
    offsets = np.cumsum([0, *(len(table.videos) for table in tables[:-1])])

    def joined(name: str) -> Any:
        return np.concatenate([getattr(table, name) for table in tables])

    return dataclasses.replace(
        first,
        values=joined("values"),
        video_index=np.concatenate(
            [table.video_index + offset for table, offset in zip(tables, offsets, strict=True)]
        ),
        start_frames=joined("start_frames"),
        end_frames=joined("end_frames"),
        start_seconds=joined("start_seconds"),
        end_seconds=joined("end_seconds"),
        videos=tuple(video for table in tables for video in table.videos),
        request="",
    )


Mode: TypeAlias = Literal["clip", "stream"]
Pooling: TypeAlias = Literal["vector", "tokens", "map", "logits"]
