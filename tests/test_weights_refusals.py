"""Mismatched tensors are rejected by name; differences must be allowed explicitly."""

from __future__ import annotations

import contextlib
import random
from collections import OrderedDict

import pytest
import torch

from tests.containers import (
    IMAGE_FORMATS,
    OFFICIAL_FORMATS,
    OFFICIAL_TINY,
    TORCHVISION_IMAGE_TINY,
    image_container,
    official_container,
    random_state,
    save,
    video_container,
)
from video_swin_transformer.config import ModelConfig
from video_swin_transformer.errors import CheckpointError, UnknownNameError, VideoSwinError
from video_swin_transformer.weights import load_checkpoint

SMALL = random_state(OFFICIAL_TINY, shrink=8)  # 12 channels, 50 classes
SMALL_IMAGE = random_state(TORCHVISION_IMAGE_TINY, shrink=8)


def container(kind):
    """A content of the tool, and the dict of weights in it."""
    if kind in OFFICIAL_FORMATS:
        content = video_container(kind, SMALL)
    else:
        content = image_container(kind, SMALL_IMAGE)
    content = OrderedDict(content)
    for key in ("state_dict", "model"):
        if key in content:
            content[key] = OrderedDict(content[key])
            return content, content[key]
    return content, content


def _drop(state, name):
    del state[name]


def _rename(state, name):
    state[name.replace("weight", "waight").replace("table", "tabel")] = state.pop(name)


def _reshape(state, name):
    state[name] = torch.cat([state[name], state[name][:1]])


def _integers(state, name):
    state[name] = state[name].to(torch.int32)


DAMAGES = {"drop": _drop, "rename": _rename, "reshape": _reshape, "integer dtype": _integers}


def victims(state):
    """One tensor of each part of the network: first, last, a table, a merging, inside a block."""
    floats = [n for n, t in state.items() if t.is_floating_point() and not n.endswith("attn_mask")]
    expected = ("bias_table", "reduction.weight", "qkv.weight", "key.weight", "proj.weight")
    inner = [next((n for n in floats if n.endswith(end)), None) for end in expected]
    return [n for n in (floats[0], floats[-1], *inner) if n and n.endswith(("weight", "table"))]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", (*OFFICIAL_FORMATS, *IMAGE_FORMATS))
def test_damage_is_refused_by_name(kind, damage, tmp_path):
    for victim in victims(container(kind)[1]):
        content, state = container(kind)
        DAMAGES[damage](state, victim)
        path = save(content, tmp_path / "file.pth")
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path, allow={"inflate"} if kind in IMAGE_FORMATS else ())
        assert victim in str(caught.value)
        if damage == "rename":
            assert "waight" in str(caught.value) or "tabel" in str(caught.value)


@pytest.mark.parametrize("extra", ["extra.weight", "layers.0.blocks.0.attn.logit_scale"])
@pytest.mark.parametrize("kind", (*OFFICIAL_FORMATS, *IMAGE_FORMATS))
def test_a_tensor_too_many_is_refused_by_name(kind, extra, tmp_path):
    content, state = container(kind)
    state[extra] = torch.ones(3)
    path = save(content, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match="1 unexpected: " + extra):
        load_checkpoint(path, allow={"inflate"} if kind in IMAGE_FORMATS else ())


def test_long_lists_are_cut_and_the_likely_network_is_named(tmp_path):
    path = save(SMALL, tmp_path / "file.pth")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, architecture="swin-s")
    message = str(caught.value)
    assert "The file looks like embed_dim 12, depths (2, 2, 6, 2)" in message
    assert "and 150 more" in message and len(message) < 2500


def test_integers_among_weights_are_named(tmp_path):
    state = dict(SMALL, **{"backbone.norm.bias": torch.zeros(96, dtype=torch.int8)})
    with pytest.raises(CheckpointError, match=r"backbone\.norm\.bias \(int8\)"):
        load_checkpoint(save(state, tmp_path / "file.pth"))
    quantize = {n: t.to(torch.int8) for n, t in SMALL.items()}
    with pytest.raises(CheckpointError, match="int8"):
        load_checkpoint(save(quantize, tmp_path / "file.pth"))


def test_two_final_norms_are_one_too_many(tmp_path):
    content, state = container("mmaction2")
    state["backbone.norm.weight"] = torch.ones(96)
    with pytest.raises(CheckpointError, match=r"1 unexpected: backbone\.norm\.weight"):
        load_checkpoint(save(content, tmp_path / "file.pth"))


ODD_SHAPES = [
    (), (0,), (3,), (0, 0), (169, 0), (2535, 0), (0, 3), (1, 1), (36, 1), (529, 3), (100_000, 3),
    (2, 2, 2), (12, 3, 4, 4), (0, 3, 4, 4), (12, 0, 4, 4), (12, 3, 0, 4, 4), (12, 0, 2, 4, 4),
    (1, 1, 1, 1, 1, 1),
]  # fmt: skip
EVERYTHING = {"head", "in_chans", "window", "inflate"}


