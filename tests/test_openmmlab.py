"""Official and mmaction2 configs, rebuilt here in our own words, and "inference as official"."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import video_swin_transformer as vst
from tests.oracle import fill_by_name
from video_swin_transformer import cli
from video_swin_transformer.config import ClipSampling, ModelConfig
from video_swin_transformer.model import VideoSwinTransformer
from video_swin_transformer.openmmlab import bundle_for_testing, parse_config, read_config

CLIP = Path(__file__).parent.parent / "examples" / "clips" / "pan_left.mp4"

BASE_MODEL = """
# what every Swin recognizer shares
model = dict(
    type='Recognizer3D',
    backbone=dict(type='SwinTransformer3D', patch_size=(4, 4, 4), embed_dim=EMBED,
                  depths=DEPTHS, num_heads=HEADS, window_size=(8, 7, 7), mlp_ratio=4.,
                  qkv_bias=True, qk_scale=None, drop_rate=0., attn_drop_rate=0.,
                  drop_path_rate=0.2, patch_norm=True),
    cls_head=dict(type='I3DHead', in_channels=FEATURES, num_classes=400, spatial_type='avg',
                  dropout_ratio=0.5),
    test_cfg=dict(average_clips='prob'))
"""
RUNTIME = "checkpoint_config = dict(interval=1)\nlog_level = 'INFO'\nresume_from = None\n"
KINETICS = """
_base_ = ['MODEL', 'runtime.py']
model = dict(backbone=dict(patch_size=(2, 4, 4), drop_path_rate=DROP),
             test_cfg=dict(max_testing_views=VIEWS))
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_bgr=False)
train_pipeline = [dict(type='SampleFrames', clip_len=32, frame_interval=2, num_clips=1),
                  dict(type='RandomResizedCrop'), dict(type='Normalize', **img_norm_cfg)]
test_pipeline = [
    dict(type='DecordInit'),
    dict(type='SampleFrames', clip_len=32, frame_interval=2, num_clips=4, test_mode=True),
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(-1, 224)),
    dict(type='ThreeCrop', crop_size=224),
    dict(type='Flip', flip_ratio=0),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='Collect', keys=['imgs', 'label'], meta_keys=[]),
    dict(type='ToTensor', keys=['imgs'])]
data = dict(videos_per_gpu=8, test=dict(ann_file='val.txt', pipeline=test_pipeline))
optimizer = dict(type='AdamW', lr=1e-3, paramwise_cfg=dict(
    custom_keys={'backbone': dict(lr_mult=0.1), 'norm': dict(decay_mult=0.)}))
"""
SSV2 = """
_base_ = ['swin_base.py', 'runtime.py']
model = dict(backbone=dict(patch_size=(2, 4, 4), window_size=(16, 7, 7), drop_path_rate=0.4),
             cls_head=dict(num_classes=174),
             test_cfg=dict(max_testing_views=2))
norm = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_bgr=False)
steps = [dict(type='SampleFrames', clip_len=32, frame_interval=2, num_clips=1,
              frame_uniform=True, test_mode=True),
         dict(type='Resize', scale=(-1, 224)), dict(type='ThreeCrop', crop_size=224),
         dict(type='Flip', flip_ratio=0), dict(type='Normalize', **norm)]
data = dict(test=dict(pipeline=steps))
"""
K600 = """
_base_ = 'swin_base_patch244_window877_kinetics400_22k.py'
model = dict(cls_head=dict(num_classes=600))
data = dict(test=dict(ann_file='k600.txt'))
"""
NEW_STYLE = """
_base_ = ['runtime.py']
model = dict(
    type='Recognizer3D',
    backbone=dict(type='SwinTransformer3D', arch='ARCH', pretrained='x.pth', pretrained2d=True,
                  patch_size=(2, 4, 4), window_size=(8, 7, 7), drop_path_rate=0.1,
                  patch_norm=True),
    data_preprocessor=dict(type='ActionDataPreprocessor', mean=[123.675, 116.28, 103.53],
                           std=[58.395, 57.12, 57.375], format_shape='NCTHW'),
    cls_head=dict(type='I3DHead', in_channels=FEATURES, num_classes=400, spatial_type='avg',
                  dropout_ratio=0.5, average_clips='prob'))
