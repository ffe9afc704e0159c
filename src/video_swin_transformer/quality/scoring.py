"""`score_video`: a video file to its quality score."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..config import IMAGENET_MEAN, IMAGENET_STD
from ..video import VideoReader
from .fragments import fragment_frame_indices, sample_fragments
from .model import VideoQualityModel


@dataclass(frozen=True, eq=False)
class QualityScore:
    """The quality of a video.

    Attributes:
        score: From 0 (bad) to 1 (good); None if the model has no published scale.
        raw: The mean output of the network over the clips, on a scale of the model's own.
        clip_scores: (num_clips,) float32, the output for each clip.
        frame_indices: (num_clips, num_frames) int64, the frames of each clip.
    """

    score: float | None
    raw: float
    clip_scores: npt.NDArray[np.float32]
    frame_indices: npt.NDArray[np.int64]


def score_video(
    model: VideoQualityModel, video: str | Path | npt.NDArray[np.uint8], *, seed: int = 0
) -> QualityScore:
    """Predicts the quality of a video. Frames and fragments are random, as in the original.

    Args:
        model: The model, in eval mode. Its sampling is used.
        video: A path, or an array (T, H, W, 3) uint8 RGB, of the original resolution: resizing
            changes the quality that is to be measured.
        seed: Seed of the frames and fragments. The score differs slightly between seeds.

    Returns:
        The score.

    Raises:
        VideoDecodeError: The video cannot be read.
        ConfigError: The frames are smaller than a fragment.
    """
    sampling = model.config.sampling
    device = next(model.parameters()).device
    frames_generator = np.random.default_rng(seed)
    places_generator = torch.Generator().manual_seed(seed)
    with VideoReader(video) as reader:
        indices = fragment_frame_indices(reader.num_frames, sampling, frames_generator)
        scores = []
        for clip in indices:
            frames = torch.from_numpy(reader.frames_at(clip)).permute(3, 0, 1, 2)
            fragments = normalize_fragments(sample_fragments(frames, sampling, places_generator))
            with torch.inference_mode():
                scores.append(model(fragments[None].to(device)).float().cpu())
    raw = torch.cat(scores)
    mean = raw.mean()
    scaled = model.rescale(mean)
    return QualityScore(
        score=None if scaled is None else scaled.item(),
        raw=mean.item(),
        clip_scores=raw.numpy(),
        frame_indices=indices,
    )


def normalize_fragments(fragments: Tensor) -> Tensor:
    """(3, T, H, W) float RGB in 0..255 -> the same shape with ImageNet's mean and std removed."""
    mean, std = (fragments.new_tensor(v).view(3, 1, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (fragments - mean) / std