@pytest.mark.parametrize(
    "kind",
    [
        "official",
        *(
            pytest.param(kind, marks=pytest.mark.slow)
            for kind in (*OFFICIAL_FORMATS, *IMAGE_FORMATS)
            if kind != "official"
        ),
    ],
)
def test_wildly_damaged_weights_raise_only_our_errors(kind, tmp_path):
    numbers = random.Random(kind)
    wider = ModelConfig(embed_dim=12, window_size=(16, 12, 12), num_classes=7, in_chans=1)
    for _ in range(12):
        content, state = container(kind)
        usual = [n for n in state if "table" in n or "patch" in n or "head" in n]
        for name in numbers.choices(usual if numbers.random() < 0.7 else list(state), k=15):
            state[name] = torch.zeros(numbers.choice(ODD_SHAPES))
        path = save(content, tmp_path / "file.pth")
        for architecture in (None, wider):
            with contextlib.suppress(VideoSwinError):
                load_checkpoint(path, architecture=architecture, allow=EVERYTHING)


# --- permitted differences ---------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    return save(official_container(SMALL), tmp_path / "file.pth")


@pytest.mark.parametrize(
    ("asked", "permission", "named", "reported"),
    [
        ({"num_classes": 7}, "head", "cls_head.fc_cls.weight (is (50, 96), must be (7, 96))",
         "head: dropped the classifier of 50 classes; new classifier of 7 classes"),
        ({"num_classes": 0}, "head", "cls_head.fc_cls.weight",
         "head: dropped the classifier of 50 classes; no classifier"),
        ({"in_chans": 1}, "in_chans", "backbone.patch_embed.proj.weight",
         "in_chans: 3 channels summed to 1"),
        ({"in_chans": 5}, "in_chans", "backbone.patch_embed.proj.weight",
         "in_chans: 3 channels repeated and scaled to 5"),
        ({"architecture": ModelConfig(embed_dim=12, window_size=(16, 7, 7), num_classes=50)},
         "window", "relative_position_bias_table (is (2535, 3), must be (5239, 3))",
         "window: 12 bias tables interpolated from (8, 7, 7) to (16, 7, 7)"),
    ],
)  # fmt: skip
def test_each_difference_only_when_permitted(file, asked, permission, named, reported):
    others = {"head", "in_chans", "window", "inflate"} - {permission}
    for allow in ((), others):
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(file, **asked, allow=allow)
        assert named in str(caught.value)
        assert f'allow={{"{permission}"}}' in str(caught.value)
    model, report = load_checkpoint(file, **asked, allow={permission})
    assert report.adaptations == (reported,) and reported in str(report)
    assert report.is_complete and not model.training
    for name, tensor in model.state_dict().items():  # all else is as it was
        changed = {"head": "cls_head.", "in_chans": "backbone.patch_embed.proj.weight"}
        if permission == "window" and name.endswith("table"):
            continue
        if not name.startswith(changed.get(permission, "none")):
            assert torch.equal(tensor, SMALL[name])
    video = torch.rand(1, model.config.in_chans, 4, 64, 64)
    assert model(video).shape == (1, model.num_classes or 96)


def test_a_permission_that_is_not_needed_changes_nothing(file):
    model, report = load_checkpoint(file, allow={"head", "in_chans", "window", "inflate"})
    assert report.adaptations == ()
    assert torch.equal(
        model.state_dict()["cls_head.fc_cls.weight"], SMALL["cls_head.fc_cls.weight"]
    )


def test_a_fresh_head_for_a_file_without_one(tmp_path):
    path = save(video_container("backbone", SMALL), tmp_path / "backbone.pth")
    with pytest.raises(CheckpointError, match=r'cls_head\.fc_cls\.weight.*allow=\{"head"\}'):
        load_checkpoint(path, num_classes=7)
    model, report = load_checkpoint(path, num_classes=7, allow="head")
    assert report.adaptations == ("head: the file has none; new classifier of 7 classes",)
    assert float(model.cls_head.fc_cls.weight.detach().std()) == pytest.approx(0.01, rel=0.2)


def test_several_differences_at_once(file):
    expected = ModelConfig(embed_dim=12, window_size=(16, 7, 7), num_classes=7, in_chans=1)
    model, report = load_checkpoint(
        file, architecture=expected, allow={"head", "in_chans", "window"}
    )
    assert model.config == expected and len(report.adaptations) == 3
    assert len(model.bundle.preprocessing.mean) == 1


def test_unknown_permissions_and_architectures(file):
    with pytest.raises(UnknownNameError, match="Did you mean 'head'"):
        load_checkpoint(file, allow={"heads"})
    with pytest.raises(UnknownNameError, match="swin-t"):
        load_checkpoint(file, architecture="swim-t")
