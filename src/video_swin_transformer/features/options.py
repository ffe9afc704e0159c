"""`FeatureOptions`: which features to extract. Checked once, used for any number of videos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..config import ALLOWED_NUM_CROPS, is_integer, require
from ..errors import ConfigError
from .table import MODES, POOLINGS, Mode, Pooling


@dataclass(frozen=True)
class FeatureOptions:
    """What `extract_features` takes, with the same names.

    Attributes:
        mode: "clip" computes each window of frames alone. "stream" computes one pass over the whole
            video (see `StreamingFeatures`).
        window: Frames per window; None for the model's. Not with "stream".
        stride: Step between the frames of a window, or of a stream; None for the model's.
        hop_frames: Frames between the starts of windows; None, without another placement, for one
            window after the other. In a stream, frames per row: a multiple of those of one time
            step, which is the default.
        hop_seconds: Seconds between the starts of windows, instead of `hop_frames`.
        num_windows: Windows per video, placed by the rule of the model.
        segments: (start, end) in seconds; one window in each.
        fps: Resample to this constant rate first; windows then count resampled frames. For arrays
            and folders of images, which have no times, it is the rate of the source.
        pooling: "vector" is the mean over time and space, "tokens" the mean over space of each time
            step, "map" everything, "logits" the scores of the classes before softmax.
        stage: Stage of the network from 0; None for the last one, which is normalized.
        num_crops: 1, 3, 5 or 10 square crops, or "full" for the whole frame; None for the model's.
        average_crops: Average over crops. If not, rows have an axis of crops.
        project: Channels of a random projection, or a .npy file with a matrix (channels, new
            channels); None for no projection.
        seed: Seed of the random projection.
    """

    mode: Mode = "clip"
    window: int | None = None
    stride: int | None = None
    hop_frames: int | None = None
    hop_seconds: float | None = None
    num_windows: int | None = None
    segments: tuple[tuple[float, float], ...] | None = None
    fps: float | None = None
    pooling: Pooling = "vector"
    stage: int | None = None
    num_crops: int | Literal["full"] | None = None
    average_crops: bool = True
    project: int | str | Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.mode in MODES, "mode", self.mode, f"one of {', '.join(MODES)}")
        require(self.pooling in POOLINGS, "pooling", self.pooling, f"one of {', '.join(POOLINGS)}")
        for name in ("window", "stride", "hop_frames", "num_windows"):
            value = getattr(self, name)
            require(value is None or is_integer(value), name, value, "a positive integer")
        for name in ("hop_seconds", "fps"):
            value = getattr(self, name)
            require(value is None or value > 0, name, value, "above 0")
        crops = self.num_crops
        require(
            crops is None or crops == "full" or crops in ALLOWED_NUM_CROPS,
            "num_crops",
            crops,
            "1, 3, 5, 10 or 'full'",
        )
        if self.segments is not None:
            require(len(self.segments) > 0, "segments", self.segments, "one or more, or None")
        require(
            not isinstance(self.project, int) or is_integer(self.project),
            "project",
            self.project,
            "a positive number of channels, or a file",
        )
        if self.pooling == "logits":
            for name in ("stage", "project"):
                value = getattr(self, name)
                require(value is None, name, value, "None with pooling 'logits'")
            require(self.mode == "clip", "mode", self.mode, "'clip' with pooling 'logits'")
        self._check_placement()

    def _check_placement(self) -> None:
        names = ("hop_frames", "hop_seconds", "num_windows", "segments")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(
                f"{given[0]} and {given[1]} are given, but windows can be placed in one way only; "
                f"use one of {', '.join(names)}."
            )
        if self.mode == "stream":
            wrong = [n for n in ("window", *names[1:]) if getattr(self, n) is not None]
            if wrong:
                raise ConfigError(
                    f"{wrong[0]} is {getattr(self, wrong[0])!r}, but a stream has no windows; use "
                    "hop_frames for the frames per row, or mode 'clip'."
                )

    @property
    def needs_maps(self) -> bool:
        """Whether the torch runtime is needed, since others give pooled features only."""
        return self.mode == "stream" or self.pooling in ("tokens", "map") or self.stage is not None
