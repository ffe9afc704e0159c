"""Videos as tensors, lists of frames, bytes and file objects, and other inputs with a sentence."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import video_swin_transformer as vst
from tests.samples import EXAMPLE_CLIPS
from video_swin_transformer import (
    ConfigError,
    Predictor,
    VideoDecodeError,
    VideoReader,
    create_model,
)

VIDEO = Path(EXAMPLE_CLIPS) / "static.mp4"


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load("camera-motion", runtime="torch").with_views(1, 1)


@pytest.fixture(scope="module")
def frames():
    with VideoReader(VIDEO) as reader:
        return reader.frames_at(range(16))


def test_every_form_of_the_same_frames_gives_the_same_scores(predictor, frames):
    expected = predictor.classify(frames).scores
    channels_first = np.ascontiguousarray(frames.transpose(0, 3, 1, 2))
    for source in (
        torch.from_numpy(frames),
        channels_first,
        torch.from_numpy(channels_first),
        [Image.fromarray(frame) for frame in frames],
        list(frames),
        list(torch.from_numpy(channels_first)),
    ):
        np.testing.assert_array_equal(predictor.classify(source).scores, expected)


def test_bytes_and_file_objects_are_the_video_and_leave_nothing(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    expected = predictor.classify(VIDEO).scores
    with VIDEO.open("rb") as file:
        for source in (VIDEO.read_bytes(), io.BytesIO(VIDEO.read_bytes()), file):
            np.testing.assert_array_equal(predictor.classify(source).scores, expected)
    with pytest.raises(VideoDecodeError, match="'video of 8 bytes'"):
        predictor.classify(b"no video")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (np.zeros((3, 16, 8, 8), np.uint8), r"did you mean video.transpose\(1, 2, 3, 0\)"),
        (np.zeros((1, 16, 3, 8, 8), np.uint8), "one at a time, as with classify_many"),
        (np.zeros((16, 8, 8, 3), np.float32), "its type is float32, but must be uint8"),
        ([], "'list of 0 frames': it contains no frames"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)], "different shapes"),
        (["a.mp4", "b.mp4"], "its elements must be frames"),
        (None, "a list of frames, bytes or a binary file object, not NoneType"),
    ],
)
def test_other_inputs_get_one_right_sentence(source, sentence, predictor):
    with pytest.raises(VideoDecodeError, match=sentence):
        predictor.classify(source)


def test_one_path_is_one_video(predictor, tmp_path):
    (result,) = predictor.classify_many(str(VIDEO))
    assert result.source == str(VIDEO) and result.error is None
    (result,) = predictor.classify_many(VIDEO)
    assert result.error is None
    (features,) = predictor.features_many(str(VIDEO))
    assert features.error is None
    (written,) = vst.write_features(predictor, str(VIDEO), tmp_path)
    assert written.error is None


@pytest.mark.parametrize("runtime", ["torch", "openvino", "onnxruntime"])
def test_predictors_are_pickled_with_their_settings(runtime):
    predictor = Predictor.load("camera-motion", runtime=runtime).with_views(2, 1)
    again = pickle.loads(pickle.dumps(predictor))
    assert repr(again) == repr(predictor)
    np.testing.assert_array_equal(again(VIDEO).scores, predictor(VIDEO).scores)


def test_models_name_the_layout_that_was_meant():
    model = create_model("swin-nano").eval()
    for shape, hint in (
        ((1, 16, 3, 32, 32), r"did you mean x.transpose\(1, 2\)"),
        ((1, 16, 32, 32, 3), r"did you mean x.permute\(0, 4, 1, 2, 3\)"),
        ((3, 16, 32, 32), r"did you mean x\[None\]"),
    ):
        with pytest.raises(ConfigError, match=hint):
            model(torch.zeros(shape))
    with pytest.raises(ConfigError, match=r"is of type torch.uint8, but must be floating point"):
        model(torch.zeros(1, 3, 16, 32, 32, dtype=torch.uint8))
    with pytest.raises(ConfigError, match="model is a VideoSwinTransformer object, but must be"):
        Predictor.load(model)  # type: ignore[arg-type]


def test_create_model_takes_the_arguments_of_timm(tmp_path):
    model = create_model(
        "swin-nano", num_classes=3, drop_rate=0.2, window_size=(4, 7, 7), num_frames=8, img_size=96
    )
    config = model.bundle.model
    assert config.head_drop_rate == 0.2 and config.window_size == (4, 7, 7)
    assert model.bundle.sampling.num_frames == 8 and model.bundle.preprocessing.crop_size == 96
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    again = create_model(
        "swin-nano", num_classes=3, window_size=(4, 7, 7), checkpoint_path=tmp_path / "weights.pth"
    )
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    assert again.training
    pretrained = create_model("camera-motion", pretrained=True, drop_rate=0.0, num_frames=8)
    assert pretrained.bundle.labels and pretrained.bundle.sampling.num_frames == 8
    with pytest.raises(ConfigError, match="pretrained and checkpoint_path both give weights"):
        create_model("swin-nano", pretrained=True, checkpoint_path="x.pth")


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert vst.__version__ == version("video-swin-transformer")


def test_the_output_folder_of_a_training_is_a_model(tmp_path):
    create_model("swin-nano").save_pretrained(tmp_path / "run" / "model")
    assert vst.VideoSwinTransformer.from_pretrained(tmp_path / "run").num_classes
