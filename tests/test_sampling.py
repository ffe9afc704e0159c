"""Frame indices, to the digit (reference 5.1)."""

from __future__ import annotations

import numpy as np
import pytest

from video_swin_transformer.config import ClipSampling
from video_swin_transformer.errors import ConfigError
from video_swin_transformer.sampling import clip_indices, train_clip_indices


@pytest.mark.parametrize(
    ("num_frames", "starts"),
    [
        (300, [29, 88, 148, 207]),
        (250, [23, 70, 116, 163]),
        (100, [4, 13, 23, 32]),
        (65, [0, 0, 1, 1]),
        (64, [0, 0, 0, 0]),
        (40, [0, 0, 0, 0]),
        (1, [0, 0, 0, 0]),
    ],
)
def test_official_starts(num_frames, starts):
    indices = clip_indices(num_frames, ClipSampling())
    assert indices.shape == (4, 32) and indices.dtype == np.int64
    expected = (np.array(starts)[:, None] + 2 * np.arange(32)) % num_frames
    np.testing.assert_array_equal(indices, expected)


def test_official_wraps_around_in_a_short_video():
    clip = clip_indices(40, ClipSampling(num_clips=1))[0]
    assert clip.tolist() == [*range(0, 40, 2), *range(0, 23, 2)]


@pytest.mark.parametrize("num_frames", range(64, 400, 7))
def test_official_single_clip_is_centered(num_frames):
    assert clip_indices(num_frames, ClipSampling(num_clips=1))[0, 0] == (num_frames - 63) // 2


@pytest.mark.parametrize(
    ("num_frames", "starts"),
    [(300, [0, 79, 158, 237]), (250, [0, 62, 125, 187]), (64, [0, 0, 1, 1]), (10, [0] * 4)],
)
def test_mmaction2_starts(num_frames, starts):
    indices = clip_indices(num_frames, ClipSampling(rule="mmaction2"))
    expected = (np.array(starts)[:, None] + 2 * np.arange(32)) % num_frames
    np.testing.assert_array_equal(indices, expected)


def test_mmaction2_single_clip():
    assert clip_indices(300, ClipSampling(num_clips=1, rule="mmaction2"))[0, 0] == 237 // 2


def test_uniform_takes_one_frame_of_each_segment():
    clip = clip_indices(50, ClipSampling(rule="uniform"))
    assert clip.shape == (1, 32)
    assert clip[0, :6].tolist() == [1, 2, 4, 5, 7, 8]
    assert clip[0, -2:].tolist() == [46, 48]


def test_uniform_repeats_frames_of_a_short_video_and_never_leaves_it():
    for num_frames in range(1, 80):
        clip = clip_indices(num_frames, ClipSampling(rule="uniform"))[0]
        assert clip.min() >= 0 and clip.max() < num_frames
        assert (np.diff(clip) >= 0).all()


@pytest.mark.parametrize("rule", ["official", "mmaction2", "uniform"])
@pytest.mark.parametrize("num_frames", [1, 5, 63, 64, 65, 300])
def test_training_indices_stay_inside_and_differ(rule, num_frames):
    generator = np.random.default_rng(0)
    sampling = ClipSampling(num_clips=2, rule=rule)
    seen = set()
    for _ in range(50):
        indices = train_clip_indices(num_frames, sampling, generator)
        assert indices.shape == (1 if rule == "uniform" else 2, 32)
        assert indices.min() >= 0 and indices.max() < num_frames
        seen.add(indices.tobytes())
    assert (len(seen) > 10) == (num_frames >= 300 or (rule == "uniform" and num_frames > 1))


def test_training_starts_are_uniform_over_all_possible_ones():
    generator = np.random.default_rng(0)
    sampling = ClipSampling(num_clips=1)
    starts = [train_clip_indices(73, sampling, generator)[0, 0] for _ in range(3000)]
    counts = np.bincount(starts)
    assert len(counts) == 10  # 0 to 73 - 64
    assert counts.min() > 220


def test_training_clips_come_from_their_share_of_the_video():
    generator = np.random.default_rng(0)
    for _ in range(100):
        first, second = train_clip_indices(263, ClipSampling(num_clips=2), generator)[:, 0]
        assert 0 <= first < 100 <= second < 200


@pytest.mark.parametrize("sample", [clip_indices, train_clip_indices])
def test_a_video_without_frames_is_refused(sample):
    extra = () if sample is clip_indices else (np.random.default_rng(0),)
    with pytest.raises(ConfigError, match="0 frames"):
        sample(0, ClipSampling(), *extra)
