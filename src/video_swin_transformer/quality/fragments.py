"""Fragments of a video: the frames in time, and the small squares of pixels in each frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError
from .config import FragmentSampling


def fragment_frame_indices(
    num_video_frames: int, sampling: FragmentSampling, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Computes random frame indices of the clips of a quality model.

    The video is divided into equal parts: one for each clip, or with `num_segments` above 1, one
    for each segment of a clip. The frames start at a random place in their part.
    A part that is too short is read from its beginning, into the next part; after the end of the
    video the indices wrap around.

    Args:
        num_video_frames: Number of frames of the video.
        sampling: The sampling.
        generator: Random number generator.

    Returns:
        (num_clips, num_frames) int64, in [0, num_video_frames).

    Raises:
        ConfigError: The video has no frames.
    """
    if num_video_frames < 1:
        raise ConfigError(f"The video has {num_video_frames} frames, but at least 1 is required.")
    per_clip = sampling.num_segments
    num_rounds, num_parts = (
        (1, sampling.num_clips) if per_clip == 1 else (sampling.num_clips, per_clip)
    )
    length = sampling.num_frames // per_clip
    part = num_video_frames // num_parts
    num_starts = max(1, part - length * sampling.stride)
    starts = np.arange(num_parts) * part + generator.integers(
        num_starts, size=(num_rounds, num_parts)
    )
    frames = starts[..., None] + np.arange(length) * sampling.stride
    indices: npt.NDArray[np.int64] = frames.reshape(sampling.num_clips, sampling.num_frames)
    return indices % num_video_frames


def sample_fragments(
    video: Tensor, sampling: FragmentSampling, generator: torch.Generator | None = None
) -> Tensor:
    """Cuts one fragment from each cell of a grid and puts the fragments together.

    Frames smaller than the result are enlarged so that they cover it. As in the original, the
    places of the fragments are then still computed from the size before.

    Args:
        video: (C, T, H, W) uint8 or float in 0..255, of several clips or one: T is a multiple of
            `sampling.aligned_frames`, or 1.
        sampling: The sampling. Only `grid`, `fragment_size` and `aligned_frames` are used.
        generator: Random number generator of the CPU; None uses the global one of torch.

    Returns:
        (C, T, grid height * fragment_size, grid width * fragment_size) float32 in 0..255.

    Raises:
        ConfigError: The shape is wrong, or a frame is smaller than a fragment.
    """
    size, (rows, columns) = sampling.fragment_size, sampling.grid
    if video.ndim != 4 or 0 in video.shape:
        raise ConfigError(
            f"The video has shape {tuple(video.shape)}, but must be (channels, frames, height, "
            "width), none of them empty."
        )
    num_frames, height, width = video.shape[1:]
    if min(height, width) < size:
        raise ConfigError(
            f"The frames are {width}x{height} pixels, but must be at least {size}x{size}, the size "
            "of a fragment. Enlarge them, or set a smaller fragment_size."
        )
    aligned = 1 if num_frames == 1 else sampling.aligned_frames
    if num_frames % aligned:
        raise ConfigError(
            f"The video has {num_frames} frames, but must have a multiple of aligned_frames "
            f"({aligned})."
        )
    video = _enlarged(video, min(height / (rows * size), width / (columns * size)))
    groups = (rows, columns, num_frames // aligned)
    tops = (
        _places(height, size, rows, groups, generator) + _cells(height, size, rows)[:, None, None]
    )
    lefts = _places(width, size, columns, groups, generator) + _cells(width, size, columns)[:, None]
    out = torch.empty(*video.shape[:2], rows * size, columns * size, device=video.device)
    for row, column, group in np.ndindex(groups):
        frames = slice(group * aligned, (group + 1) * aligned)
        top, left = int(tops[row, column, group]), int(lefts[row, column, group])
        target = out[:, frames, row * size : (row + 1) * size, column * size : (column + 1) * size]
        target.copy_(video[:, frames, top : top + size, left : left + size])
    return out


def _enlarged(video: Tensor, ratio: float) -> Tensor:
    """Enlarges frames by 1 / ratio if that is below 1. uint8 values are truncated."""
    if ratio >= 1:
        return video
    larger = F.interpolate(video / 255.0, scale_factor=1 / ratio, mode="bilinear")
    return (larger * 255.0).to(video.dtype)


def _cells(length: int, size: int, num_cells: int) -> Tensor:
    """The first pixel of each cell; (num_cells,) int64. Fragments stay inside the frame."""
    return (torch.arange(num_cells) * (length // num_cells)).clamp(max=length - size)


def _places(
    length: int,
    size: int,
    num_cells: int,
    groups: tuple[int, ...],
    generator: torch.Generator | None,
) -> Tensor:
    """The random distance of each fragment from the first pixel of its cell; int64."""
    free = length // num_cells - size
    if free <= 0:
        return torch.zeros(groups, dtype=torch.int64)
    return torch.randint(free, groups, generator=generator)
