"""Clips for training and testing: the right frames, the right pixels, the same ones every time."""

import pickle

import numpy as np
import pytest
from torch.utils.data import DataLoader

from tests.media import Clip, numbers_of
from video_swin_transformer import (
    ClipSampling,
    Predictor,
    Preprocessing,
    VideoReader,
    clip_indices,
    train_clip_indices,
)
from video_swin_transformer.data import Annotations, ClipRecord, EvalClips, Sample, TrainClips
from video_swin_transformer.preprocess import resize_frames

SAMPLING = ClipSampling(num_frames=4, stride=3, num_clips=2)


@pytest.fixture(scope="module")
def annotations(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    long = Clip(num_frames=40).make(root / "long")
    short = Clip(num_frames=5).make(root / "short")
    (root / "bad.mp4").write_text("nothing")
    paths = [long, root / "bad.mp4", short]
    return Annotations("made", "list", tuple(ClipRecord(str(p), (n,)) for n, p in enumerate(paths)))


def keep_first_rows(clips, generator):
    """A transform that draws from the same generator."""
    return clips[..., : 1 + generator.integers(8), :, :]


def test_training_frames_are_those_of_the_sampler(annotations):
    clips = TrainClips(annotations, SAMPLING, short_side=64, seed=7)
    for epoch in range(3):
        sample = clips[epoch, 0]
        expected = train_clip_indices(40, SAMPLING, np.random.default_rng((7, epoch, 0)))
        assert sample.views.shape == (2, 4, 64, 96, 3) and sample.views.dtype == np.uint8
        found = [numbers_of(clip) for clip in sample.views]
        assert found == expected.tolist()
    assert not np.array_equal(clips[0, 0].views, clips[1, 0].views)


def test_a_short_video_is_repeated_after_resizing(annotations):
    sample = TrainClips(annotations, SAMPLING, short_side=96)[2]
    indices = train_clip_indices(5, SAMPLING, np.random.default_rng((0, 0, 2)))
    with VideoReader(annotations.items[2].path) as video:
        frames = video.frames_at(indices.ravel())
    expected = resize_frames(frames, 96).reshape(2, 4, 96, 144, 3)
    np.testing.assert_array_equal(sample.views, expected)


def test_a_bad_clip_is_an_error_in_its_place(annotations):
    datasets: list[TrainClips | EvalClips] = [
        TrainClips(annotations, SAMPLING),
        EvalClips(annotations, SAMPLING, Preprocessing()),
    ]
    for dataset in datasets:
        bad = dataset[1]
        assert bad.views is None and bad.labels == (1,) and "bad.mp4" in bad.error
        assert [sample.error is None for sample in map(dataset.__getitem__, range(3))] == [
            True,
            False,
            True,
        ]


def test_test_views_are_the_predictors(annotations):
    predictor = Predictor.load(runtime="torch").with_views(2, 3)
    bundle = predictor.bundle
    views = EvalClips(annotations, bundle.sampling, bundle.preprocessing)[0].views
    with VideoReader(annotations.items[0].path) as video:
        indices = clip_indices(40, bundle.sampling, video.fps)
    assert views.shape == (6, 3, *indices.shape[1:], 112, 112)
    logits = predictor.runtime.run(views).logits
    (theirs,) = predictor.view_logits_many([annotations.items[0].path])
    np.testing.assert_array_equal(logits, theirs.logits)


def test_worker_processes_give_what_this_process_gives(annotations):
    dataset = TrainClips(annotations, SAMPLING, 64, transform=keep_first_rows, seed=3)
    keys = [(epoch, index) for epoch in range(2) for index in (0, 1, 2)]
    loader: DataLoader[Sample] = DataLoader(
        dataset,  # type: ignore[arg-type]  # a map-style dataset that does not import torch
        sampler=keys,
        batch_size=None,
        num_workers=2,
        collate_fn=None,
        multiprocessing_context="spawn",
    )
    for key, sample in zip(keys, loader, strict=True):
        here = dataset[key]
        assert (sample.index, sample.labels, sample.error) == (here.index, here.labels, here.error)
        if here.views is not None:
            np.testing.assert_array_equal(np.asarray(sample.views), here.views)
    assert len(pickle.loads(pickle.dumps(dataset))) == 3


def test_many_readers_keep_the_order(annotations):
    predictor = Predictor.load(runtime="torch")
    paths = [item.path for item in annotations.items] * 2
    one, three = (list(predictor.view_logits_many(paths, num)) for num in (1, 3))
    assert [r.source for r in three] == paths
    assert [r.error is None for r in three] == [True, False, True] * 2
    for a, b in zip(one, three, strict=True):
        np.testing.assert_allclose(a.logits, b.logits, atol=1e-6)


def test_another_rule_takes_other_frames(annotations):
    predictor = Predictor.load(runtime="torch").with_views(2, 1)
    newer = predictor.with_rule("mmaction2")
    assert (newer.bundle.sampling.rule, newer.bundle.sampling.num_clips) == ("mmaction2", 2)
    path = [annotations.items[0].path]
    (official,), (mmaction2,) = predictor.view_logits_many(path), newer.view_logits_many(path)
    assert not np.allclose(official.logits, mmaction2.logits)
    assert predictor.with_rule("uniform").bundle.sampling.num_clips == 1
    with pytest.raises(ValueError, match="official, mmaction2, uniform"):
        predictor.with_rule("random")
