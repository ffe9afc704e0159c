"""The parts of the official class, called one by one, against torchvision's blocks."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from benchmarks.peers import torchvision_twin
from tests.oracle import fill_by_name, input_by_shape
from video_swin_transformer.config import ModelConfig
from video_swin_transformer.layers import (
    BasicLayer,
    Mlp,
    PatchEmbed3D,
    PatchMerging,
    SwinTransformerBlock3D,
    WindowAttention3D,
)
from video_swin_transformer.model import SwinTransformer3D, VideoSwinTransformer
from video_swin_transformer.windows import (
    clip_window_to_grid,
    compute_mask,
    get_window_size,
    window_partition,
    window_reverse,
)

TINY = ModelConfig(
    embed_dim=16, depths=(2, 2, 2), num_heads=(1, 2, 4), window_size=(4, 7, 7), num_classes=2
)
SHAPES = [(2, 3, 18, 64, 60), (1, 3, 5, 33, 31), (1, 3, 16, 112, 56)]  # padded, clipped, shifted


def networks():
    model = VideoSwinTransformer(TINY).eval()
    fill_by_name(model)
    return model.backbone, torchvision_twin(model)


def channel_first(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 4, 1, 2, 3)


def channel_last(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 2, 3, 4, 1)


def assert_same(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


# --- layers and patch embedding ---------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_patch_embedding_and_each_stage_are_channel_first(shape):
    backbone, twin = networks()
    with torch.no_grad():
        x = backbone.patch_embed(input_by_shape(shape))
        expected = twin.patch_embed(input_by_shape(shape))
        assert_same(x, channel_first(expected))
        for stage, layer in enumerate(backbone.layers):
            x = layer(x.contiguous())
            for part in twin.features[2 * stage : 2 * stage + 2]:  # blocks, then the merging
                expected = part(expected)
            assert_same(x, channel_first(expected))


def test_the_patch_merging_can_be_removed_and_called_by_hand():
    backbone, twin = networks()
    downsample = backbone.layers[0].downsample
    backbone.layers[0].downsample = None
    tokens = torch.randn(2, 16, 4, 9, 11)
    with torch.no_grad():
        x = backbone.layers[0](tokens)
        expected = twin.features[0](channel_last(tokens))
        assert_same(x, channel_first(expected))
        assert_same(downsample(channel_last(x)), twin.features[1](expected))


def test_a_stage_leaves_the_patch_merging_out_as_in_mmaction2():
    backbone, _ = networks()
    layer = backbone.layers[0]
    x = torch.randn(1, 16, 4, 14, 14)
    with torch.no_grad():
        before = layer(x, do_downsample=False)
        assert_same(channel_first(layer.downsample(channel_last(before))), layer(x))


# --- blocks and attention ---------------------------------------------------------------------


@pytest.mark.parametrize("grid", [(8, 14, 14), (5, 9, 10), (2, 5, 14), (4, 7, 7)], ids=str)
@pytest.mark.parametrize("index", [0, 1], ids=["plain", "shifted"])
def test_a_block_called_with_a_mask_equals_torchvision(grid, index):
    backbone, twin = networks()
    block, expected = backbone.layers[0].blocks[index], twin.features[0][index]
    window, shift = get_window_size(grid, block.window_size, block.shift_size)  # type: ignore[misc]
    depth, height, width = (-(-n // side) * side for n, side in zip(grid, window, strict=True))
    mask = compute_mask(depth, height, width, window, shift, torch.device("cpu"))
    x = torch.randn(2, *grid, 16)
    with torch.no_grad():
        assert_same(block(x, mask), expected(x))


def test_a_shifted_block_without_its_mask_attends_across_the_border():
    backbone, _ = networks()
    block = backbone.layers[0].blocks[1]
    x = torch.randn(1, 8, 14, 14, 16)
    mask = compute_mask(8, 14, 14, block.window_size, block.shift_size, "cpu")
    with torch.no_grad():
        assert not torch.allclose(block(x, None), block(x, mask), atol=1e-3)


def test_a_block_called_by_hand_has_the_gradients_of_the_stage():
    backbone, _ = networks()
    layer = BasicLayer(16, 2, 1, window_size=(4, 7, 7), qkv_bias=True)
    layer.load_state_dict(backbone.layers[0].state_dict(), strict=False)
    mask = compute_mask(8, 14, 14, (4, 7, 7), layer.shift_size, "cpu")
    x = torch.randn(1, 16, 8, 14, 14)
    grads = []
    for by_hand in (False, True):
        layer.zero_grad()
        pixels = x.clone().requires_grad_()
        if by_hand:
            out = channel_last(pixels)
            for block in layer.blocks:
                out = block(out, mask)
        else:
            out = channel_last(layer(pixels))
        out.square().sum().backward()
        grads.append([pixels.grad, *(p.grad for p in layer.parameters())])
    for staged, manual in zip(*grads, strict=True):
        torch.testing.assert_close(staged, manual, rtol=1e-4, atol=1e-4)


def test_attention_takes_windows_and_a_mask():
    attention = WindowAttention3D(8, (2, 3, 3), 2, True, None, 0.0, 0.0).eval()
    fill_by_name(attention)
    x = torch.randn(6, 18, 8)  # two samples of three windows
    mask = torch.where(torch.rand(3, 18, 18) < 0.3, -100.0, 0.0)
    with torch.no_grad():
        out = attention(x, mask)
        qkv = (x @ attention.qkv.weight.t() + attention.qkv.bias).view(6, 18, 3, 2, 4)
        expected = torch.zeros(6, 18, 8)
        for window in range(6):
            for head in range(2):
                q, k, v = (qkv[window, :, part, head] for part in range(3))
                bias = attention.relative_position_bias_table[:, head]
                logits = q @ k.t() / 2 + bias[attention.relative_position_index]
                weights = (logits + mask[window % 3]).softmax(-1)
                expected[window, :, 4 * head : 4 * head + 4] = weights @ v
        assert_same(out, attention.proj(expected))
        assert_same(attention(x), attention(x, torch.zeros(3, 18, 18)))


def test_attention_on_a_clipped_window_cuts_the_bias():
    attention = WindowAttention3D(8, (4, 3, 3), 2)
    index = attention.relative_position_index
    assert index.shape == (36, 36)
    assert attention(torch.randn(2, 18, 8)).shape == (2, 18, 8)  # two of four time steps


def test_dropout_of_attention_can_be_switched_off_as_a_module():
    torch.manual_seed(0)
    layer = BasicLayer(16, 1, 2, window_size=(2, 3, 3), attn_drop=0.5).train()
    x = torch.randn(1, 16, 2, 3, 3)
    assert not torch.equal(layer(x), layer(x))
    layer.blocks[0].attn.attn_drop.p = 0.0
    assert torch.equal(layer(x), layer(x))


# --- functions of the official file -----------------------------------------------------------


def test_partition_and_reverse_are_inverse():
    x = torch.randn(2, 4, 6, 9, 5)
    windows = window_partition(x, (2, 3, 3))
    assert windows.shape == (2 * 2 * 2 * 3, 18, 5)
    assert torch.equal(windows[1], x[0, :2, :3, 3:6].reshape(18, 5))
    assert torch.equal(window_reverse(windows, (2, 3, 3), 2, 4, 6, 9), x)


def test_the_window_of_a_grid_with_and_without_a_shift():
    assert get_window_size((16, 7, 7), [8, 7, 7]) == (8, 7, 7)
    assert get_window_size((4, 14, 14), (8, 7, 7), (4, 3, 3)) == ((4, 7, 7), (0, 3, 3))
    assert clip_window_to_grid((4, 14, 14), (8, 7, 7), (4, 3, 3)) == ((4, 7, 7), (0, 3, 3))


def test_the_mask_separates_what_the_shift_brought_together():
    mask = compute_mask(2, 4, 4, (2, 2, 2), (0, 1, 1), "cpu")
    assert mask.shape == (4, 8, 8) and set(mask.unique().tolist()) == {-100.0, 0.0}
    assert not mask[0].any()  # the first window holds neighbors only
    assert mask[3, 0].tolist() == [0.0, -100.0, -100.0, -100.0] * 2  # a corner: four regions


# --- constructors -----------------------------------------------------------------------------

OFFICIAL_ARGUMENTS = {
    Mlp: "in_features hidden_features out_features act_layer drop",
    WindowAttention3D: "dim window_size num_heads qkv_bias qk_scale attn_drop proj_drop",
    SwinTransformerBlock3D: "dim num_heads window_size shift_size mlp_ratio qkv_bias qk_scale drop "
    "attn_drop drop_path act_layer norm_layer use_checkpoint",
    PatchMerging: "dim norm_layer",
    BasicLayer: "dim depth num_heads window_size mlp_ratio qkv_bias qk_scale drop attn_drop "
    "drop_path norm_layer downsample use_checkpoint",
    PatchEmbed3D: "patch_size in_chans embed_dim norm_layer",
    SwinTransformer3D: "pretrained pretrained2d patch_size in_chans embed_dim depths num_heads "
    "window_size mlp_ratio qkv_bias qk_scale drop_rate attn_drop_rate drop_path_rate norm_layer "
    "patch_norm frozen_stages use_checkpoint",
}


@pytest.mark.parametrize("part", OFFICIAL_ARGUMENTS, ids=lambda part: part.__name__)
def test_constructors_take_the_official_arguments_in_order(part):
    names = OFFICIAL_ARGUMENTS[part].split()
    parameters = list(inspect.signature(part).parameters.values())
    assert [p.name for p in parameters][: len(names)] == names
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters[: len(names)])


def test_a_stage_is_built_from_lists_and_a_class_for_the_merging():
    layer = BasicLayer(16, 3, 2, [2, 3, 3], drop_path=[0.0, 0.1, 0.2], downsample=PatchMerging)
    assert [block.drop_path.rate for block in layer.blocks] == [0.0, 0.1, 0.2]
    assert layer(torch.randn(1, 16, 2, 6, 6)).shape == (1, 32, 2, 3, 3)
    assert [block.shift_size for block in layer.blocks] == [(0, 0, 0), (1, 1, 1), (0, 0, 0)]
    assert BasicLayer(16, 2, 2, drop_path=0.3).blocks[0].drop_path.rate == 0.3


def test_a_block_uses_the_given_activation_and_norm():
    block = SwinTransformerBlock3D(8, 2, act_layer=nn.ReLU, norm_layer=nn.RMSNorm)
    assert isinstance(block.mlp.act, nn.ReLU)
    assert isinstance(block.norm1, nn.RMSNorm) and isinstance(block.norm2, nn.RMSNorm)


# --- what surrounds the forward pass ----------------------------------------------------------


def test_hooks_on_stages_and_blocks_run_and_see_official_shapes():
    backbone, _ = networks()
    seen = {}

    def record(name):
        return lambda _module, _inputs, out: seen.update({name: tuple(out.shape)})

    for name in ("patch_embed", "layers.0", "layers.2", "layers.0.blocks.1"):
        backbone.get_submodule(name).register_forward_hook(record(name))
    with torch.no_grad():
        backbone(torch.rand(1, 3, 8, 56, 56))
    assert seen == {
        "patch_embed": (1, 16, 4, 14, 14),
        "layers.0": (1, 32, 4, 7, 7),
        "layers.2": (1, 64, 4, 4, 4),
        "layers.0.blocks.1": (1, 4 * 14 * 14, 16),
    }


@pytest.mark.parametrize("level", ["backbone", "stage", "block"])
def test_checkpointing_can_be_set_at_every_level(level):
    backbone = SwinTransformer3D(embed_dim=16, depths=[2], num_heads=[1], use_checkpoint=True)
    assert backbone.use_checkpoint and backbone.layers[0].use_checkpoint
    backbone.use_checkpoint = False
    assert not any(block.use_checkpoint for block in backbone.layers[0].blocks)
    stage = backbone.layers[0]
    {"backbone": backbone, "stage": stage, "block": stage.blocks[0]}[level].use_checkpoint = True
    calls = []
    stage.blocks[0].norm1.register_forward_hook(lambda *_: calls.append(1))
    backbone(torch.rand(1, 3, 4, 16, 16)).sum().backward()
    assert len(calls) == 2  # once more in the backward pass


def test_a_stage_and_a_block_can_be_exported_alone():
    backbone, _ = networks()
    x = torch.randn(1, 16, 4, 14, 14)
    program = torch.export.export(backbone.layers[0], (x,))
    mask = compute_mask(4, 14, 14, (4, 7, 7), (0, 3, 3), "cpu")
    block = backbone.layers[0].blocks[1]
    manual = torch.export.export(block, (channel_last(x), mask))
    with torch.no_grad():
        assert_same(program.module()(x), backbone.layers[0](x))
        assert_same(manual.module()(channel_last(x), mask), block(channel_last(x), mask))
