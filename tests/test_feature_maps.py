"""Feature maps of several stages: timm's `features_only`, mmaction2's `out_indices`, a detector."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import video_swin_transformer as vst
from benchmarks.peers import torchvision_twin
from tests.containers import OFFICIAL_TINY, mmaction2_container, random_state, save
from tests.oracle import fill_by_name
from tests.test_programs import assert_same, torchvision_stages
from video_swin_transformer import SwinTransformer3D
from video_swin_transformer.model import VideoSwinFeatures

SMALL: dict[str, Any] = {"embed_dim": 12, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)}
VIDEO = torch.randn(1, 3, 6, 64, 60, generator=torch.Generator().manual_seed(0))


def small(**settings) -> vst.VideoSwinTransformer:
    model = vst.VideoSwinTransformer(vst.ModelConfig(**SMALL, num_classes=5, **settings)).eval()
    fill_by_name(model)
    return model


# --- timm's features_only ---------------------------------------------------------------------


def test_features_only_gives_the_maps_of_torchvision():
    model = small()
    expected = torchvision_stages(torchvision_twin(model), VIDEO)
    features = VideoSwinFeatures(model, (0, 1, 2, 3))
    with torch.no_grad():
        maps = features(VIDEO)
    assert isinstance(maps, list) and len(maps) == 4
    for ours, theirs in zip(maps, expected, strict=True):
        assert_same(ours, theirs)
    info = features.feature_info
    assert info.channels() == [one.shape[1] for one in maps] == [12, 24, 48, 96]
    assert info.reduction() == [4, 8, 16, 32] and info.time_reduction() == [2, 2, 2, 2]
    assert info.module_name()[1] == "layers.1" and info.out_indices == (0, 1, 2, 3)
    assert info.get_dicts()[2] == {
        "index": 2,
        "num_chs": 48,
        "reduction": 16,
        "time_reduction": 2,
        "module": "layers.2",
    }
    assert info[0].num_chs == 12 and len(info) == 4


def test_create_model_builds_features_of_some_stages_without_unused_parameters():
    features = vst.create_model("swin-nano", features_only=True, out_indices=(0,))
    assert isinstance(features, VideoSwinFeatures) and features.training
    (first,) = features(torch.rand(2, 3, 8, 64, 64))
    assert first.shape == (2, 96, 2, 8, 8) and features.feature_info.reduction() == [8]
    first.sum().backward()
    assert all(p.grad is not None for p in features.parameters())
    both = vst.create_model("swin-nano", features_only=True)
    assert both.feature_info.channels() == [96, 192]
    last = vst.create_model("swin-nano", features_only=True, out_indices=[-1])
    assert last.feature_info.channels() == [192]


def test_pretrained_features_equal_the_intermediate_maps():
    features = vst.create_model("camera-motion", pretrained=True, features_only=True)
    assert not features.training
    model = vst.create_model("camera-motion", pretrained=True)
    clip = torch.rand(1, 3, 8, 112, 112)
    with torch.no_grad():
        expected = model.forward_intermediates(clip, [0, 1])
        for stage, ours in enumerate(features(clip)):
            assert torch.equal(ours, expected[stage])


def test_pretrained_patches_of_one_frame_are_summed():
    features = vst.create_model(
        "camera-motion", pretrained=True, features_only=True, patch_size=(1, 8, 8)
    )
    assert features.feature_info.time_reduction() == [1, 1]
    with torch.no_grad():
        assert features(torch.rand(1, 3, 8, 64, 64))[1].shape == (1, 192, 8, 4, 4)
    patch = vst.create_model("camera-motion", pretrained=True).backbone.patch_embed.proj.weight
    assert torch.equal(features.backbone.patch_embed.proj.weight, patch.sum(2, keepdim=True))
    with pytest.raises(vst.CheckpointError, match=r"patch_embed\.proj\.weight"):
        vst.create_model("camera-motion", pretrained=True, patch_size=(2, 8, 8))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"features_only": True, "num_classes": 3}, "features_only is True with num_classes 3"),
        ({"out_indices": (0, 1)}, "applies to features_only=True"),
        ({"features_only": True, "out_indices": (0, 2)}, "must name stages from 0 to 1"),
        ({"features_only": True, "out_indices": (1, -1)}, "each once"),
        ({"global_pool": ""}, "num_classes=0"),
        ({"global_pool": "max", "num_classes": 0}, "global_pool is 'max'"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(settings, says):
    with pytest.raises(vst.ConfigError, match=says):
        vst.create_model("swin-nano", **settings)


def test_patches_of_one_frame_with_summed_weights_match_torchvision(tmp_path):
    weights = random_state(OFFICIAL_TINY, shrink=8)
    path = save(mmaction2_container(weights), tmp_path / "mmaction2.pth")
    config = vst.ModelConfig(**SMALL, patch_size=(1, 4, 4), num_classes=50)
    model, _ = vst.load_checkpoint(path, architecture=config, allow={"patch_time"})
    expected = torchvision_stages(torchvision_twin(model), VIDEO)
    with torch.no_grad():
        for ours, theirs in zip(VideoSwinFeatures(model, range(4))(VIDEO), expected, strict=True):
            assert ours.shape[2] == 6
            assert_same(ours, theirs)


# --- mmaction2's out_indices ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "shapes"),
    [
        (False, [(96, 3, 16, 16), (192, 3, 8, 8), (384, 3, 4, 4), (768, 3, 2, 2)]),
        (True, [(192, 3, 8, 8), (384, 3, 4, 4), (768, 3, 2, 2), (768, 3, 2, 2)]),
    ],
    ids=["before merging", "after merging"],
)
def test_all_stages_have_the_shapes_of_mmaction2(after, shapes):
    model = SwinTransformer3D(
        patch_size=(2, 4, 4),
        window_size=(8, 7, 7),
        patch_norm=True,
        out_indices=(0, 1, 2, 3),
        out_after_downsample=after,
    )
    with torch.no_grad():
        maps = model(torch.rand(1, 3, 5, 63, 63))
    assert isinstance(maps, tuple)
    assert [tuple(one.shape) for one in maps] == [(1, *shape) for shape in shapes]
    assert model.feature_info.channels() == [shape[0] for shape in shapes]
    assert [getattr(model, f"norm{i}").normalized_shape[0] for i in range(4)] == [
        shape[0] for shape in shapes
    ]
    assert not hasattr(model, "norm")


@pytest.mark.parametrize("after", [False, True])
def test_output_stages_equal_normalized_torchvision_maps(after):
    model = small()
    twin = torchvision_twin(model)
    multi = SwinTransformer3D(
        patch_size=(2, 4, 4),
        window_size=(8, 7, 7),
        patch_norm=True,
        out_indices=(1, 3),
        out_after_downsample=after,
        **SMALL,
    ).eval()
    weights = model.backbone.state_dict()
    result = multi.load_state_dict(weights, strict=False)
    assert set(result.missing_keys) == {"norm1.weight", "norm1.bias"}
    assert not result.unexpected_keys  # `norm` is known as `norm3`
    assert torch.equal(multi.norm3.weight, weights["norm.weight"])  # type: ignore[arg-type]
    x, expected = twin.patch_embed(VIDEO), []
    for number, part in enumerate(twin.features):
        x = part(x)
        if number == (3 if after else 2):
            expected.append(F.layer_norm(x, x.shape[-1:]))
    expected.append(twin.norm(x))
    with torch.no_grad():
        for ours, theirs in zip(multi(VIDEO), expected, strict=True):
            assert_same(ours, theirs.permute(0, 4, 1, 2, 3))


def test_one_output_stage_is_a_tensor_and_later_stages_are_not_computed():
    model = SwinTransformer3D(out_indices=(1,), **SMALL)
    model.layers[2].register_forward_hook(lambda *_: pytest.fail("stage 2 was computed"))
    assert model(VIDEO).shape == (1, 24, 2, 8, 8)


def test_either_name_of_the_last_norm_loads_strictly():
    official = SwinTransformer3D(**SMALL)
    mmaction2 = SwinTransformer3D(out_indices=(3,), **SMALL)
    mmaction2.load_state_dict(official.state_dict())
    assert "norm3.weight" in mmaction2.state_dict()
    official.load_state_dict(mmaction2.state_dict())
    with torch.no_grad():
        assert torch.equal(official.eval()(VIDEO), mmaction2.eval()(VIDEO))


def test_pretrained_weights_fill_a_backbone_with_several_outputs(tmp_path):
    weights = random_state(OFFICIAL_TINY, shrink=8)
    path = save(mmaction2_container(weights), tmp_path / "mmaction2.pth")
    settings = {"patch_size": (2, 4, 4), "window_size": (8, 7, 7), "patch_norm": True, **SMALL}
    multi = SwinTransformer3D(path, False, out_indices=(0, 3), **settings)
    report = multi.init_weights()
    assert report.adaptations[-1] == "new norms of other stages: norm0"
    assert torch.equal(multi.norm3.weight, weights["backbone.norm.weight"])  # type: ignore[arg-type]
    early = SwinTransformer3D(path, False, out_indices=(0, 1), **settings)
    early.init_weights()
    assert torch.equal(
        early.layers[0].blocks[0].norm1.weight, weights["backbone.layers.0.blocks.0.norm1.weight"]
    )


def test_intermediates_are_normalized_where_there_is_a_norm():
    model = small()
    with torch.no_grad():
        raw = model.forward_intermediates(VIDEO, [0, 3])
        normed = model.forward_intermediates(VIDEO, [0, 3], norm=True)
        assert torch.equal(normed[0], raw[0])
        assert torch.equal(normed[3], model.forward_features(VIDEO))
        multi = SwinTransformer3D(out_indices=(0, 3), **SMALL).eval()
        maps = multi.forward_intermediates(VIDEO, [0, 3], norm=True)
        for ours, theirs in zip(multi(VIDEO), maps.values(), strict=True):
            assert torch.equal(ours, theirs)
    merged = SwinTransformer3D(out_indices=(0,), out_after_downsample=True, **SMALL)
    with pytest.raises(vst.ConfigError, match="norm is True, but must be False"):
        merged.forward_intermediates(VIDEO, [0], norm=True)


# --- under checkpointing, export and compilation ----------------------------------------------


def outputs_of(kind: str) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"embed_dim": 12, "depths": (2, 1, 1), "num_heads": (3, 6, 12)}
    if kind == "features":
        model = vst.VideoSwinTransformer(vst.ModelConfig(**sizes, num_classes=0))  # type: ignore[arg-type]
        return VideoSwinFeatures(model.eval(), (0, 2))
    return SwinTransformer3D(
        out_indices=(0, 2),
        out_after_downsample=kind == "after",
        patch_norm=True,
        **sizes,  # type: ignore[arg-type]
    ).eval()


@pytest.mark.parametrize("kind", ["features", "before", "after"])
def test_several_outputs_can_be_exported_and_compiled(kind):
    model = outputs_of(kind)
    with torch.no_grad():
        expected = model(VIDEO)
        exported = torch.export.export(model, (VIDEO,)).module()(VIDEO)
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)(VIDEO)
    for found in (exported, compiled):
        assert type(found) is type(expected)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["features", "before", "after"])
def test_several_outputs_have_the_same_gradients_under_checkpointing(kind):
    model = outputs_of(kind).train()
    for module in model.modules():
        if hasattr(module, "rate"):
            module.rate = 0.0  # type: ignore[assignment]
    grads = []
    for enable in (False, True):
        (model if kind != "features" else model.backbone).use_checkpoint = enable
        model.zero_grad()
        sum(one.square().mean() for one in model(VIDEO)).backward()
        grads.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, plain in grads[0].items():
        torch.testing.assert_close(plain, grads[1][name])


# --- a detector -------------------------------------------------------------------------------


class PyramidHead(nn.Module):
    """Feature pyramid over four stages, and a score and a box for each place of each level."""

    def __init__(self, channels: list[int], width: int = 16) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv3d(c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(nn.Conv3d(width, width, 3, padding=1) for _ in channels)
        self.score, self.box = nn.Conv3d(width, 1, 1), nn.Conv3d(width, 4, 1)

    def forward(self, maps: list[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        levels = [lateral(one) for lateral, one in zip(self.lateral, maps, strict=True)]
        for fine in range(len(levels) - 2, -1, -1):
            levels[fine] = levels[fine] + F.interpolate(levels[fine + 1], levels[fine].shape[2:])
        smoothed = [smooth(one) for smooth, one in zip(self.smooth, levels, strict=True)]
        return [(self.score(one), self.box(one)) for one in smoothed]


class Detector(nn.Module):
    def __init__(self, backbone: VideoSwinFeatures) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = PyramidHead(backbone.feature_info.channels())

    def forward(self, video: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Loss of the scores against a mask (B, 1, T, H, W), and of the boxes where it is 1."""
        loss = video.new_zeros(())
        for score, box in self.head(self.backbone(video)):
            expected = F.adaptive_max_pool3d(target, score.shape[2:])
            loss = loss + F.binary_cross_entropy_with_logits(score, expected)
            loss = (
                loss
                + (F.smooth_l1_loss(box, torch.ones_like(box), reduction="none") * expected).mean()
            )
        return loss


