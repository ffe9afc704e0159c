"""The stages joined: what comes out must be what the stages give one by one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.media import Clip, numbered_frame, save_picture
from video_swin_transformer import (
    CheckpointError,
    ConfigError,
    Predictor,
    UnknownNameError,
    VideoDecodeError,
    VideoReader,
    clip_indices,
    create_model,
    load_model,
    views_from_frames,
)
from video_swin_transformer.postprocess import softmax
from video_swin_transformer.predictor import parse_views

EXAMPLES = Path(__file__).parent.parent / "examples" / "clips"


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load(device="cpu")


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    """A network of the official protocol (4 x 3 views of 32 frames), small and random."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    create_model("swin-nano").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.mp4")), ids=lambda p: p.stem)
def test_the_shipped_model_names_the_movement_of_the_shipped_clips(predictor, path):
    label, score = predictor.classify(path).top(1)[0]
    assert path.stem.startswith(label)
    assert score > 0.4


def test_result_is_the_stages_one_by_one(predictor):
    path = EXAMPLES / "pan_left.mp4"
    result = predictor.classify(str(path))
    bundle = predictor.bundle
    with VideoReader(path) as video:
        indices = clip_indices(video.num_frames, bundle.sampling, video.fps)
        frames = video.frames_at(indices.ravel()).reshape(*indices.shape, 176, 176, 3)
    views = torch.from_numpy(views_from_frames(frames, bundle.preprocessing))
    with torch.inference_mode():
        expected = load_model("camera-motion")(views).softmax(dim=1)
    np.testing.assert_allclose(result.view_scores, expected, atol=1e-6)
    np.testing.assert_allclose(result.scores, expected.mean(dim=0), atol=1e-6)
    assert result.scores.dtype == np.float32 and result.scores.shape == (10,)
    assert result.scores.sum() == pytest.approx(1, abs=1e-5)
    assert set(result.timing_seconds) == {"decode", "preprocess", "network"}
    assert all(seconds > 0 for seconds in result.timing_seconds.values())
    assert result.error is None


def test_views_of_the_official_protocol_are_crop_major(predictor):
    frames = np.random.default_rng(0).integers(0, 256, (40, 120, 200, 3), dtype=np.uint8)
    many = predictor.with_views(2, 3).classify(frames)
    assert many.view_scores.shape == (6, 10)
    turned = predictor.with_views(2, 3).classify(np.ascontiguousarray(frames[:, :, ::-1]))
    assert not np.allclose(many.view_scores, turned.view_scores, atol=1e-3)
    middle = predictor.with_views(2, 1).classify(frames)  # the third crop is the middle one
    np.testing.assert_allclose(many.view_scores[4:], middle.view_scores, atol=2e-2)


def test_the_whole_frame_as_one_view_a_clip(predictor):
    frames = np.random.default_rng(3).integers(0, 256, (40, 60, 90, 3), np.uint8)
    whole = predictor.with_views(2, "full")
    result = whole.classify(frames)
    assert result.view_scores.shape[0] == 2
    assert whole.features(frames).features.shape[0] == 2
    preprocessing = dataclasses.replace(predictor.bundle.preprocessing, num_crops=1)
    clips = frames[clip_indices(40, whole.bundle.sampling)]
    views = views_from_frames(clips, dataclasses.replace(preprocessing, whole_frame=True))
    assert views.shape[3] < views.shape[4]
    np.testing.assert_allclose(
        softmax(predictor.runtime.run(views).logits), result.view_scores, atol=1e-6
    )


def test_views_in_chunks_give_the_same_scores(predictor, monkeypatch):
    path = EXAMPLES / "shake.mp4"
    whole = predictor.classify(path)
    monkeypatch.setattr("video_swin_transformer.runtimes.torch_runtime.MAX_BATCH_ELEMENTS", 1)
    np.testing.assert_allclose(predictor.classify(path).view_scores, whole.view_scores, atol=1e-6)


def test_a_video_of_one_frame_loops(predictor, tmp_path):
    path = save_picture(tmp_path / "one.png", numbered_frame(3))
    assert predictor.classify(path).top(1)[0][0] == "static"


def test_the_same_movement_at_another_frame_rate_gives_the_same_frames(predictor, tmp_path):
    with VideoReader(EXAMPLES / "zoom_in.mp4") as video:
        frames = video.frames_at(range(60))
    for fps, every in ((25, 1), (12, 2)):
        clip = Clip(fps=fps, height=176, width=176).make(tmp_path / f"at{fps}", frames[::every])
        assert predictor.classify(clip).top(1)[0][0] == "zoom_in"


