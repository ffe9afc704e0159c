"""Programs that people wrote around the official class, rebuilt and compared with torchvision.

Each wrapper is written from a description of what the public programs do with the class. The same
computation is written a second time on torchvision's blocks, and both are filled from a checkpoint
with the official keys.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.video import SwinTransformer3d

import video_swin_transformer as vst
from tests.containers import (
    OFFICIAL_TINY,
    image_container,
    official_container,
    random_state,
    save,
    torchvision_from_official,
)
from video_swin_transformer import SwinTransformer3D

TINY: dict[str, Any] = {"embed_dim": 12, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]}
WEIGHTS = random_state(OFFICIAL_TINY, shrink=8)  # 12 channels instead of 96


@pytest.fixture
def checkpoint(tmp_path):
    return save(official_container(WEIGHTS), tmp_path / "official.pth")


def torchvision_network(patch=(2, 4, 4), weights=WEIGHTS) -> SwinTransformer3d:
    network = SwinTransformer3d(
        patch_size=list(patch),
        window_size=[8, 7, 7],
        stochastic_depth_prob=0.1,
        num_classes=50,
        **TINY,
    )
    network.load_state_dict(torchvision_from_official(weights))
    return network.eval()


def summed_over_time(weights):
    name = "backbone.patch_embed.proj.weight"
    return {**weights, name: weights[name].sum(dim=2, keepdim=True)}


def torchvision_stages(network: SwinTransformer3d, video: torch.Tensor) -> list[torch.Tensor]:
    """The map of each stage before its patch merging, channel-first."""
    x, maps = network.patch_embed(video), []
    for part in network.features:
        if isinstance(part, nn.Sequential):
            x = part(x)
            maps.append(x.permute(0, 4, 1, 2, 3))
        else:
            x = part(x)
    return maps


def assert_same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


# --- referring video segmentation: MTTR, ReferFormer, SOC, TA-STVG ----------------------------


def per_frame_swin(path) -> SwinTransformer3D:
    """Patches of one frame, filled from the official file with its patch weight summed."""
    swin = SwinTransformer3D(
        patch_size=(1, 4, 4), window_size=(8, 7, 7), drop_path_rate=0.1, patch_norm=True, **TINY
    )
    loaded = torch.load(path, weights_only=False)["state_dict"]
    weights = {key[9:]: tensor for key, tensor in loaded.items() if "backbone." in key}
    patch = weights["patch_embed.proj.weight"]
    weights["patch_embed.proj.weight"] = patch.sum(dim=2, keepdims=True)
    swin.load_state_dict(weights)
    return swin


class SegmentationBackbone(nn.Module):
    """MTTR: takes the parts out of the class and merges patches itself."""

    def __init__(self, path) -> None:
        super().__init__()
        swin = per_frame_swin(path)
        self.patch_embed, self.pos_drop, self.layers = swin.patch_embed, swin.pos_drop, swin.layers
        self.downsamples = nn.ModuleList()
        for layer in self.layers:
            self.downsamples.append(layer.downsample)  # type: ignore[arg-type]
            layer.downsample = None  # type: ignore[assignment]
        self.downsamples[-1] = None  # type: ignore[assignment]

    def forward(self, frames: torch.Tensor) -> list[torch.Tensor]:
        """(T, B, 3, H, W) -> four maps (T * B, C, h, w)."""
        x = self.pos_drop(self.patch_embed(frames.permute(1, 2, 0, 3, 4)))
        maps = []
        for layer, downsample in zip(self.layers, self.downsamples, strict=True):
            x = layer(x.contiguous())
            maps.append(x.permute(2, 0, 1, 3, 4).flatten(0, 1))
            if downsample:
                x = downsample(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)
        return maps


class PyramidBackbone(nn.Module):
    """ReferFormer: keeps the class, and gives each frame's maps with strides and channels."""

    def __init__(self, path) -> None:
        super().__init__()
        self.body = per_frame_swin(path)
        self.merge = [layer.downsample for layer in self.body.layers]
        for layer in self.body.layers:
            layer.downsample = None  # type: ignore[assignment]
        self.num_channels = [12, 24, 48, 96]
        self.strides = [4, 8, 16, 32]

    def forward(self, video: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, T, 3, H, W) -> level to (B * T, C, h, w)."""
        x = self.body.pos_drop(self.body.patch_embed(video.transpose(1, 2)))
        levels = {}
        for number, layer in enumerate(self.body.layers):
            x = layer(x.contiguous())
            batch, channels, depth, height, width = x.shape
            by_frame = x.transpose(1, 2).reshape(batch * depth, channels, height, width)
            levels[str(number)] = by_frame
            if self.merge[number] is not None:
                x = x.permute(0, 2, 3, 4, 1)
                x = self.merge[number](x)
                x = x.permute(0, 4, 1, 2, 3)
        return levels


@pytest.mark.parametrize("size", [(8, 64, 96), (5, 60, 50), (1, 33, 70)], ids=str)
def test_mttr_gets_the_maps_of_torchvision(size, checkpoint):
    frames, height, width = size
    model = SegmentationBackbone(checkpoint).eval()
    video = torch.randn(frames, 2, 3, height, width)
    oracle = torchvision_network((1, 4, 4), summed_over_time(WEIGHTS))
    with torch.no_grad():
        maps = model(video)
        expected = torchvision_stages(oracle, video.permute(1, 2, 0, 3, 4))
    assert len(maps) == 4
    for ours, theirs in zip(maps, expected, strict=True):
        assert theirs.shape[2] == frames  # as many time steps as frames
        assert_same(ours, theirs.permute(2, 0, 1, 3, 4).flatten(0, 1))


def test_referformer_gets_the_maps_of_torchvision(checkpoint):
    model = PyramidBackbone(checkpoint).eval()
    video = torch.randn(2, 5, 3, 64, 60)
    oracle = torchvision_network((1, 4, 4), summed_over_time(WEIGHTS))
    with torch.no_grad():
        levels = model(video)
        expected = torchvision_stages(oracle, video.transpose(1, 2))
    for number, theirs in enumerate(expected):
        ours = levels[str(number)]
        assert ours.shape[1] == model.num_channels[number]
        assert ours.shape[2] == -(-64 // model.strides[number])
        assert_same(ours, theirs.transpose(1, 2).flatten(0, 1))


def test_the_wrappers_train(checkpoint):
    model = SegmentationBackbone(checkpoint).train()
    sum(one.mean() for one in model(torch.randn(3, 1, 3, 32, 32))).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_loader_sums_over_time_if_asked(checkpoint):
    config = vst.ModelConfig(embed_dim=12, patch_size=(1, 4, 4), num_classes=50)
    with pytest.raises(vst.CheckpointError, match=r'allow=\{"patch_time"\}'):
        vst.load_checkpoint(checkpoint, architecture=config)
    model, report = vst.load_checkpoint(checkpoint, architecture=config, allow={"patch_time"})
    assert report.adaptations == ("patch_time: patch summed over its 2 frames",)
    video = torch.randn(1, 3, 6, 64, 64)
    oracle = torchvision_network((1, 4, 4), summed_over_time(WEIGHTS))
    with torch.no_grad():
        assert_same(model(video), oracle(video))


def test_weights_for_two_frames_never_load_into_patches_of_one(checkpoint):
    swin = SwinTransformer3D(None, False, (1, 4, 4), window_size=(8, 7, 7), patch_norm=True, **TINY)
    weights = {k[9:]: t for k, t in WEIGHTS.items() if k.startswith("backbone.")}
    with pytest.raises(RuntimeError, match=r"patch_embed\.proj\.weight"):
        swin.load_state_dict(weights, strict=False)
    with pytest.raises(vst.CheckpointError, match=r"patch_embed\.proj\.weight.*patch_time"):
        swin.init_weights(checkpoint)


# --- video and language: VIOLET, LAVENDER, VALOR, Clover --------------------------------------


@pytest.mark.parametrize("frames", [1, 4, 5])
def test_violet_has_as_many_time_steps_as_frames(frames, checkpoint):
    model = SwinTransformer3D(
        pretrained2d=False,
        patch_size=(2, 4, 4),
        patch_stride=(1, 4, 4),
        window_size=(8, 7, 7),
        patch_norm=True,
        **TINY,
    ).eval()
    model.init_weights(str(checkpoint))
    oracle = torchvision_network()
    video = torch.randn(2, 3, frames, 64, 60)
    with torch.no_grad():
        out = model(video)
        padded = nn.functional.pad(video, (0, 0, 0, 0, 0, 1))
        oracle.patch_embed.proj.stride = (1, 4, 4)
        x = oracle.patch_embed.norm(oracle.patch_embed.proj(padded).permute(0, 2, 3, 4, 1))
        expected = oracle.norm(oracle.features(x)).permute(0, 4, 1, 2, 3)
    assert out.shape[2] == frames
    assert_same(out, expected)


def test_a_saved_stride_is_kept_and_never_ignored(tmp_path):
    config = vst.ModelConfig(
        embed_dim=12, depths=(1,), num_heads=(2,), patch_stride=(1, 4, 4), num_classes=0
    )
    model = vst.VideoSwinTransformer(config).eval()
    model.save_pretrained(tmp_path / "model")
    again, _ = vst.load_checkpoint(tmp_path / "model")
    video = torch.rand(1, 3, 5, 16, 16)
    assert again.config == config and again.forward_features(video).shape[2] == 5
    with torch.no_grad():
        assert torch.equal(again(video), model(video))
    plain = vst.ModelConfig(embed_dim=12, depths=(1,), num_heads=(2,), num_classes=0)
    with pytest.raises(vst.CheckpointError, match=r"saved with patch_stride \(1, 4, 4\), not None"):
        vst.load_checkpoint(tmp_path / "model", architecture=plain)


# --- repetition counting: TransRAC ------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 4, 8])
def test_transrac_feeds_short_clips_to_the_backbone_of_a_recognizer(frames, checkpoint, tmp_path):
    config = tmp_path / "tiny.py"
    backbone = dict(TINY, type="SwinTransformer3D", patch_size=(2, 4, 4), window_size=(8, 7, 7))
    backbone["patch_norm"] = True
    config.write_text(
        f"model = dict(type='Recognizer3D', backbone={backbone!r}, "
        "cls_head=dict(type='I3DHead', in_channels=96, num_classes=50))"
    )
    backbone = vst.openmmlab.load_recognizer(config, checkpoint).backbone  # type: ignore[assignment]
    video = torch.randn(1, 3, frames, 64, 64)
    oracle = torchvision_network()
    with torch.no_grad():
        expected = oracle.norm(oracle.features(oracle.patch_embed(video)))
        out = backbone(video)
    assert out.shape[2] == -(-frames // 2)
    assert_same(out, expected.permute(0, 4, 1, 2, 3))


# --- captioning: SwinBERT, ADAPT --------------------------------------------------------------


@pytest.fixture
def image_checkpoint(tmp_path):
    weights = random_state("torchvision_image_swin_t", shrink=8)
    return save(image_container("microsoft", weights), tmp_path / "image.pth")


def swinbert(pretrained, pretrained2d) -> SwinTransformer3D:
    return SwinTransformer3D(
        pretrained=pretrained,
        pretrained2d=pretrained2d,
        patch_size=(2, 4, 4),
        in_chans=3,
        embed_dim=12,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=(8, 7, 7),
        mlp_ratio=4.0,
        qkv_bias=True,
        qk_scale=None,
        drop_rate=0.0,
        attn_drop_rate=0.0,
        drop_path_rate=0.2,
        norm_layer=nn.LayerNorm,
        patch_norm=True,
        frozen_stages=-1,
        use_checkpoint=False,
    )


def test_swinbert_reads_the_width_of_the_norm_and_loads_without_strict(checkpoint):
    model = swinbert(None, False)
    loaded = torch.load(checkpoint, weights_only=False)["state_dict"]
    weights = {k.removeprefix("backbone."): t for k, t in loaded.items()}
    result = model.load_state_dict(weights, strict=False)
    assert not result.missing_keys
    assert set(result.unexpected_keys) == {"cls_head.fc_cls.weight", "cls_head.fc_cls.bias"}
    assert model.norm.normalized_shape == (96,)


def test_pretrained_video_weights_are_loaded_by_init_weights(checkpoint):
    model = swinbert(str(checkpoint), pretrained2d=False)
    before = model.state_dict()["norm.weight"]
    assert not torch.equal(before, WEIGHTS["backbone.norm.weight"])  # not loaded yet
    report = model.init_weights()
    assert report.is_complete and report.config.num_classes == 0
    assert report.adaptations == ("head: dropped the classifier of 50 classes; no classifier",)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, WEIGHTS[f"backbone.{name}"]), name


def test_pretrained_image_weights_are_inflated_by_init_weights(image_checkpoint):
    model = swinbert(str(image_checkpoint), pretrained2d=True)
    report = model.init_weights()
    assert report.is_complete and report.adaptations[0].startswith("inflate: image weights")
    expected, _ = vst.load_checkpoint(image_checkpoint, num_classes=0, allow={"inflate", "head"})
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[f"backbone.{name}"]), name


def test_init_weights_takes_a_path_or_a_name_of_its_own(checkpoint):
    model = swinbert(None, pretrained2d=False)
    assert model.init_weights() is None
    assert model.init_weights(checkpoint).is_complete and model.pretrained == checkpoint
    nano = SwinTransformer3D(
        "camera-motion", False, (4, 8, 8), 3, 96, (2, 2), (3, 6), (8, 7, 7), patch_norm=True
    )
    assert nano.init_weights().architecture == "swin_nano_patch488_window877"
    shipped = vst.create_model("camera-motion", pretrained=True).backbone
    assert torch.equal(nano.norm.weight, shipped.norm.weight)  # type: ignore[arg-type]


def test_pretrained_weights_are_strict(checkpoint, image_checkpoint):
    wide = SwinTransformer3D(str(checkpoint), False, (2, 4, 4), window_size=(16, 7, 7), **TINY)
    with pytest.raises(vst.CheckpointError, match=r"unexpected.*patch_embed\.norm"):
        wide.init_weights()
    with pytest.raises(vst.CheckpointError, match="pass pretrained2d=False"):
        swinbert(str(checkpoint), pretrained2d=True).init_weights()
    with pytest.raises(vst.CheckpointError, match="pass pretrained2d=True"):
        swinbert(str(image_checkpoint), pretrained2d=False).init_weights()
    with pytest.raises(vst.CheckpointError, match="no file or folder"):
        swinbert("absent.pth", pretrained2d=False).init_weights()


def test_init_weights_accepts_named_differences(checkpoint):
    model = SwinTransformer3D(
        None, False, (1, 4, 4), window_size=(16, 7, 7), patch_norm=True, **TINY
    )
    report = model.init_weights(checkpoint, allow={"patch_time", "window"})
    assert len(report.adaptations) == 3
    patch = WEIGHTS["backbone.patch_embed.proj.weight"].sum(dim=2, keepdim=True)
    assert torch.equal(model.patch_embed.proj.weight, patch)
    with pytest.raises(vst.UnknownNameError, match="patch_time"):
        model.init_weights(checkpoint, allow={"patch_tim"})