file_client_args = dict(io_backend='disk')
test_pipeline = [
    dict(type='DecordInit', **file_client_args),
    dict(type='SampleFrames', clip_len=32, frame_interval=2, num_clips=4, test_mode=True),
    dict(type='DecordDecode'), dict(type='Resize', scale=(-1, 224)),
    dict(type='ThreeCrop', crop_size=224), dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs')]
test_dataloader = dict(batch_size=1, dataset=dict(type='VideoDataset', pipeline=test_pipeline))
val_dataloader = test_dataloader.copy()
val_dataloader['batch_size'] = 8
test_cfg = dict(type='TestLoop')
"""

SIZES = {  # embed_dim, depths, heads, features
    "tiny": (96, "[2, 2, 6, 2]", "[3, 6, 12, 24]", 768),
    "small": (96, "[2, 2, 18, 2]", "[3, 6, 12, 24]", 768),
    "base": (128, "[2, 2, 18, 2]", "[4, 8, 16, 32]", 1024),
    "large": (192, "[2, 2, 18, 2]", "[6, 12, 24, 48]", 1536),
}


@pytest.fixture
def configs(tmp_path):
    """A folder of configs with their bases, like the official one."""
    (tmp_path / "runtime.py").write_text(RUNTIME)
    for size, (embed, depths, heads, features) in SIZES.items():
        text = BASE_MODEL.replace("EMBED", str(embed)).replace("DEPTHS", depths)
        text = text.replace("HEADS", heads).replace("FEATURES", str(features))
        (tmp_path / f"swin_{size}.py").write_text(text)
        new = NEW_STYLE.replace("ARCH", size).replace("FEATURES", str(features))
        (tmp_path / f"mmaction2_{size}.py").write_text(new)
    for size, training, drop, views in (
        ("tiny", "1k", 0.1, 4),
        ("small", "1k", 0.1, 4),
        ("base", "1k", 0.3, 4),
        ("base", "22k", 0.2, 2),
    ):
        text = KINETICS.replace("MODEL", f"swin_{size}.py").replace("DROP", str(drop))
        name = f"swin_{size}_patch244_window877_kinetics400_{training}.py"
        (tmp_path / name).write_text(text.replace("VIEWS", str(views)))
    (tmp_path / "swin_base_patch244_window1677_sthv2.py").write_text(SSV2)
    (tmp_path / "swin_base_patch244_window877_kinetics600_22k.py").write_text(K600)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "num_params", "drop_path", "views"),
    [  # reference 1.2
        ("swin_tiny_patch244_window877_kinetics400_1k", 28_158_070, 0.1, (4, 3)),
        ("swin_small_patch244_window877_kinetics400_1k", 49_816_678, 0.1, (4, 3)),
        ("swin_base_patch244_window877_kinetics400_1k", 88_048_984, 0.3, (4, 3)),
        ("swin_base_patch244_window877_kinetics400_22k", 88_048_984, 0.2, (4, 3)),
        ("swin_base_patch244_window877_kinetics600_22k", 88_253_984, 0.2, (4, 3)),
        ("swin_base_patch244_window1677_sthv2", 88_834_038, 0.4, (1, 3)),
    ],
)
def test_official_configs_give_the_right_network_sampling_and_views(
    configs, name, num_params, drop_path, views
):
    bundle = bundle_for_testing(configs / f"{name}.py")
    assert bundle.model.num_params == num_params
    assert bundle.model.drop_path_rate == drop_path
    assert (bundle.sampling.num_clips, bundle.preprocessing.num_crops) == views
    assert bundle.sampling.rule == ("uniform" if "sthv2" in name else "official")
    assert (bundle.sampling.num_frames, bundle.sampling.stride) == (32, 2)
    assert (bundle.preprocessing.short_side, bundle.preprocessing.crop_size) == (224, 224)
    assert bundle.preprocessing.mean == (123.675, 116.28, 103.53)
    assert bundle.average_clips == "prob" and bundle.name == name


@pytest.mark.parametrize("size", SIZES)
def test_mmaction2_configs(configs, size):
    bundle = bundle_for_testing(configs / f"mmaction2_{size}.py")
    old = parse_config(configs / f"swin_{size}.py").bundle.model
    assert bundle.model.embed_dim == old.embed_dim and bundle.model.depths == old.depths
    assert bundle.model.num_heads == old.num_heads
    assert bundle.model.patch_size == (2, 4, 4)
    assert bundle.sampling == ClipSampling(rule="mmaction2")


def test_merging_and_deleting(tmp_path):
    (tmp_path / "a.py").write_text("x = dict(p=1, q=dict(r=[1, 2], s=3))\ny = [1, 2]\n")
    (tmp_path / "b.py").write_text("z = -2.5\n")
    (tmp_path / "c.py").write_text(
        "_base_ = ['a.py', 'b.py']\nx = dict(q=dict(r=[9]))\ny = [7]\nw = dict(**dict(k=2 * 3))\n"
    )
    (tmp_path / "d.py").write_text("_base_ = 'c.py'\nx = dict(q=dict(_delete_=True, new=1))\n")
    assert read_config(tmp_path / "c.py") == {
        "x": {"p": 1, "q": {"r": [9], "s": 3}},
        "y": [7],
        "z": -2.5,
        "w": {"k": 6},
    }
    assert read_config(tmp_path / "d.py")["x"] == {"p": 1, "q": {"new": 1}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import os\n", "'import os'"),
        ("x = open('CANARY', 'w')\n", "the call"),
        ("x = __import__('os').system('touch CANARY')\n", "the call"),
        ("x = [open('CANARY', 'w') for _ in (1,)]\n", "the expression"),
        ("x = (lambda: open('CANARY', 'w'))()\n", "the call"),
        ("x = f\"{open('CANARY', 'w')}\"\n", "the expression"),
        ("with open('CANARY', 'w'):\n    pass\n", "the statement"),
        ("def f(): pass\n", "the statement"),
        ("x = y\n", "the name 'y'"),
        ("x = {}.fromkeys(range(9))\n", "the call"),
        ("x = 'a' * 10**9\n", "not supported"),
        ("x = 2\n" + "x = x * x\n" * 40, "a number as large"),
        ("x = [1] * 9\n", "arithmetic"),
        ("a = [1, 1]\n" + "a = [a, a]\n" * 60, "expands to more than"),
        ("a = dict(v=1)\n" + "a = dict(v=a, w=a)\n" * 60, "expands to more than"),
        ("x = " + "[" * 5000 + "]" * 5000, "not a Python config file|nested too deeply"),
        ("x = (\n", "not a Python config file"),
        ("_base_ = 'config.py'\n", "circular _base_ reference"),
        ("_base_ = 'absent.py'\n", "absent.py"),
        ("_base_ = ['one.py', 'two.py']\n", "Two bases"),
        ("x = dict(a=1)\nx['b']['c'] = 1\n", "which does not exist"),
        ("x = 1\n", "has no dict 'model'"),
        ("model = dict(backbone=dict(type='ResNet3d'), cls_head=dict())\n", "'ResNet3d'"),
        (
            "model = dict(backbone=dict(type='SwinTransformer3D', depths=3), cls_head=dict())",
            "wrong type",
        ),
        (
            "model = dict(backbone=dict(type='SwinTransformer3D', arch='huge'), cls_head=dict())",
            "Unknown backbone arch 'huge'",
        ),
    ],
)
def test_other_programs_are_refused_and_nothing_runs(tmp_path, monkeypatch, text, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.py").write_text("k = 1\n")
    (tmp_path / "two.py").write_text("k = 2\n")
    config = tmp_path / "config.py"
    config.write_text(text)
    with pytest.raises(vst.VideoSwinError, match=says):
        parse_config(config)
    assert not (tmp_path / "CANARY").exists()


def test_a_pipeline_that_would_change_the_numbers_is_refused(configs):
    name = "swin_tiny_patch244_window877_kinetics400_1k.py"
    text = (configs / name).read_text()
    for old, new, says in (
        ("dict(type='Flip', flip_ratio=0)", "dict(type='ColorJitter')", "ColorJitter"),
        ("scale=(-1, 224)", "scale=(340, 256)", "Resize"),
        ("to_bgr=False", "to_bgr=True", "between RGB and BGR"),
        ("test_mode=True", "out_of_bound_opt='repeat_last'", "out_of_bound_opt"),
    ):
        assert old in text
        (configs / "changed.py").write_text(text.replace(old, new))
        with pytest.raises(vst.ConfigError, match=says):
            bundle_for_testing(configs / "changed.py")
    with pytest.raises(vst.ConfigError, match="no test pipeline"):
        bundle_for_testing(configs / "swin_tiny.py")


@pytest.mark.slow
def test_the_program_of_the_tutorial(configs, monkeypatch):
    """Run as it stands there, on a rebuilt config and an official container."""
    page = Path(__file__).parent.parent / "docs" / "tutorials" / "official-checkpoints.md"
    section = page.read_text(encoding="utf-8").split("## Config files", 1)[1]
    program = section.split("```python\n", 1)[1].split("```", 1)[0]
    monkeypatch.chdir(configs)
    config = Path("swin_base_patch244_window1677_sthv2.py")
    source = VideoSwinTransformer(parse_config(config).bundle)
    state = {"meta": {"epoch": 60}, "state_dict": source.state_dict()}
    torch.save(state, config.with_suffix(".pth"))
    names: dict[str, Any] = {}
    with torch.no_grad():
        exec(compile(program, page.name, "exec"), names)
        recognizer, dummy_x = names["recognizer"], names["dummy_x"]
        mapped = names["backbone"](dummy_x)
        assert mapped.shape == (1, 1024, 16, 7, 7)
        assert torch.equal(recognizer.extract_feat(dummy_x), mapped)
        torch.testing.assert_close(source.eval().forward_features(dummy_x), mapped)
    assert names["feat"].shape == (1, 1024) and names["output"].shape == (1, 512)


@pytest.fixture
def small_pair(configs, tmp_path):
    """A small network with an official config and checkpoint."""
    text = BASE_MODEL.replace("EMBED", "16").replace("DEPTHS", "[1, 1]")
    text = text.replace("HEADS", "[1, 2]").replace("FEATURES", "32")
    (configs / "small_model.py").write_text(text)
    recipe = KINETICS.replace("MODEL", "small_model.py").replace("DROP", "0.1")
    config = configs / "small.py"
    config.write_text(recipe.replace("VIEWS", "4"))
    model = VideoSwinTransformer(
        ModelConfig(embed_dim=16, depths=(1, 1), num_heads=(1, 2), num_classes=400)
    ).eval()
    fill_by_name(model)
    checkpoint = tmp_path / "small.pth"
    torch.save({"state_dict": model.state_dict()}, checkpoint)
    return model, config, checkpoint


@pytest.mark.parametrize("average", ["prob", pytest.param("score", marks=pytest.mark.slow)])
def test_predictor_from_config_and_checkpoint_gives_the_official_scores(small_pair, average):
    model, config, checkpoint = small_pair
    base = config.with_name("small_model.py")
    base.write_text(base.read_text().replace("average_clips='prob'", f"average_clips='{average}'"))
    predictor = vst.Predictor.load(config=config, checkpoint=checkpoint, device="cpu")
    result = predictor.classify(CLIP)
    with vst.VideoReader(CLIP) as video:
        indices = vst.clip_indices(video.num_frames, ClipSampling())
        frames = video.frames_at(indices.ravel()).reshape(4, 32, 176, 176, 3)
    views = torch.from_numpy(vst.views_from_frames(frames, vst.Preprocessing()))
    with torch.inference_mode():
        logits = torch.cat([model(view[None]) for view in views])
    mean = logits.softmax(1).mean(0) if average == "prob" else logits.mean(0).softmax(0)
    assert result.view_scores.shape == (12, 400)
    np.testing.assert_allclose(result.scores, mean, atol=1e-6)


def test_classify_with_config_and_checkpoint(small_pair, capsys):
    _, config, checkpoint = small_pair
    command = ["classify", str(CLIP), "--config", str(config), "--checkpoint", str(checkpoint)]
    assert cli.run([*command, "--views", "1x1", "--json", "--topk", "1"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["model"] == str(checkpoint) and line["labels"][0]["label"].isdigit()
    assert cli.run(command[:4]) == 2
    assert "config and checkpoint must be given together" in capsys.readouterr().err


def test_a_checkpoint_of_another_network_is_refused(small_pair, configs):
    _, _, checkpoint = small_pair
    with pytest.raises(vst.CheckpointError):
        vst.openmmlab.load_recognizer(
            configs / "swin_tiny_patch244_window877_kinetics400_1k.py", checkpoint
        )
