"""Frame sampling: computes the frame indices of clips.

Clips of 4 frames with stride 2 in a video of 10 frames (f sampled, . skipped):

    official, 1 clip     . f . f . f . f . .    span = num_frames * stride = 8 (not 7)
    official, 2 clips    f . f . f . f . . .    starts at the middle of each half of the 3 starts
                         . . f . f . f . f .
    mmaction2, 2 clips   f . f . f . f . . .    first and last possible start are included
                         . . . f . f . f . f    span = (num_frames - 1) * stride + 1 = 7
    uniform              . f . f . f . . f .    one frame from the middle of each quarter

A video shorter than a clip is looped: indices wrap around (the official default).
Sources: official repository `SampleFrames`, mmaction2 1.x (after October 2022) `SampleFrames`,
SlowFast's uniform sampling as used for Something-Something v2.
"""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .config import ClipSampling
from .errors import ConfigError

Indices: TypeAlias = npt.NDArray[np.int64]


def at_fps(sampling: ClipSampling, fps: float | None) -> ClipSampling:
    """Converts `stride_seconds` to a stride in frames.

    Args:
        sampling: The sampling.
        fps: Frames per second of the video; None if unknown.

    Returns:
        The sampling with its `stride` set; unchanged without `stride_seconds` or fps.
    """
    if sampling.stride_seconds is None or fps is None:
        return sampling
    return dataclasses.replace(sampling, stride=max(1, round(sampling.stride_seconds * fps)))


def clip_indices(
    num_video_frames: int, sampling: ClipSampling, fps: float | None = None
) -> Indices:
    """Computes frame indices for testing.

    Args:
        num_video_frames: Number of frames of the video.
        sampling: The sampling. The rule "uniform" always yields one clip.
        fps: Frames per second of the video, for `stride_seconds`.

    Returns:
        (num_clips, num_frames) int64, in [0, num_video_frames).

    Raises:
        ConfigError: The video has no frames.
    """
    sampling = at_fps(sampling, fps)
    _check_length(num_video_frames)
    if sampling.rule == "uniform":
        start, end = _uniform_segments(num_video_frames, sampling.num_frames)
        return ((start + end) // 2)[None]
    if sampling.rule == "official":
        starts = _official_starts(num_video_frames, sampling)
    else:
        starts = _mmaction2_starts(num_video_frames, sampling)
    return _looped(starts, num_video_frames, sampling)


def train_clip_indices(
    num_video_frames: int,
    sampling: ClipSampling,
    generator: np.random.Generator,
    fps: float | None = None,
) -> Indices:
    """Computes random frame indices for training, as in the official code.

    The video is divided into equal intervals, and each clip starts at a random frame of its
    interval. Clips of short videos start at frame 0 and loop. The rule "uniform" samples one frame
    from each of `num_frames` segments.

    Args:
        num_video_frames: Number of frames of the video.
        sampling: The sampling.
        generator: Random number generator.
        fps: Frames per second of the video, for `stride_seconds`.

    Returns:
        (num_clips, num_frames) int64, in [0, num_video_frames).

    Raises:
        ConfigError: The video has no frames.
    """
    sampling = at_fps(sampling, fps)
    _check_length(num_video_frames)
    if sampling.rule == "uniform":
        start, end = _uniform_segments(num_video_frames, sampling.num_frames)
        return generator.integers(start, end, endpoint=True)[None]
    span = sampling.num_frames * sampling.stride
    clips = np.arange(sampling.num_clips)
    interval = (num_video_frames - span + 1) // sampling.num_clips
    if interval > 0:
        starts = clips * interval + generator.integers(interval, size=sampling.num_clips)
    elif num_video_frames > max(sampling.num_clips, span):
        # Fewer starts than clips: sorted draws may coincide.
        num_starts = num_video_frames - span + 1
        starts = np.sort(generator.integers(num_starts, size=sampling.num_clips))
    else:
        starts = np.zeros_like(clips)
    return _looped(starts, num_video_frames, sampling)


def _check_length(num_video_frames: int) -> None:
    if num_video_frames < 1:
        raise ConfigError(f"The video has {num_video_frames} frames, but at least 1 is required.")


def _looped(starts: Indices, num_video_frames: int, sampling: ClipSampling) -> Indices:
    steps = np.arange(sampling.num_frames) * sampling.stride
    return (starts[:, None] + steps).astype(np.int64) % num_video_frames


def _official_starts(num_video_frames: int, sampling: ClipSampling) -> Indices:
    # The official code counts a span of num_frames * stride, one stride more than is used.
    margin = num_video_frames - sampling.num_frames * sampling.stride
    clips = np.arange(sampling.num_clips)
    if margin < 0:
        return np.zeros_like(clips)
    interval = (margin + 1) / sampling.num_clips
    return (clips * interval + interval / 2).astype(np.int64)


def _mmaction2_starts(num_video_frames: int, sampling: ClipSampling) -> Indices:
    margin = max(num_video_frames - ((sampling.num_frames - 1) * sampling.stride + 1), 0)
    if sampling.num_clips == 1:
        return np.array([margin // 2])
    clips = np.arange(sampling.num_clips)
    # np.round rounds halves to even, as in mmaction2.
    return np.round(clips * margin / (sampling.num_clips - 1)).astype(np.int64)


def _uniform_segments(num_video_frames: int, num_segments: int) -> tuple[Indices, Indices]:
    """Returns the first and last frame of each segment, inclusive; neighbors share a frame."""
    edges = np.round((num_video_frames - 1) / num_segments * np.arange(num_segments + 1))
    edges = edges.astype(np.int64)
    return edges[:-1], edges[1:]