def test_many_videos_in_order_with_a_bad_one_among_them(predictor, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_text("not a video")
    paths = [EXAMPLES / "pan_left.mp4", bad, tmp_path / "absent.mp4", EXAMPLES / "zoom_in.mp4"]
    results = list(predictor.classify_many(paths))
    assert [r.source for r in results] == [str(p) for p in paths]
    assert [r.error is None for r in results] == [True, False, False, True]
    assert isinstance(results[1].error, VideoDecodeError) and "bad.mp4" in str(results[1].error)
    assert results[1].top(3) == [] and results[1].scores.size == 0
    assert results[0].top(1)[0][0] == "pan_left" and results[3].top(1)[0][0] == "zoom_in"
    with pytest.raises(VideoDecodeError):
        predictor.classify(bad)


def test_videos_are_read_lazily(predictor):
    def endless():
        while True:
            yield EXAMPLES / "static.mp4"

    results = predictor.classify_many(endless())
    assert next(results).top(1)[0][0] == "static"
    assert next(results).top(1)[0][0] == "static"
    results.close()


def test_features_are_one_vector_for_each_clip(predictor):
    path = EXAMPLES / "pan_left.mp4"
    features = predictor.features(path).features
    assert features.shape == (4, 192) and features.dtype == np.float32
    model = load_model("camera-motion")
    logits = model.get_classifier()(torch.from_numpy(features)).detach().numpy()
    np.testing.assert_allclose(softmax(logits), predictor.classify(path).view_scores, atol=1e-5)
    crops = predictor.with_views(2, 3).features(path)
    assert crops.features.shape == (2, 192)


def test_a_saved_folder_is_a_model(tiny_folder):
    predictor = Predictor.load(tiny_folder, runtime="torch")
    result = predictor.classify(EXAMPLES / "static.mp4")
    assert result.scores.shape == (10,) and result.model == str(tiny_folder)


def test_labels_from_a_file_and_numbers_without(predictor, tmp_path, tiny_folder):
    file = tmp_path / "labels.txt"
    file.write_text("\ufeff" + "\n".join(f"class {i}" for i in range(10)) + "\n\n", "utf-8")
    named = predictor.with_labels(file).classify(EXAMPLES / "static.mp4")
    assert named.top(1)[0][0] == "class 0"
    model = load_model(tiny_folder)
    model.reset_classifier(3)
    model.save_pretrained(tmp_path / "three")
    numbered = Predictor.load(tmp_path / "three", runtime="torch").classify(EXAMPLES / "static.mp4")
    assert {label for label, _ in numbered.top(5)} == {"0", "1", "2"}


def test_bf16_differs_slightly_from_f32(predictor):
    exact = predictor.classify(EXAMPLES / "roll_cw.mp4")
    bf16 = Predictor.load(runtime="torch", precision="bf16", device="cpu")
    rough = bf16.classify(EXAMPLES / "roll_cw.mp4")
    assert rough.top(1)[0][0] == "roll_cw"
    assert 0 < np.abs(rough.scores - exact.scores).max() < 0.1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"precision": "fp8"}, ConfigError, "precision is 'fp8'"),
        ({"device": "gpu"}, ConfigError, "device is 'gpu'"),
        ({"device": "cuda:7"}, ConfigError, "device is 'cuda:7'"),
        ({"runtime": "tensorrt"}, UnknownNameError, "Unknown runtime 'tensorrt'"),
        (
            {"model": "Swin3D_T_Weights.KINETICS400_V2"},
            UnknownNameError,
            "Did you mean 'Swin3D_T_Weights.KINETICS400_V1'",
        ),
    ],
)
def test_load_refuses_settings_that_do_not_exist(options, error, message):
    with pytest.raises(error, match=message):
        Predictor.load(**options)


def test_views_text():
    assert parse_views("10X5") == (10, 5)
    assert parse_views("4xFull") == (4, "full")
    for text in ("4", "4x", "x3", "0x1", "4x3x2", "-1x3", "axb", "\u0664x\u0663"):
        with pytest.raises(ConfigError, match="clips x crops"):
            parse_views(text)


def test_a_uniform_model_has_one_clip(tiny_folder):
    predictor = Predictor.load(tiny_folder, runtime="torch")
    import dataclasses

    sampling = dataclasses.replace(predictor.bundle.sampling, rule="uniform", num_clips=1)
    uniform = predictor._with(dataclasses.replace(predictor.bundle, sampling=sampling))
    with pytest.raises(ConfigError, match="1x3 views"):
        uniform.with_views(4, 3)


def test_load_without_a_name_ignores_a_folder_of_the_default_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "camera-motion").mkdir()
    assert Predictor.load(runtime="torch").bundle.labels[0] == "static"
    with pytest.raises(CheckpointError, match="camera-motion"):
        Predictor.load("camera-motion", runtime="torch")


def test_a_model_without_a_classifier_gives_features_only(tmp_path):
    create_model("swin-nano", num_classes=0).save_pretrained(tmp_path / "headless")
    predictor = Predictor.load(tmp_path / "headless", runtime="torch")
    assert predictor.features(EXAMPLES / "static.mp4").features.shape == (4, 192)
    with pytest.raises(ConfigError, match="has no classifier"):
        predictor.classify(EXAMPLES / "static.mp4")
    with pytest.raises(ConfigError, match="has no classifier"):
        next(predictor.classify_many([EXAMPLES / "static.mp4"]))
