"""Behavior of the networks beyond their numbers: habits, errors, memory of past shapes."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import pickle

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from tests.oracle import fill_by_name, input_by_shape, reference
from video_swin_transformer import layers
from video_swin_transformer.config import ModelConfig
from video_swin_transformer.errors import ConfigError
from video_swin_transformer.layers import WindowAttention3D
from video_swin_transformer.model import SwinTransformer3D, VideoSwinTransformer
from video_swin_transformer.weights import create_model
from video_swin_transformer.windows import (
    MAX_CACHED_PLANS,
    _cached_plan,
    clip_window_to_grid,
    layout_to_tensors,
    masked_layout,
    plan_windows,
    relative_position_index,
)

TINY = ModelConfig(embed_dim=16, depths=(2, 2), num_heads=(1, 2), num_classes=5)
SHAPE = (2, 3, 18, 64, 60)  # shifted, padded windows


def tiny() -> VideoSwinTransformer:
    model = VideoSwinTransformer(TINY).eval()
    fill_by_name(model)
    return model


def fresh_output(model: VideoSwinTransformer, x: torch.Tensor) -> torch.Tensor:
    """What a network without any memory gives for the same weights."""
    other = VideoSwinTransformer(model.config).eval().to(next(model.parameters()).dtype)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        return other(x)


# --- programs written for the single-file copy ------------------------------------------------


def test_default_constructor_on_the_readme_input():
    model = SwinTransformer3D()
    with torch.no_grad():
        assert model(torch.rand(1, 3, 32, 224, 224)).shape == (1, 768, 8, 7, 7)


def test_base_window16_is_filled_by_an_official_checkpoint_without_backbone_prefix():
    listed = reference("official_swin_base_patch244_window1677_sthv2")
    checkpoint = {}
    for name, shape in listed.items():
        if name.startswith("backbone."):
            integer = shape and isinstance(shape[-1], str)
            tensor = torch.zeros(shape[:-1], dtype=torch.int64) if integer else torch.zeros(shape)
            checkpoint[name.removeprefix("backbone.")] = tensor
    assert any(name.endswith("relative_position_index") for name in checkpoint)
    model = SwinTransformer3D(
        embed_dim=128,
        depths=[2, 2, 18, 2],
        num_heads=[4, 8, 16, 32],
        patch_size=(2, 4, 4),
        window_size=(16, 7, 7),
        drop_path_rate=0.4,
        patch_norm=True,
    )
    before = len(checkpoint)
    result = model.load_state_dict(checkpoint)
    assert not result.missing_keys and not result.unexpected_keys
    assert len(checkpoint) == before  # the caller's dict is not touched
    assert all(not p.any() for p in model.parameters())


def test_state_dict_has_the_official_names_without_derived_buffers():
    listed = reference("official_swin_tiny_patch244_window877_kinetics400_1k")
    model = VideoSwinTransformer(ModelConfig())
    ours = {name: list(t.shape) for name, t in model.state_dict().items()}
    theirs = {n: s for n, s in listed.items() if not n.endswith("relative_position_index")}
    assert ours == theirs


def test_strict_loading_still_refuses_anything_else():
    model = tiny()
    weights = model.state_dict()
    weights["backbone.layers.0.blocks.0.attn.surprise"] = torch.zeros(1)
    with pytest.raises(RuntimeError, match="surprise"):
        model.load_state_dict(weights)


def test_eval_and_train_return_the_model():
    backbone = SwinTransformer3D(embed_dim=16, depths=[1], num_heads=[1])
    assert backbone.eval() is backbone
    assert backbone.train() is backbone


# --- habits of timm ---------------------------------------------------------------------------


def test_head_features_and_classifier():
    model = tiny()
    x = input_by_shape(SHAPE)
    features = model.forward_features(x)
    assert features.shape == (2, 32, 9, 8, 8)
    pooled = model.forward_head(features, pre_logits=True)
    torch.testing.assert_close(pooled, features.mean((2, 3, 4)))
    torch.testing.assert_close(model.forward_head(features), model.get_classifier()(pooled))
    model.reset_classifier(3)
    assert model(x).shape == (2, 3) and model.num_classes == 3
    model.reset_classifier(0)
    torch.testing.assert_close(model(x), pooled)
    assert model.num_features == 32


def test_reset_classifier_keeps_dtype_and_mode():
    model = tiny().to(torch.bfloat16)
    model.reset_classifier(4)
    assert model.get_classifier().weight.dtype == torch.bfloat16
    assert not model.cls_head.training


def test_intermediate_stages():
    model = tiny()
    x = input_by_shape(SHAPE)
    maps = model.forward_intermediates(x, [0, 1])
    assert {stage: tuple(m.shape) for stage, m in maps.items()} == {
        0: (2, 16, 9, 16, 15),
        1: (2, 32, 9, 8, 8),
    }
    last = model.backbone.norm(maps[1].permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)
    torch.testing.assert_close(last, model.forward_features(x))
    assert list(model.forward_intermediates(x, [0])) == [0]
    with pytest.raises(ConfigError, match="from 0 to 1"):
        model.forward_intermediates(x, [2])


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels(channels):
    model = VideoSwinTransformer(
        ModelConfig(embed_dim=16, depths=(1,), num_heads=(1,), in_chans=channels, num_classes=2)
    )
    assert model(torch.rand(1, channels, 3, 20, 20)).shape == (1, 2)


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    from video_swin_transformer.layers import DropPath

    drop = DropPath(0.25).train()
    torch.manual_seed(0)
    out = drop(torch.ones(4000, 3, 2))
    kept = out[:, 0, 0] != 0
    assert torch.equal(out, torch.where(kept[:, None, None], 4 / 3, 0.0).expand_as(out))
    assert out.mean().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("frozen", "parts"), [(-1, 0), (0, 1), (1, 3), (2, 4)])
def test_frozen_stages(frozen, parts):
    model = VideoSwinTransformer(TINY, frozen_stages=frozen).train()
    b = model.backbone
    modules = [b.patch_embed, b.pos_drop, b.layers[0], b.layers[1]][:parts]
    for module in modules:
        assert not module.training
        assert all(not p.requires_grad for p in module.parameters())
    assert b.norm.weight.requires_grad
    assert model.cls_head.training
    model(torch.rand(1, 3, 4, 32, 32)).sum().backward()
    assert model.cls_head.fc_cls.weight.grad is not None


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"num_heads": [3, 6, 12, 20]}, r"num_heads\[3\] is 20"),
        ({"depths": [2, 2]}, "num_heads"),
        ({"window_size": 7}, "window_size is 7"),
        ({"patch_size": (2, 4)}, "patch_size"),
        ({"embed_dim": 0}, "embed_dim is 0"),
        ({"drop_path_rate": 1.5}, "drop_path_rate is 1.5"),
        ({"frozen_stages": 9}, "frozen_stages is 9, but must be from -1"),
        ({"pretrained": 7}, "pretrained is 7"),
        (
            {"patch_stride": (5, 4, 4)},
            r"patch_stride is \(5, 4, 4\), but must be at most patch_size",
        ),
    ],
)
def test_wrong_constructor_arguments_are_named(kwargs, says):
    with pytest.raises(ConfigError, match=says):
        SwinTransformer3D(**kwargs)


@pytest.mark.parametrize("shape", [(3, 8, 32, 32), (1, 8, 3, 32, 32), (1, 3, 0, 32, 32)])
def test_wrong_input_shapes_are_named(shape):
    with pytest.raises(ConfigError, match=r"must be \(batch, 3 channels, frames, height, width"):
        tiny()(torch.rand(shape))


def test_the_backbone_gets_every_field_but_those_of_the_head():
    config = ModelConfig(
        embed_dim=12,
        depths=(1, 2),
        num_heads=(2, 3),
        patch_size=(4, 8, 8),
        patch_stride=(2, 4, 4),
        window_size=(4, 3, 5),
        mlp_ratio=2.0,
        qkv_bias=False,
        qk_scale=0.5,
        patch_norm=False,
        in_chans=2,
        drop_rate=0.1,
        attn_drop_rate=0.2,
        drop_path_rate=0.4,
        num_classes=5,
        head_drop_rate=0.3,
    )
    defaults = ModelConfig(num_classes=0)
    for field in dataclasses.fields(ModelConfig):
        if field.name != "global_pool":
            assert getattr(config, field.name) != getattr(defaults, field.name), field.name
    expected = dataclasses.replace(config, num_classes=0, head_drop_rate=defaults.head_drop_rate)
    assert VideoSwinTransformer(config).backbone.config == expected


# --- windows ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "window", "used", "shift"),
    [  # reference 1.4
        ((16, 7, 7), (8, 7, 7), (8, 7, 7), (4, 0, 0)),
        ((16, 56, 56), (16, 7, 7), (16, 7, 7), (0, 3, 3)),
        ((4, 14, 14), (8, 7, 7), (4, 7, 7), (0, 3, 3)),
    ],
)
def test_clipping_rule(grid, window, used, shift):
    assert clip_window_to_grid(grid, window, tuple(w // 2 for w in window)) == (used, shift)


def test_bias_index_is_that_of_the_reference():
    plan = plan_windows((8, 7, 7), (8, 7, 7), (0, 0, 0), torch.device("cpu"))
    (index,) = plan.bias_indices
    assert index.shape == (392, 392)
    assert index[0, 0] == 1267 and index[0, -1] == 0 and index[-1, 0] == 2534


def test_region_shapes_do_not_grow_with_the_number_of_windows():
    kinds = []
    for side in (21, 56, 112):
        plan = plan_windows((16, side, side), (8, 7, 7), (4, 3, 3), torch.device("cpu"))
        kinds.append(sorted(len(index) for index in plan.bias_indices))
        assert sum(plan.group_counts) == 3 * (side // 7 + 1) ** 2
        assert len(plan.gather) == 16 * side * side
    assert kinds[0] == kinds[1] == kinds[2] and len(kinds[0]) == 18 and kinds[0][-1] == 392


@pytest.mark.parametrize(
    ("grid", "window", "shift"),
    [
        pytest.param((16, 14, 14), (8, 7, 7), (4, 3, 3), marks=pytest.mark.slow),
        pytest.param((9, 15, 10), (8, 7, 7), (4, 3, 3), marks=pytest.mark.slow),  # padded
        ((5, 9, 8), (4, 5, 5), (2, 2, 2)),  # padded
        ((16, 5, 14), (8, 7, 7), (4, 3, 3)),  # clipped in space: the quirk
        ((4, 14, 14), (16, 7, 7), (8, 3, 3)),
    ],
)
def test_regions_are_those_of_the_official_mask(grid, window, shift):
    """Against the official construction: pad, roll, partition, and regions numbered apart."""
    used, used_shift = clip_window_to_grid(grid, window, shift)
    padded = [-(-g // w) * w for g, w in zip(grid, used, strict=True)]
    token = torch.full(padded, -1)
    token[: grid[0], : grid[1], : grid[2]] = torch.arange(math.prod(grid)).view(grid)
    region = torch.zeros(padded, dtype=torch.int64)
    for axis, (w, s) in enumerate(zip(used, used_shift, strict=True)):
        place = torch.arange(padded[axis])
        part = (place >= padded[axis] - w).long() + (place >= padded[axis] - s).long() * (s > 0)
        region += part.view([-1 if a == axis else 1 for a in range(3)]) * 3**axis
    token = torch.roll(token, [-s for s in used_shift], (0, 1, 2))
    counts = [p // w for p, w in zip(padded, used, strict=True)]

    def windows(x):
        x = x.view(counts[0], used[0], counts[1], used[1], counts[2], used[2])
        return x.permute(0, 2, 4, 1, 3, 5).reshape(-1, math.prod(used))

    index = relative_position_index(window, math.prod(used))
    expected = {}  # (query token, key token) -> row of the bias table
    for tokens, regions in zip(windows(token), windows(region), strict=True):
        for i, j in itertools.product(range(len(tokens)), repeat=2):
            if regions[i] == regions[j] and tokens[i] >= 0 and tokens[j] >= 0:
                expected[int(tokens[i]), int(tokens[j])] = int(index[i, j])

    plan = plan_windows(grid, window, shift, torch.device("cpu"))
    actual = {}
    for group, start, stop in plan.chunks(max_tokens=1):
        region, rows = plan.gather[start:stop].tolist(), plan.bias_indices[group].tolist()
        for i, j in itertools.product(range(len(region)), repeat=2):
            if region[i] < math.prod(grid) and region[j] < math.prod(grid):
                actual[region[i], region[j]] = rows[i][j]
    assert actual == expected


@pytest.mark.parametrize("shape", [(1, 3, 20, 112, 72), (2, 3, 32, 64, 100), (1, 3, 4, 24, 64)])
def test_masked_windows_of_a_gpu_attend_as_regions_do(shape, monkeypatch):
    """The layout for a GPU, computed on the CPU: outputs and gradients."""
    model, x = tiny(), input_by_shape(shape)
    expected = model(x)
    expected.square().sum().backward()
    gradients = {name: one.grad.clone() for name, one in model.named_parameters()}
    model.zero_grad()

    plans = []

    def masked_plan(grid, window, shift, device):
        plans.append(layout_to_tensors(masked_layout(grid, window, shift), device))
        return plans[-1]

    monkeypatch.setattr(layers, "plan_windows", masked_plan)
    found = model(x)
    found.square().sum().backward()
    assert len(plans) >= 2 and any(mask is not None for plan in plans for mask in plan.masks)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for name, one in model.named_parameters():
        scale = gradients[name].abs().max().item()
        torch.testing.assert_close(one.grad, gradients[name], rtol=1e-4, atol=1e-5 * scale)


# --- cached biases: never stale, never cut a gradient ------------------------------------------


def num_cached(model: torch.nn.Module) -> int:
    return sum(
        m._bias_cache._entry is not None
        for m in model.modules()
        if isinstance(m, WindowAttention3D)
    )


def test_biases_are_built_once_per_shape_in_inference(monkeypatch):
    model, x = tiny(), input_by_shape(SHAPE)
    built = []
    original = WindowAttention3D._build_biases
    monkeypatch.setattr(
        WindowAttention3D, "_build_biases", lambda *a: built.append(1) or original(*a)
    )
    with torch.inference_mode():
        for _ in range(3):
            model(x)
        assert len(built) == 4  # one per block
        model(input_by_shape((1, 3, 8, 32, 32)))
    assert len(built) == 8
    model(x)  # gradients are on: nothing is cached
    model(x)
    assert len(built) == 16


def _load_state_dict(model):
    model.load_state_dict({n: t * 1.5 for n, t in model.state_dict().items()})


def _optimizer_step(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model(input_by_shape(SHAPE)).square().sum().backward()
    optimizer.step()


def _ema_through_data(model):
    for parameter in model.parameters():
        parameter.data.mul_(0.5).add_(0.1)


def _ema_no_grad(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.lerp_(torch.ones_like(parameter), 0.3)


def _replace_parameter(model):
    for module in model.modules():
        if isinstance(module, WindowAttention3D):
            table = module.relative_position_bias_table
            module.relative_position_bias_table = torch.nn.Parameter(table.detach() + 1 * table)


def _swap_data(model):
    for parameter in model.parameters():
        parameter.data = parameter.data * 2


@pytest.mark.parametrize(
    "change",
    [
        _load_state_dict,
        _optimizer_step,
        _ema_through_data,
        _ema_no_grad,
        _replace_parameter,
        _swap_data,
    ],
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_cached_biases_follow_the_weights(change, mode):
    model, x = tiny(), input_by_shape(SHAPE)
    with mode():
        before = model(x)
        assert num_cached(model) == 4
    change(model)
    with mode():
        after = model(x)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, fresh_output(model, x))


def test_change_of_dtype_and_back():
    model, x = tiny(), input_by_shape(SHAPE)
    with torch.inference_mode():
        before = model(x)
        model.to(torch.float64)
        double = model(x.double())
        torch.testing.assert_close(double.float(), before, rtol=1e-4, atol=1e-5)
        assert double.dtype == torch.float64
        torch.testing.assert_close(model.to(torch.float32)(x), before)
        assert model.to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16


def test_autocast_before_and_after_plain_float32():
    model, x = tiny(), input_by_shape(SHAPE)
    with torch.inference_mode():
        before = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(x)
        torch.testing.assert_close(model(x), before, rtol=0, atol=0)
    torch.testing.assert_close(rough.float(), before, rtol=0.1, atol=0.1)


def test_copies_and_pickles_start_with_an_empty_cache():
    model, x = tiny(), input_by_shape(SHAPE)
    with torch.inference_mode():
        before = model(x)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert num_cached(twin) == 0
        _ema_no_grad(twin)
        with torch.inference_mode():
            torch.testing.assert_close(twin(x), fresh_output(twin, x))
            torch.testing.assert_close(model(x), before)  # and the original is untouched


@pytest.mark.parametrize("frozen", [False, True])
def test_inference_mode_before_training(frozen):
    """Cached tensors made in inference mode must not reach the backward pass."""
    model, x = tiny(), input_by_shape(SHAPE)
    with torch.inference_mode():
        model(x)
    model.backbone.requires_grad_(not frozen)
    pixels = x.clone().requires_grad_()
    model(pixels).square().sum().backward()
    fresh = tiny()
    fresh.backbone.requires_grad_(not frozen)
    expected = x.clone().requires_grad_()
    fresh(expected).square().sum().backward()
    torch.testing.assert_close(pixels.grad, expected.grad)
    tables = [n for n, _ in model.named_parameters() if n.endswith("bias_table")]
    ours, theirs = dict(model.named_parameters()), dict(fresh.named_parameters())
    for name in tables:
        if not frozen:
            assert ours[name].grad.abs().sum() > 0
            torch.testing.assert_close(ours[name].grad, theirs[name].grad)


def test_the_cache_of_window_plans_is_bounded():
    model = tiny()
    with torch.inference_mode():
        for side in range(32, 32 + 8 * MAX_CACHED_PLANS, 8):
            plan_windows((2, side // 4, side // 4), (2, 7, 7), (1, 3, 3), torch.device("cpu"))
        model(input_by_shape(SHAPE))
    assert _cached_plan.cache_info().currsize <= MAX_CACHED_PLANS


# --- compile and export -----------------------------------------------------------------------


def test_torch_export_gives_the_same_logits_with_a_dynamic_batch():
    model = tiny()
    example = (input_by_shape((2, 3, 8, 56, 60)),)
    batch = torch.export.Dim("batch", min=1, max=16)
    program = torch.export.export(model, example, dynamic_shapes={"x": {0: batch}})
    for size in (1, 3):
        x = input_by_shape((size, 3, 8, 56, 60))
        with torch.no_grad():
            torch.testing.assert_close(program.module()(x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_an_export_does_not_depend_on_a_previous_forward_pass():
    _cached_plan.cache_clear()
    x = input_by_shape(SHAPE)
    fresh = torch.export.export(tiny(), (x,), strict=False)
    used = tiny()
    with torch.inference_mode():
        used(x)
    again = torch.export.export(used, (x,), strict=False)
    assert fresh.graph_module.code == again.graph_module.code
    assert torch.equal(fresh.module()(x), again.module()(x))
    with torch.inference_mode():  # and tracing leaves nothing in the cache
        torch.testing.assert_close(tiny()(x), fresh.module()(x), rtol=1e-5, atol=1e-6)


def test_torch_compile_gives_the_same_logits_and_sees_new_weights():
    model, x = tiny(), input_by_shape((1, 3, 8, 56, 60))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-5, atol=1e-6)
        _ema_no_grad(model)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-5, atol=1e-6)
    compiled(x).sum().backward()
    assert model.backbone.layers[0].blocks[0].attn.relative_position_bias_table.grad is not None


def test_vmap_and_functional_gradients():
    model, x = tiny(), input_by_shape((1, 3, 4, 40, 40))
    parameters = dict(model.named_parameters())

    def loss(p):
        return torch.func.functional_call(model, p, (x,)).square().sum()

    grads = torch.func.grad(loss)(parameters)
    model(x).square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(grads[name], parameter.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("needs_grad", [False, True])
def test_forward_of_an_empty_batch_has_no_rows(is_training: bool, needs_grad: bool) -> None:
    """As in torchvision; the last batch of a filtered loader may be empty."""
    model = create_model("swin-t-k400").train(is_training)
    with torch.set_grad_enabled(needs_grad):
        logits = model(torch.zeros(0, 3, 8, 64, 64))
        assert logits.shape == (0, 400)
    if needs_grad:
        logits.sum().backward()


@pytest.mark.parametrize("shape", [(1, 3, 32, 224, 224), (2, 3, 9, 65, 63)])
@pytest.mark.parametrize("needs_grad", [False, True])
def test_forward_on_the_meta_device_counts_flops(shape: tuple[int, ...], needs_grad: bool) -> None:
    with torch.device("meta"):
        model = create_model("swin-t-k400").eval()
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(needs_grad):
        assert model(torch.zeros(shape, device="meta")).shape == (shape[0], 400)
    assert counter.get_total_flops() > 1e9


def test_forward_under_fake_tensors_leaves_the_model_as_it_was() -> None:
    model = create_model("camera-motion", pretrained=True)
    x = torch.rand(1, 3, 16, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(x)
        with FakeTensorMode(allow_non_fake_inputs=True):
            assert model(torch.zeros(2, 3, 16, 64, 64)).shape == (2, expected.shape[1])
        torch.testing.assert_close(model(x), expected, rtol=0, atol=0)
