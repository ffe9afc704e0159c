"""Videos read in a process with limits: equal frames, and errors instead of crashes and hangs."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import video_swin_transformer as vst
from tests.media import Clip
from tests.samples import EXAMPLE_CLIPS
from video_swin_transformer.video import DecodeLimits, DecoderProcess, VideoReader

CLIP = sorted(Path(EXAMPLE_CLIPS).glob("*.mp4"))[0]


@pytest.fixture
def process():
    with DecoderProcess() as opened:
        yield opened


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory):
    return Clip(num_frames=600, height=240, width=320).make(tmp_path_factory.mktemp("long") / "a")


def worker_of(process: DecoderProcess) -> int:
    return int(process._process.pid)


def test_isolated_video_has_the_frames_of_the_file(process):
    with VideoReader(CLIP) as plain, VideoReader(process.open(CLIP)) as isolated:
        assert isolated.num_frames == plain.num_frames
        assert (isolated.fps, isolated.height) == (plain.fps, plain.height)
        np.testing.assert_array_equal(isolated.times_seconds, plain.times_seconds)
        indices = [5, 3, 3, 40, 0]
        np.testing.assert_array_equal(isolated.frames_at(indices), plain.frames_at(indices))


def test_isolated_video_is_a_source_of_every_function(process):
    predictor = vst.Predictor.load("camera-motion", runtime="torch")
    found = predictor.classify(process.open(CLIP))
    np.testing.assert_array_equal(found.scores, predictor.classify(CLIP).scores)
    assert found.source == str(CLIP)
    segments = vst.detect_segments(predictor, process.open(CLIP)).segments
    assert segments == vst.detect_segments(predictor, CLIP).segments


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (DecodeLimits(max_frames=59), "60 frames, but at most 59"),
        (DecodeLimits(max_seconds=2), "seconds, but at most 2"),
        (DecodeLimits(max_pixels=1000), "pixels per frame, but at most 1000"),
    ],
)
def test_isolated_video_beyond_a_limit_is_refused(process, limits, reason):
    with pytest.raises(vst.VideoLimitError, match=reason):
        process.open(CLIP, limits)
    assert process.open(CLIP).num_frames == 60


def test_isolated_video_that_hangs_is_killed_and_the_next_one_is_read(process, long_clip):
    video = process.open(long_clip, DecodeLimits(timeout_seconds=1.5))
    os.kill(worker_of(process), signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(vst.VideoLimitError, match=r"longer than 1\.5 seconds"):
        VideoReader(video).frames_at(range(600))
    assert time.monotonic() - start < 5
    assert process.open(CLIP).num_frames == 60


def test_isolated_video_whose_decoder_dies_is_an_error_and_the_next_one_is_read(process, long_clip):
    reader = VideoReader(process.open(long_clip))
    frames = reader.iter_frames(range(600))
    next(frames)
    os.kill(worker_of(process), signal.SIGKILL)
    with pytest.raises(vst.VideoDecodeError, match="ended the process of the decoder"):
        for _ in frames:
            pass
    with pytest.raises(vst.VideoDecodeError, match="open it again"):
        reader.frames_at([0])
    assert process.open(CLIP).num_frames == 60


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory limits of Linux")
def test_isolated_video_that_takes_too_much_memory_is_an_error(tmp_path):
    large = Clip(num_frames=12, height=2160, width=3840).make(tmp_path / "large")
    with DecoderProcess(memory_bytes=40_000_000) as process:
        with pytest.raises(vst.VideoDecodeError):
            VideoReader(process.open(large)).frames_at(range(12))
        assert process.open(CLIP).num_frames == 60


def test_isolated_video_that_is_damaged_is_named(process, tmp_path):
    (tmp_path / "a.mp4").write_bytes(CLIP.read_bytes()[:5000])
    with pytest.raises(vst.VideoDecodeError, match=r"a\.mp4"):
        process.open(tmp_path / "a.mp4")
    with pytest.raises(vst.VideoDecodeError, match="no such file"):
        process.open(tmp_path / "absent.mp4")
    assert process.open(CLIP).num_frames == 60


def test_isolated_video_that_is_read_in_part_or_late_does_not_disturb_the_next(process, long_clip):
    first = VideoReader(process.open(long_clip))
    next(first.iter_frames(range(600)))
    second = VideoReader(process.open(CLIP))
    np.testing.assert_array_equal(second.frames_at([7]), VideoReader(CLIP).frames_at([7]))
    with pytest.raises(vst.VideoDecodeError, match="opened another video"):
        first.frames_at([0])