def test_a_detector_with_frozen_stages_and_checkpointing_trains():
    torch.manual_seed(0)
    backbone = VideoSwinFeatures(
        vst.VideoSwinTransformer(vst.ModelConfig(**SMALL, drop_path_rate=0.0)), range(4)
    )
    backbone.freeze_stages(1)
    backbone.set_grad_checkpointing()
    model = Detector(backbone).train()
    frozen = {n for n, p in backbone.named_parameters() if not p.requires_grad}
    assert any(n.startswith("backbone.layers.0.") for n in frozen)
    assert not any(n.startswith("backbone.layers.1.") for n in frozen)
    before = {n: p.detach().clone() for n, p in backbone.named_parameters()}
    video, target = torch.randn(2, 3, 4, 64, 64), torch.zeros(2, 1, 2, 16, 16)
    target[:, :, :, 4:9, 5:12] = 1
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(6):
        loss = model(video, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert not backbone.backbone.layers[0].training and backbone.backbone.layers[1].training
    for name, parameter in backbone.named_parameters():
        assert torch.equal(parameter, before[name]) == (name in frozen), name


def test_stages_can_be_thawed_and_wrong_numbers_are_refused():
    backbone = SwinTransformer3D(frozen_stages=2, **SMALL)
    backbone.freeze_stages(-1)
    assert all(p.requires_grad for p in backbone.parameters()) and backbone.layers[0].training
    with pytest.raises(vst.ConfigError, match="frozen_stages is 5, but must be from -1"):
        backbone.freeze_stages(5)


# --- names that timm and torchvision use ------------------------------------------------------


def test_without_pooling_the_output_is_the_feature_map(tmp_path):
    model = vst.create_model("swin-nano", num_classes=0, global_pool="").eval()
    clip = torch.rand(1, 3, 8, 64, 64)
    with torch.no_grad():
        assert model(clip).shape == (1, 192, 2, 4, 4)
        assert torch.equal(model(clip), model.forward_features(clip))
        model.save_pretrained(tmp_path)
        again = vst.VideoSwinTransformer.from_pretrained(tmp_path)
        assert torch.equal(again(clip), model(clip))
        model.reset_classifier(3, "avg", labels=["a", "b", "c"])
        assert model(clip).shape == (1, 3) and model.bundle.labels == ("a", "b", "c")
        model.reset_classifier(0, "")
        assert model(clip).ndim == 5
        logits, features = model.logits_and_features(clip)
        assert torch.equal(logits, features), "pooled all the same"
        assert torch.equal(features, model(clip).mean(dim=(2, 3, 4)))
    with pytest.raises(vst.ConfigError, match="global_pool"):
        model.reset_classifier(4)


def test_the_head_can_be_read_and_replaced():
    model = vst.create_model("camera-motion", pretrained=True)
    assert model.head is model.get_classifier()
    model.head = nn.Linear(model.head.in_features, 4)  # type: ignore[arg-type]
    assert model.num_classes == 4 and model.bundle.labels == ()
    assert model(torch.rand(1, 3, 8, 56, 56)).shape == (1, 4)
    assert sorted(n for n in model.state_dict() if "fc_cls" in n) == [
        "cls_head.fc_cls.bias",
        "cls_head.fc_cls.weight",
    ]
    model.head = nn.Identity()
    assert model.num_classes == 0 and model(torch.rand(1, 3, 8, 56, 56)).shape == (1, 192)
    for wrong in (nn.Linear(5, 2), nn.Sequential(nn.Linear(192, 2)), None):
        with pytest.raises(vst.ConfigError, match="in_features=192"):
            model.head = wrong  # type: ignore[assignment]


def test_the_configuration_has_the_keys_of_timm():
    model = vst.create_model("camera-motion", pretrained=True)
    assert model.default_cfg == model.pretrained_cfg
    cfg = model.pretrained_cfg
    assert cfg["input_size"] == (3, 8, 112, 112) and cfg["num_classes"] == 10
    assert cfg["mean"] == pytest.approx((0.485, 0.456, 0.406))
    assert model.get_submodule(cfg["classifier"]) is model.head
    assert isinstance(model.get_submodule(cfg["first_conv"]), nn.Conv3d)
    assert model.feature_info.channels() == [96, 192]
