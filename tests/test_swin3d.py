"""Names of torchvision and mmaction2: weights enumerations, transforms, classes, registration."""

from __future__ import annotations

import sys

import pytest
import torch
import torchvision.models.video as theirs
from torch import nn

import video_swin_transformer as vst
from tests.containers import OFFICIAL_TINY, mmaction2_container, random_state, save
from tests.oracle import fill_by_name
from video_swin_transformer import mmaction, swin3d

# --- torchvision ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["T", "S", "B"])
def test_weights_have_the_members_and_facts_of_torchvision(size):
    ours, expected = (getattr(m, f"Swin3D_{size}_Weights") for m in (swin3d, theirs))
    assert ours.__members__.keys() == {*expected.__members__, "DEFAULT"}
    assert ours.DEFAULT.name == expected.DEFAULT.name
    for member in expected:
        mine = ours[member.name]
        assert mine.url == member.url
        assert mine.meta["_metrics"] == member.meta["_metrics"]
        for key in ("categories", "num_params", "min_size", "min_temporal_size"):
            assert mine.meta[key] == member.meta[key], key


@pytest.mark.parametrize(
    "shape", [(3, 3, 120, 160), (2, 4, 3, 311, 256), (5, 3, 333, 501), (1, 2, 3, 256, 340)]
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_transforms_equal_those_of_torchvision(shape, dtype):
    frames = torch.randint(0, 256, shape, dtype=torch.uint8)
    if dtype.is_floating_point:
        frames = frames / 255
    ours = swin3d.Swin3D_T_Weights.KINETICS400_V1.transforms()
    expected = theirs.Swin3D_T_Weights.KINETICS400_V1.transforms()
    torch.testing.assert_close(ours(frames), expected(frames), rtol=0, atol=1e-6)


def test_transforms_refuse_other_frames():
    transform = swin3d.Swin3D_T_Weights.DEFAULT.transforms()
    assert "crop_size=224" in repr(transform)
    for wrong in (torch.zeros(3, 8, 8), torch.zeros(2, 3, 8, 8, dtype=torch.int64)):
        with pytest.raises(vst.ConfigError, match="must be uint8 or float"):
            transform(wrong)
    with pytest.raises(vst.ConfigError, match="crop_size is 300"):
        swin3d.VideoClassification(300, 256, (0.5,) * 3, (0.5,) * 3)


def test_state_dicts_go_both_ways_strictly():
    ours, twin = swin3d.swin3d_t(num_classes=5).eval(), theirs.swin3d_t(num_classes=5).eval()
    fill_by_name(ours)
    twin.load_state_dict(swin3d.to_torchvision(ours))
    video = torch.randn(1, 3, 4, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(ours(video), twin(video), rtol=1e-5, atol=1e-5)
    again = swin3d.swin3d_t(num_classes=5)
    again.load_state_dict(swin3d.from_torchvision(twin.state_dict()))
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, ours.state_dict()[name]), name
    with pytest.raises(vst.CheckpointError, match="not of torchvision's swin3d"):
        swin3d.from_torchvision(ours.state_dict())
    strided = vst.VideoSwinTransformer(vst.ModelConfig(embed_dim=12, patch_stride=(1, 4, 4)))
    with pytest.raises(vst.CheckpointError, match="patch_stride"):
        swin3d.to_torchvision(strided)


def test_builders_take_members_and_names_and_a_new_head():
    model = swin3d.swin3d_t()
    assert model.training and model.num_classes == 400
    model.head = nn.Linear(model.head.in_features, 7)  # type: ignore[arg-type]
    assert model(torch.rand(1, 3, 2, 32, 32)).shape == (1, 7)
    for wrong in ("KINETICS400_V2", swin3d.Swin3D_B_Weights.DEFAULT):
        with pytest.raises(vst.ConfigError, match="must be one of KINETICS400_V1, DEFAULT"):
            swin3d.swin3d_t(weights=wrong)  # type: ignore[arg-type]


def test_builders_load_the_published_file(monkeypatch, tmp_path):
    asked = []

    def create(name, **settings):
        asked.append((name, settings))
        return vst.create_model("swin-nano")

    monkeypatch.setattr(swin3d, "create_model", create)
    for weights in ("DEFAULT", "Swin3D_B_Weights.KINETICS400_V1", swin3d.Swin3D_B_Weights.DEFAULT):
        swin3d.swin3d_b(weights=weights, num_classes=3)
    expected = ("Swin3D_B_Weights.KINETICS400_V1", {"pretrained": True, "num_classes": 3})
    assert asked == [expected] * 3


# --- mmaction2 --------------------------------------------------------------------------------

SMALL_ARCH = {"embed_dims": 12, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]}


