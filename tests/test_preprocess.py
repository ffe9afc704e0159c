"""Pixels and offsets of the official pipeline (reference 5.2)."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from video_swin_transformer.config import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from video_swin_transformer.errors import ConfigError
from video_swin_transformer.preprocess import (
    crop_offsets,
    normalization_table,
    resize_frames,
    resized_size,
    views_from_frames,
)


def random_frames(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def original_pipeline(frame: np.ndarray, top: int, left: int, size: int) -> np.ndarray:
    """Resize, crop and normalize of one frame in the original's own OpenCV calls."""
    scale = 224 / min(frame.shape[:2])
    new_size = (int(frame.shape[1] * scale + 0.5), int(frame.shape[0] * scale + 0.5))
    image = cv2.resize(frame, new_size, interpolation=cv2.INTER_LINEAR)
    image = image[top : top + size, left : left + size].astype(np.float32)
    cv2.subtract(image, np.array(IMAGENET_MEAN).reshape(1, -1), image)
    cv2.multiply(image, 1 / np.array(IMAGENET_STD).reshape(1, -1), image)
    return image.transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (320, 240, (299, 224)),
        (340, 256, (298, 224)),
        (1280, 720, (398, 224)),
        (240, 320, (224, 299)),
    ],
)
def test_resized_sizes(width, height, expected):
    assert resized_size(height, width, 224) == (expected[1], expected[0])


def test_three_crop_offsets():
    assert crop_offsets(224, 299, 224, 3) == [(0, 0), (0, 74), (0, 37)]
    assert crop_offsets(299, 224, 224, 3) == [(0, 0), (74, 0), (37, 0)]
    assert crop_offsets(224, 224, 224, 3) == [(0, 0)] * 3


def test_five_crops_stand_evenly_from_end_to_end():
    assert crop_offsets(384, 512, 384, 5) == [(0, 0), (0, 32), (0, 64), (0, 96), (0, 128)]
    assert crop_offsets(299, 224, 224, 5) == [(0, 0), (18, 0), (37, 0), (56, 0), (75, 0)]
    assert crop_offsets(384, 384, 384, 5) == [(0, 0)] * 5


def test_centre_crop_offsets():
    assert crop_offsets(256, 341, 224, 1) == [(16, 58)]


@pytest.mark.parametrize(
    "size", [(240, 320), (320, 240), (132, 176), (720, 1280), (224, 224), (61, 90)]
)
@pytest.mark.parametrize("num_crops", [1, 3, 5])
def test_views_equal_the_original_pipeline_to_the_bit(size, num_crops):
    clips = random_frames(2, 3, *size, 3)
    views = views_from_frames(clips, Preprocessing(num_crops=num_crops))
    assert views.shape == (num_crops * 2, 3, 3, 224, 224) and views.dtype == np.float32
    height, width = size
    resized = resized_size(height, width, 224)
    for crop, (top, left) in enumerate(crop_offsets(*resized, 224, num_crops)):
        for clip in range(2):
            for frame in range(3):
                np.testing.assert_array_equal(
                    views[crop * 2 + clip, :, frame],
                    original_pipeline(clips[clip, frame], top, left, 224),
                )


@pytest.mark.parametrize("size", [(240, 320), (90, 61), (113, 112)])
def test_ten_crops_are_those_of_torchvision(size):
    from torchvision.transforms import TenCrop

    frames = random_frames(1, 1, *size, 3)
    preprocessing = Preprocessing(short_side=min(size), crop_size=48, num_crops=10)
    views = views_from_frames(frames, preprocessing)
    crops = TenCrop(48)(torch.from_numpy(frames[0, 0]).permute(2, 0, 1))
    table = normalization_table(IMAGENET_MEAN, IMAGENET_STD)
    assert len(views) == len(crops) == 10
    for view, crop in zip(views, crops, strict=True):
        for channel in range(3):
            np.testing.assert_array_equal(view[channel, 0], table[channel][crop[channel].numpy()])


def test_validation_preset_of_the_original_short_side_256():
    frames = random_frames(1, 1, 240, 320, 3)
    views = views_from_frames(frames, Preprocessing(short_side=256, num_crops=1))
    whole = cv2.resize(frames[0, 0], (341, 256), interpolation=cv2.INTER_LINEAR)
    expected = (whole[16:240, 58:282] - np.array(IMAGENET_MEAN)) / IMAGENET_STD
    np.testing.assert_allclose(views[0, :, 0], expected.transpose(2, 0, 1), atol=1e-6)


def test_whole_frame_is_the_resized_frame_uncut():
    clips = random_frames(2, 3, 90, 61, 3)
    whole = views_from_frames(clips, Preprocessing(num_crops=1, whole_frame=True))
    assert whole.shape == (2, 3, 3, *resized_size(90, 61, 224))
    middle = views_from_frames(clips, Preprocessing(num_crops=1))
    top, left = crop_offsets(*whole.shape[3:], 224, 1)[0]
    np.testing.assert_array_equal(whole[..., top : top + 224, left : left + 224], middle)


def test_grey_views():
    frames = random_frames(1, 2, 64, 80, 3)
    gray = Preprocessing(short_side=64, crop_size=64, num_crops=1, mean=(10.0,), std=(2.0,))
    views = views_from_frames(frames, gray)
    assert views.shape == (1, 1, 2, 64, 64)
    expected = (cv2.cvtColor(frames[0, 1], cv2.COLOR_RGB2GRAY)[:, 8:72].astype(float) - 10) / 2
    np.testing.assert_allclose(views[0, 0, 1], expected, atol=1e-6)


def test_area_interpolation_averages_and_falls_back_where_it_enlarges():
    frames = random_frames(1, 64, 64, 3)
    small = resize_frames(frames, 32, "area")
    mean = frames[0].reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(small[0] - mean).max() <= 1
    np.testing.assert_array_equal(
        resize_frames(frames, 96, "area"), resize_frames(frames, 96, "bilinear")
    )


def test_frames_are_not_changed():
    clips = random_frames(1, 2, 224, 224, 3)
    before = clips.copy()
    views_from_frames(clips, Preprocessing())
    np.testing.assert_array_equal(clips, before)


def test_what_cannot_be_cropped_is_named():
    with pytest.raises(ConfigError, match="100x50 cannot be cropped to 64x64"):
        crop_offsets(50, 100, 64, 1)
    with pytest.raises(ConfigError, match="one side of 64"):
        crop_offsets(100, 120, 64, 3)
    with pytest.raises(ConfigError, match="must be 1, 3, 5 or 10"):
        crop_offsets(64, 64, 64, 4)
    with pytest.raises(ConfigError, match=r"too large\. Crop the video"):
        resize_frames(np.zeros((1, 2, 16000, 3), np.uint8), 224)
