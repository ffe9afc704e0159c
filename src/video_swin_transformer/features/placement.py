"""Where the windows of a video lie, in frames and in seconds.

    frames of the file      0   1   2     3   4      5       with their own times
    timeline, no fps        0   1   2     3   4      5       the same
    timeline, at fps        0  1  1  2  3  3  4  5 ...       what is shown at 0, 1/fps, 2/fps, ...

    window of 2 frames at stride 2, hop 3       f . f .
                                                      f . f .      covers num_frames * stride

Windows are placed on the timeline and reported in frames and seconds of the file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..config import ClipSampling
from ..errors import ConfigError
from ..sampling import at_fps, clip_indices
from ..video import VideoReader
from ..video.segment import frame_edges, is_variable_rate
from .table import Ints, Seconds

_EPSILON_SECONDS = 1e-6  # times are rounded to the time base of the file


@dataclass(frozen=True, eq=False)
class Timeline:
    """The frames of a video as windows see them.

    Attributes:
        num_video_frames: Frames of the video.
        edges_seconds: (num_video_frames + 1,) when each frame begins and the last one ends,
            relative to the first; None if unknown.
        frames: (M,) int64, the frame of the video at each position.
        fps: Positions per second; an average if the rate is variable, None if unknown.
        is_variable_rate: Whether the video has a variable frame rate.
    """

    num_video_frames: int
    edges_seconds: Seconds | None
    frames: Ints
    fps: float | None
    is_variable_rate: bool

    @property
    def duration_seconds(self) -> float | None:
        """Time from the first frame to the end of the last one."""
        return None if self.edges_seconds is None else float(self.edges_seconds[-1])

    def position_at(self, seconds: float) -> int:
        """Returns the first position at or after a time."""
        assert self.edges_seconds is not None
        times = self.edges_seconds[self.frames]
        return int(np.searchsorted(times, seconds - _EPSILON_SECONDS, side="left"))


def timeline_of(video: VideoReader, fps: float | None = None) -> Timeline:
    """Reads the times of a video.

    Args:
        video: The open video.
        fps: Constant rate to resample to. For a video without times: its rate.

    Returns:
        Its timeline.
    """
    count = video.num_frames
    times = video.times_seconds
    if times is None or (count > 1 and times[-1] <= 0):
        edges = None if fps is None else np.arange(count + 1) / fps
        return Timeline(count, edges, np.arange(count), fps, False)
    edges = frame_edges(times, video.fps)
    is_variable = is_variable_rate(times)
    if fps is None:
        return Timeline(count, edges, np.arange(count), video.fps, is_variable)
    num_positions = max(1, int(np.ceil(edges[-1] * fps - _EPSILON_SECONDS * fps)))
    shown_at = np.arange(num_positions) / fps + _EPSILON_SECONDS
    frames = np.searchsorted(times, shown_at, side="right") - 1
    return Timeline(count, edges, np.maximum(frames, 0), fps, is_variable)


@dataclass(frozen=True, eq=False)
class Windows:
    """The windows of one video.

    Attributes:
        indices: (N, T) int64, the frames of each window.
        start_frames: (N,) int64, first frame covered.
        end_frames: (N,) int64, one past the last frame covered.
        stride: Step between frames of a window, in positions of the timeline.
        hop: Positions between windows; 0 if it is not constant.
        span: Positions that a window covers; 0 if windows differ.
    """

    indices: Ints
    start_frames: Ints
    end_frames: Ints
    stride: int
    hop: int
    span: int


def sliding_windows(
    timeline: Timeline,
    sampling: ClipSampling,
    hop_frames: int | None = None,
    hop_seconds: float | None = None,
) -> Windows:
    """Places a window every so many frames or seconds, from the first frame on.

    Only whole windows are placed: up to one window of frames at the end is not covered. A video
    shorter than a window gets one, which loops.

    Args:
        timeline: The video.
        sampling: Frames and stride of a window.
        hop_frames: Positions between windows; None, without `hop_seconds`: one after the other.
        hop_seconds: Seconds between windows. Each begins at the first frame at or after its time.

    Returns:
        The windows.

    Raises:
        ConfigError: `hop_seconds` is given, but times are unknown.
    """
    stride = at_fps(sampling, timeline.fps).stride
    span = sampling.num_frames * stride
    last_start = max(0, len(timeline.frames) - span)
    if hop_seconds is None:
        hop = span if hop_frames is None else hop_frames
        starts = np.arange(0, last_start + 1, hop)
    else:
        if timeline.edges_seconds is None:
            raise _times_unknown("hop_seconds")
        hop = 0
        times = timeline.edges_seconds[timeline.frames]
        marks = np.arange(0, times[-1] + _EPSILON_SECONDS, hop_seconds)
        starts = np.unique(np.searchsorted(times, marks - _EPSILON_SECONDS, side="left"))
        starts = starts[starts <= last_start]
    positions = starts[:, None] + np.arange(sampling.num_frames) * stride
    return _windows(timeline, positions % len(timeline.frames), starts, stride, hop, span)


def sampled_windows(timeline: Timeline, sampling: ClipSampling) -> Windows:
    """Places `sampling.num_clips` windows by the rule of the sampling."""
    stride = at_fps(sampling, timeline.fps).stride
    positions = clip_indices(len(timeline.frames), sampling, timeline.fps)
    is_uniform = sampling.rule == "uniform"
    span = len(timeline.frames) if is_uniform else sampling.num_frames * stride
    starts = np.zeros(1, np.int64) if is_uniform else positions[:, 0]
    return _windows(timeline, positions, starts, stride, 0, span)


def segment_windows(
    timeline: Timeline, sampling: ClipSampling, segments: Sequence[tuple[float, float]]
) -> Windows:
    """Places one window in each segment, as if the segment were a video of its own.

    The window is centered. One that is longer than its segment loops inside it.

    Args:
        timeline: The video.
        sampling: Frames, stride and rule of a window.
        segments: (start, end) in seconds.

    Returns:
        The windows, in the order of the segments.

    Raises:
        ConfigError: A segment is empty or outside of the video, or times are unknown.
    """
    if timeline.edges_seconds is None:
        raise _times_unknown("segments")
    duration = timeline.edges_seconds[-1]
    one = dataclasses.replace(at_fps(sampling, timeline.fps), num_clips=1, stride_seconds=None)
    parts = []
    for start, end in segments:
        if not 0 <= start < end or start >= duration:
            raise ConfigError(
                f"The segment from {start} to {end} seconds must have a positive length and begin "
                f"inside the video, which has {duration:.3f} seconds."
            )
        first = min(timeline.position_at(start), len(timeline.frames) - 1)
        last = max(first + 1, timeline.position_at(end))
        positions = first + clip_indices(last - first, one)
        begin = first if one.rule == "uniform" else int(positions[0, 0])
        span = last - first if one.rule == "uniform" else one.num_frames * one.stride
        span = min(span, last - begin)
        parts.append(_windows(timeline, positions, np.array([begin]), one.stride, 0, span))
    return Windows(
        np.concatenate([part.indices for part in parts]),
        np.concatenate([part.start_frames for part in parts]),
        np.concatenate([part.end_frames for part in parts]),
        one.stride,
        0,
        0,
    )


def stream_rows(
    timeline: Timeline, stride: int, patch: int, patch_stride: int, steps_per_row: int
) -> Windows:
    """Returns the rows of a stream: what each covers, and the frames to feed.

    Args:
        timeline: The video.
        stride: Step between the frames that are fed, in positions.
        patch: Fed frames that a time step sees first.
        patch_stride: Fed frames from one time step to the next.
        steps_per_row: Time steps that are averaged. An incomplete last row is left out, unless it
            is the only one.

    Returns:
        The rows; `indices` is (1, T), the frames to feed.
    """
    count = len(timeline.frames)
    fed = np.arange(0, count, stride)
    num_steps = -(-len(fed) // patch_stride)
    num_rows = max(1, num_steps // steps_per_row)
    hop = steps_per_row * patch_stride * stride
    span = ((steps_per_row - 1) * patch_stride + patch) * stride
    return _windows(timeline, fed[None], np.arange(num_rows) * hop, stride, hop, span)


def _windows(
    timeline: Timeline, positions: Ints, starts: Ints, stride: int, hop: int, span: int
) -> Windows:
    count = len(timeline.frames)
    ends = np.minimum(starts + span, count)
    # A row ends where the next position begins, but not before its own last frame has ended.
    after = np.append(timeline.frames, timeline.num_video_frames)[ends]
    end_frames = np.maximum(after, timeline.frames[ends - 1] + 1)
    return Windows(
        timeline.frames[positions], timeline.frames[starts], end_frames, stride, hop, span
    )


def _times_unknown(name: str) -> ConfigError:
    return ConfigError(
        f"{name} needs the times of the frames, which arrays and folders of images do not have; "
        "pass fps, the frames per second of the source."
    )
