from __future__ import annotations

import json

import pytest

from tests.samples import CUSTOM
from video_swin_transformer.config import (
    BundleConfig,
    ClipSampling,
    ModelConfig,
    Preprocessing,
)
from video_swin_transformer.errors import ConfigError
from video_swin_transformer.sampling import at_fps


@pytest.mark.parametrize("bundle", [BundleConfig(), CUSTOM])
def test_json_gives_back_an_equal_value(bundle):
    assert BundleConfig.from_json(bundle.to_json()) == bundle


def test_json_has_the_names_other_tools_look_for():
    data = json.loads(CUSTOM.to_json())
    assert data["model_type"] == "video_swin"
    assert data["num_frames"] == 8
    assert data["id2label"] == {"0": "on", "1": "ausgeschaltet \u00fc"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "model_type 'list'"),
        ('{"model_type": "bert"}', "'bert'"),
        ('{"model_type": "video_swin"}', "incomplete"),
        (CUSTOM.to_json().replace('"embed_dim"', '"embed_dims"'), "no setting 'embed_dims'"),
        (CUSTOM.to_json().replace('"0": "on",', ""), "incomplete"),
        (CUSTOM.to_json().replace('"depths": [', '"depths": "x", "unused": ['), "unused"),
    ],
)
def test_malformed_json_is_a_config_error(text, says):
    with pytest.raises(ConfigError, match=says):
        BundleConfig.from_json(text)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ClipSampling(num_frames=0), "num_frames is 0"),
        (lambda: ClipSampling(stride=True), "stride is True"),
        (lambda: ClipSampling(rule="dense"), "rule is 'dense', but must be one of official"),
        (lambda: ClipSampling(stride_seconds=0), "stride_seconds"),
        (lambda: Preprocessing(crop_size=300), "crop_size is 300, but must be at most short_side"),
        (lambda: Preprocessing(num_crops=2), "num_crops is 2"),
        (lambda: Preprocessing(num_crops=3, whole_frame=True), "num_crops is 3"),
        (lambda: Preprocessing(std=(1, 0, 1)), "std"),
        (lambda: Preprocessing(mean=(1, 2)), "mean and std"),
        (lambda: Preprocessing(interpolation="cubic"), "interpolation"),
        (lambda: BundleConfig(labels=("a",)), "1 labels for 400 classes"),
        (lambda: BundleConfig(model=ModelConfig(in_chans=1)), "takes 1 channels"),
    ],
)
def test_wrong_settings_are_named_with_what_is_allowed(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


def test_stride_in_seconds_becomes_frames():
    sampling = ClipSampling(num_frames=8, stride=6, stride_seconds=0.2)
    assert [at_fps(sampling, fps).stride for fps in (15, 25, 29.97, 60, 1)] == [3, 5, 6, 12, 1]
    assert at_fps(sampling, None) == sampling
    assert at_fps(ClipSampling(), 60) == ClipSampling()
