"""From a video's number of frames to the frame indices of its clips: pure functions.

A clip of 4 frames, 2 apart, in a video of 10 frames (f taken, . passed over):

    official, 1 clip     . f . f . f . f . .    span = num_frames * stride = 8 (not 7)
    official, 2 clips    f . f . f . f . . .    begins at the middle of each half of the 3 starts
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
    """The same sampling with `stride` in frames of a video of `fps` (unchanged if unknown)."""
    if sampling.stride_seconds is None or fps is None:
        return sampling
    return dataclasses.replace(sampling, stride=max(1, round(sampling.stride_seconds * fps)))


def clip_indices(
    num_video_frames: int, sampling: ClipSampling, fps: float | None = None
) -> Indices:
    """Test-time frame indices.

    Args:
        num_video_frames: number of frames of the video.
        sampling: which frames to take. The rule "uniform" always gives one clip.
        fps: frames per second of the video, for a sampling with `stride_seconds`.

    Returns:
        (num_clips, num_frames) int64, each in [0, num_video_frames).

    Raises:
        ConfigError: the video has no frames.
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
    """Random frame indices for training, as in the official code.

    Each clip begins uniformly within its share of the video; a video too short for that begins
    at frame 0 and loops. "uniform" draws one frame from each of `num_frames` segments.

    Args:
        num_video_frames: number of frames of the video.
        sampling: which frames to take.
        generator: the source of randomness.
        fps: frames per second of the video, for a sampling with `stride_seconds`.

    Returns:
        (num_clips, num_frames) int64, each in [0, num_video_frames).

    Raises:
        ConfigError: the video has no frames.
    """
    sampling = at_fps(sampling, fps)
    _check_length(num_video_frames)
    if sampling.rule == "uniform":
        start, end = _uniform_segments(num_video_frames, sampling.num_frames)
        return generator.integers(start, end, endpoint=True)[None]
    span = sampling.num_frames * sampling.stride
    clips = np.arange(sampling.num_clips)
    share = (num_video_frames - span + 1) // sampling.num_clips
    if share > 0:
        starts = clips * share + generator.integers(share, size=sampling.num_clips)
    elif num_video_frames > max(sampling.num_clips, span):
        room = num_video_frames - span + 1  # fewer starts than clips: sorted draws may coincide
        starts = np.sort(generator.integers(room, size=sampling.num_clips))
    else:
        starts = np.zeros_like(clips)
    return _looped(starts, num_video_frames, sampling)


def _check_length(num_video_frames: int) -> None:
    if num_video_frames < 1:
        raise ConfigError(
            f"The video has {num_video_frames} frames, but must have at least 1 to be sampled."
        )


def _looped(starts: Indices, num_video_frames: int, sampling: ClipSampling) -> Indices:
    steps = np.arange(sampling.num_frames) * sampling.stride
    return (starts[:, None] + steps).astype(np.int64) % num_video_frames


def _official_starts(num_video_frames: int, sampling: ClipSampling) -> Indices:
    # The official code counts a span of num_frames * stride, one stride more than is used.
    spare = num_video_frames - sampling.num_frames * sampling.stride
    clips = np.arange(sampling.num_clips)
    if spare < 0:
        return np.zeros_like(clips)
    share = (spare + 1) / sampling.num_clips
    return (clips * share + share / 2).astype(np.int64)


def _mmaction2_starts(num_video_frames: int, sampling: ClipSampling) -> Indices:
    spare = max(num_video_frames - ((sampling.num_frames - 1) * sampling.stride + 1), 0)
    if sampling.num_clips == 1:
        return np.array([spare // 2])
    clips = np.arange(sampling.num_clips)
    # np.round goes to the even neighbor at .5, as the original does.
    return np.round(clips * spare / (sampling.num_clips - 1)).astype(np.int64)


def _uniform_segments(num_video_frames: int, num_segments: int) -> tuple[Indices, Indices]:
    """First and last frame of each segment, both included: neighbors share a frame."""
    edges = np.round((num_video_frames - 1) / num_segments * np.arange(num_segments + 1))
    edges = edges.astype(np.int64)
    return edges[:-1], edges[1:]