def test_the_class_of_mmaction2_has_the_released_defaults():
    with torch.device("meta"):
        named = [mmaction.SwinTransformer3D(arch) for arch in ("t", "small", "b", "Large")]
    assert [one.num_features for one in named] == [768, 768, 1024, 1536]
    assert named[0].config == vst.ModelConfig(num_classes=0)
    gray = mmaction.SwinTransformer3D(SMALL_ARCH, in_channels=1, with_cp=True)
    assert gray.use_checkpoint and gray(torch.rand(1, 1, 2, 32, 32)).shape == (1, 96, 1, 1, 1)


def test_a_checkpoint_of_mmaction2_loads_strictly(tmp_path):
    weights = random_state(OFFICIAL_TINY, shrink=8)
    state = mmaction2_container(weights)["state_dict"]
    backbone = mmaction.SwinTransformer3D(SMALL_ARCH)
    own = {k.removeprefix("backbone."): t for k, t in state.items() if k.startswith("backbone.")}
    backbone.load_state_dict(own)
    assert "norm3.weight" in backbone.state_dict() and "norm.weight" not in backbone.state_dict()
    path = save(mmaction2_container(weights), tmp_path / "file.pth")
    again = mmaction.SwinTransformer3D(SMALL_ARCH, pretrained=str(path), pretrained2d=False)
    assert again.init_weights().is_complete
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, backbone.state_dict()[name])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"act_cfg": {"type": "ReLU"}}, "act_cfg is {'type': 'ReLU'}"),
        ({"norm_cfg": {"type": "BN3d"}}, "norm_cfg is"),
        ({"arch": "huge"}, "huge"),
    ],
)
def test_settings_of_mmaction2_that_differ_are_refused(settings, says):
    with pytest.raises((vst.ConfigError, vst.UnknownNameError), match=says):
        mmaction.SwinTransformer3D(**{"arch": SMALL_ARCH, **settings})


def test_a_recognizer_classifies_as_the_config_says(tmp_path):
    model = vst.create_model("camera-motion", pretrained=True)
    checkpoint = tmp_path / "camera.pth"
    torch.save({"state_dict": model.state_dict()}, checkpoint)
    config = tmp_path / "camera.py"
    config.write_text(
        "model = dict(type='Recognizer3D', backbone=dict(type='SwinTransformer3D', "
        "embed_dim=96, depths=[2, 2], num_heads=[3, 6], patch_size=(4, 8, 8), "
        "window_size=(8, 7, 7), patch_norm=True), "
        "cls_head=dict(type='I3DHead', in_channels=192, num_classes=10), "
        "test_cfg=dict(average_clips='prob'))\n"
        "test_pipeline = [dict(type='SampleFrames', clip_len=8, frame_interval=3, num_clips=2), "
        "dict(type='Resize', scale=(-1, 112)), dict(type='CenterCrop', crop_size=112)]\n"
    )
    recognizer = mmaction.init_recognizer(config, checkpoint, device="cpu")
    result = mmaction.inference_recognizer(recognizer, "examples/clips/pan_left.mp4")
    expected = vst.Predictor.load(config=config, checkpoint=checkpoint, runtime="torch")
    torch.testing.assert_close(
        torch.from_numpy(result.scores),
        torch.from_numpy(expected.classify("examples/clips/pan_left.mp4").scores),
    )
    assert result.view_scores.shape == (2, 10)


@pytest.mark.filterwarnings("ignore")  # of mmengine itself
def test_the_class_is_built_by_the_registry_of_mmengine():
    registry = pytest.importorskip("mmengine.registry")
    mmaction.register()
    mmaction.register()  # twice is no error
    backbone = registry.MODELS.build({"type": "SwinTransformer3D", "arch": SMALL_ARCH})
    assert isinstance(backbone, mmaction.SwinTransformer3D)


def test_without_mmengine_a_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmengine.registry", None)
    with pytest.raises(vst.ConfigError, match="pip install mmengine"):
        mmaction.register()
