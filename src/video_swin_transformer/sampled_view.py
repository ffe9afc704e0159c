"""`SampledView`: which frames, times and pixels of a video one view sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .plotting import FrameBox
from .preprocess import CropBox

Ints: TypeAlias = npt.NDArray[np.int64]
Seconds: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SampledView:
    """What one view sees.

    Attributes:
        clip: Number of the clip, from 0.
        crop: Number of the crop, from 0.
        frame_indices: (T,) int64, frames of the video, in the order of the network's input. Videos
            shorter than a clip are looped.
        times_seconds: (T,) presentation times; None if the video has none.
        box: The crop in pixels of the resized frame.
        video_box: The crop in pixels of the video.
    """

    clip: int
    crop: int
    frame_indices: Ints
    times_seconds: Seconds | None
    box: CropBox
    video_box: FrameBox

    def to_dict(self) -> dict[str, Any]:
        """Returns the view as JSON data; times are rounded to microseconds."""
        times = self.times_seconds
        return {
            "clip": self.clip,
            "crop": self.crop,
            "frames": self.frame_indices.tolist(),
            "times_seconds": None if times is None else [round(float(t), 6) for t in times],
            "video_box": {k: round(v, 3) for k, v in self.video_box._asdict().items()},
            "resized_box": dict(zip(("top", "left", "height", "width"), self.box[:4], strict=True)),
            "is_mirrored": self.box.is_mirrored,
        }


def sampled_view(
    clip: int,
    crop: int,
    indices: Ints,
    times: Seconds | None,
    box: CropBox,
    resized: tuple[int, int],
    video_size: tuple[int, int],
) -> SampledView:
    """Makes the record of one view.

    Args:
        clip: Number of the clip.
        crop: Number of the crop.
        indices: (T,) frames of the video.
        times: (T,) presentation times; None if the video has none.
        box: The crop in pixels of the resized frame.
        resized: (H, W) of the resized frame.
        video_size: (H, W) of the video.
    """
    down, across = video_size[0] / resized[0], video_size[1] / resized[1]
    on_video = FrameBox(box.top * down, box.left * across, box.height * down, box.width * across)
    return SampledView(clip, crop, indices, times, box, on_video)


def sampled_views_of(
    indices: Ints,
    times: Seconds | None,
    boxes: Sequence[CropBox],
    resized: tuple[int, int],
    video_size: tuple[int, int],
) -> tuple[SampledView, ...]:
    """Makes the records of all views of a video, crop-major.

    Args:
        indices: (K, T) frames of each clip.
        times: Presentation times of all frames of the video; None if it has none.
        boxes: The crops.
        resized: (H, W) of the resized frame.
        video_size: (H, W) of the video.
    """
    return tuple(
        sampled_view(
            clip, crop, row, None if times is None else times[row], box, resized, video_size
        )
        for crop, box in enumerate(boxes)
        for clip, row in enumerate(indices)
    )


def sampled_view_from(data: Mapping[str, Any]) -> SampledView:
    """Reads the output of `SampledView.to_dict`.

    Raises:
        KeyError, TypeError or ValueError: The data are something else.
    """
    times, box = data["times_seconds"], data["resized_box"]
    top, left, height, width = (int(box[side]) for side in ("top", "left", "height", "width"))
    return SampledView(
        clip=int(data["clip"]),
        crop=int(data["crop"]),
        frame_indices=np.asarray(data["frames"], np.int64),
        times_seconds=None if times is None else np.asarray(times, np.float64),
        box=CropBox(top, left, height, width, bool(data["is_mirrored"])),
        video_box=FrameBox(**data["video_box"]),
    )
