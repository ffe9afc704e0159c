"""Adaptive views: certain videos need two, and all of them give the fixed protocol."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.samples import EXAMPLE_CLIPS, fresh
from video_swin_transformer import Predictor
from video_swin_transformer.adaptive_views import is_decided, view_order
from video_swin_transformer.errors import ConfigError
from video_swin_transformer.runtimes.torch_runtime import TorchRuntime


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load(runtime="torch")


def scores_of(*first: float) -> np.ndarray:
    """Views of two labels with these scores for the first one."""
    return np.array([[score, 1 - score] for score in first])


@pytest.mark.parametrize("num_clips", [1, 3, 4, 10])
@pytest.mark.parametrize("num_crops", [1, 3, 5, 10])
def test_the_order_has_every_view_once_and_middle_crops_first(num_clips, num_crops):
    order = view_order(num_clips, num_crops)
    assert sorted(order) == [(k, c) for k in range(num_clips) for c in range(num_crops)]
    middle = {1: 0, 3: 2, 5: 2, 10: 4}[num_crops]
    assert {crop for _, crop in order[:num_clips]} == {middle}
    assert abs(order[0][0] - (num_clips - 1) / 2) <= 0.5


def test_the_rule_stops_where_the_label_is_stable():
    assert is_decided(scores_of(0.99, 0.99), 12)
    assert not is_decided(scores_of(0.8, 0.8), 12)
    assert not is_decided(scores_of(1.0), 12), "one view does not say how much views differ"
    assert is_decided(scores_of(1.0), 1)
    assert not is_decided(scores_of(0.9, 0.2), 12)
    assert is_decided(scores_of(0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8), 12)
    assert not is_decided(scores_of(0.5, 0.5, 0.5, 0.5), 12)
    assert is_decided(scores_of(0.5, 0.4, 0.7), 3), "there are no more views"
    assert is_decided(np.ones((1, 1)), 12), "there is no other label"
    # Views that agree decide earlier than views that do not.
    assert is_decided(scores_of(0.8, 0.8, 0.8, 0.8, 0.8, 0.8), 12)
    assert not is_decided(scores_of(1.0, 0.5, 1.0, 0.5, 1.0, 0.5), 12, 0.001)
    # A smaller error rate asks for more.
    twice = scores_of(0.9, 0.9)
    assert is_decided(twice, 12, 0.5) and not is_decided(twice, 12, 1e-6)
    with pytest.raises(ConfigError, match="error_rate is 0"):
        is_decided(scores_of(0.5), 12, 0)


@pytest.mark.parametrize("rate", [0.2, 0.05])
def test_labels_differ_from_those_of_all_views_about_as_rarely_as_stated(rate):
    rng = np.random.default_rng(0)
    num_different, num_used, num_videos = 0, 0, 4000
    for _ in range(num_videos):
        mean = rng.uniform(0.3, 0.7)
        views = rng.beta(4 * mean, 4 * (1 - mean), 12)
        scores = scores_of(*views)
        used = next(n for n in range(1, 13) if is_decided(scores[:n], 12, rate))
        num_used += used
        num_different += scores[:used].mean(0).argmax() != scores.mean(0).argmax()
    assert num_different / num_videos < rate
    assert num_used / num_videos < 11, "it must stop early in some videos"


def test_no_early_stop_gives_the_fixed_protocol():
    model = fresh().eval()  # random weights: never certain
    predictor = Predictor(TorchRuntime(model, model.bundle, "f32", "cpu"), "small")
    path = EXAMPLE_CLIPS / "shake.mp4"
    fixed = predictor.with_views(4, 3).classify(path)
    never = predictor.with_adaptive_views(4, 3, error_rate=1e-300).classify(path)
    assert never.num_views == never.max_views == 12
    np.testing.assert_allclose(never.scores, fixed.scores, atol=1e-6)
    order = [crop * 4 + clip for clip, crop in view_order(4, 3)]
    np.testing.assert_allclose(never.view_scores, fixed.view_scores[order], atol=1e-6)


def test_views_are_added_in_order_until_the_rule_stops(predictor, tmp_path):
    adaptive = predictor.with_adaptive_views()
    clips = sorted(EXAMPLE_CLIPS.glob("*.mp4"))
    missing = tmp_path / "none.mp4"
    results = list(adaptive.classify_many([*clips, missing]))
    assert results[-1].error is not None and "none.mp4" in results[-1].source
    order = view_order(4, 3)
    for clip, result in zip(clips, results, strict=False):
        assert clip.stem.startswith(result.top(1)[0][0])
        assert result.max_views == 12 and len(result.view_scores) == result.num_views
        fixed = predictor.with_views(4, 3).classify(clip).view_scores
        rows = [crop * 4 + clip_number for clip_number, crop in order[: result.num_views]]
        np.testing.assert_allclose(result.view_scores, fixed[rows], atol=1e-6)
        assert is_decided(result.view_scores, 12)
        for count in range(1, result.num_views):
            assert not is_decided(result.view_scores[:count], 12)
    assert sum(result.num_views for result in results) < 12 * len(clips) / 2
    one = adaptive.classify(clips[0])
    np.testing.assert_array_equal(one.scores, results[0].scores)


def test_the_command_reports_the_views(run):
    path = EXAMPLE_CLIPS / "pan_left.mp4"
    code, out, err = run("classify", path, "--views", "auto", "--runtime", "torch", "--topk", 1)
    assert (code, err) == (0, "") and out.splitlines()[2].endswith("of 12 views")
    _, out, _ = run("classify", path, "--views", "auto", "--runtime", "torch", "--json")
    assert 2 <= json.loads(out)["num_views"] < 12
    code, _, err = run("classify", path, "--views", "automatic")
    assert code == 2 and "views is 'automatic'" in err


def test_misuse_is_named(predictor):
    with pytest.raises(ConfigError, match="error_rate is 1"):
        predictor.with_adaptive_views(error_rate=1)
    with pytest.raises(ConfigError, match="num_crops is 2"):
        predictor.with_adaptive_views(num_crops=2)
    assert "up to 4x3 views" in repr(predictor.with_adaptive_views())
