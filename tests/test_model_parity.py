"""The numbers of the original: recorded outputs, and torchvision's swin3d as a live oracle."""

from __future__ import annotations

import pytest
import torch

from benchmarks.peers import torchvision_name, torchvision_twin
from tests.oracle import fill_by_name, input_by_shape, reference
from video_swin_transformer.config import ModelConfig
from video_swin_transformer.model import SwinTransformer3D, VideoSwinTransformer
from video_swin_transformer.registry import find_card
from video_swin_transformer.weights import create_model

SMALL = ModelConfig(embed_dim=32, depths=(2, 2, 2, 2), num_heads=(2, 4, 8, 16), num_classes=7)
SMALL_W16 = ModelConfig(
    embed_dim=32,
    depths=(2, 2, 2, 2),
    num_heads=(2, 4, 8, 16),
    window_size=(16, 7, 7),
    num_classes=7,
)

OUTPUTS = reference("backbone_outputs")


@pytest.mark.parametrize(
    "entry", OUTPUTS, ids=[f"{e['config']}-{'x'.join(map(str, e['input_shape']))}" for e in OUTPUTS]
)
def test_backbone_gives_the_recorded_outputs_of_the_official_code(entry):
    backbone = SwinTransformer3D(**entry["kwargs"]).eval()
    fill_by_name(backbone)
    with torch.inference_mode():
        out = backbone(input_by_shape(tuple(entry["input_shape"])))
    assert list(out.shape) == entry["output_shape"]
    torch.testing.assert_close(
        out.flatten()[entry["at"]], torch.tensor(entry["values"]), rtol=0, atol=1e-5
    )
    assert out.mean().item() == pytest.approx(entry["mean"], abs=1e-5)
    assert out.std().item() == pytest.approx(entry["std"], rel=1e-5)


# (T, H, W): padding in each axis, clipped windows, odd maps, and reference 1.6's shapes.
ODD_SHAPES = [
    (32, 112, 112),
    (16, 112, 112),
    (8, 112, 112),
    (5, 60, 50),
    (1, 33, 31),
    (20, 64, 96),
    (18, 112, 56),
    (32, 30, 112),
    (3, 17, 200),
    (33, 65, 97),
    (2, 4, 4),
    (7, 225, 36),
    (40, 56, 57),
    (17, 130, 30),
]


@pytest.mark.parametrize("shape", ODD_SHAPES, ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize("config", [SMALL, SMALL_W16], ids=["w8", "w16"])
def test_logits_equal_torchvision_on_odd_shapes(config, shape):
    model = VideoSwinTransformer(config).eval()
    fill_by_name(model)
    twin = torchvision_twin(model)
    x = input_by_shape((2, 3, *shape))
    with torch.inference_mode():
        torch.testing.assert_close(model(x), twin(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "swin_tiny_patch244_window877",
        pytest.param("swin_small_patch244_window877", marks=pytest.mark.slow),
        pytest.param("swin_base_patch244_window877", marks=pytest.mark.slow),
    ],
)
def test_real_sizes_equal_torchvision(name):
    model = create_model(name).eval()
    fill_by_name(model)
    twin = torchvision_twin(model)
    x = input_by_shape((1, 3, 32, 224, 224))
    with torch.inference_mode():
        ours, theirs = model(x), twin(x)
    assert (ours - theirs).norm() / theirs.norm() < 1e-5


@pytest.mark.parametrize("shape", [(16, 112, 112), (5, 60, 50), (9, 33, 31)], ids=str)
def test_gradients_equal_torchvision(shape):
    model = VideoSwinTransformer(SMALL).eval()  # no dropout or drop path, gradients on
    fill_by_name(model)
    twin = torchvision_twin(model)
    x = input_by_shape((2, 3, *shape))
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    target = torch.tensor([1, 5])
    torch.nn.functional.cross_entropy(model(ours), target).backward()
    torch.nn.functional.cross_entropy(twin(theirs), target).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)
    expected = dict(twin.named_parameters())
    for name, parameter in model.named_parameters():
        want = expected[torchvision_name(name)].grad
        assert (parameter.grad - want).norm() <= 1e-5 * want.norm() + 1e-8, name


def test_training_mode_gives_the_same_gradients_with_and_without_checkpointing():
    model = VideoSwinTransformer(SMALL).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    grads = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        torch.manual_seed(0)  # the same drop path
        model.zero_grad()
        model(input_by_shape((2, 3, 8, 64, 64))).square().sum().backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    for plain, checkpointed in zip(*grads, strict=True):
        torch.testing.assert_close(plain, checkpointed)


# Reference 1.2: exact parameter counts of everything published.
@pytest.mark.parametrize(
    ("name", "num_classes", "expected"),
    [
        ("swin_tiny_patch244_window877", 400, 28_158_070),
        ("swin_small_patch244_window877", 400, 49_816_678),
        ("swin_small_patch244_window877", 710, 50_055_068),
        ("swin_base_patch244_window877", 400, 88_048_984),
        ("swin_base_patch244_window877", 600, 88_253_984),
        ("swin_base_patch244_window1677", 174, 88_834_038),
        ("swin_large_patch244_window877", 400, 196_953_916),
        ("swin_large_patch244_window877", 700, 197_415_016),
        ("swin_large_patch244_window81212", 400, 199_999_516),
    ],
)
def test_parameter_counts(name, num_classes, expected):
    with torch.device("meta"):
        model = create_model(name, num_classes=num_classes)
    assert sum(p.numel() for p in model.parameters()) == expected
    assert model.config.num_params == expected


def test_drop_path_rates_rise_linearly_over_the_blocks():
    card = find_card("swin-t")
    rates = [
        block.drop_path.rate
        for layer in VideoSwinTransformer(card.bundle).backbone.layers
        for block in layer.blocks
    ]
    assert rates == pytest.approx([0.1 * i / 11 for i in range(12)])
