"""Our own weights on disk: what is written comes back, and nothing else loads."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest
import torch

from tests.containers import OFFICIAL_TINY, random_state
from tests.oracle import fill_by_name
from tests.samples import CUSTOM, fresh, small_bundle
from video_swin_transformer.config import BundleConfig, ModelConfig
from video_swin_transformer.errors import CheckpointError, UnknownNameError
from video_swin_transformer.files import write_atomic
from video_swin_transformer.model import VideoSwinTransformer
from video_swin_transformer.registry import find_card, list_cards, list_models
from video_swin_transformer.weights import create_model, load_checkpoint, load_model


@pytest.fixture
def saved(tmp_path):
    model = VideoSwinTransformer(CUSTOM).eval()
    fill_by_name(model)
    model.save_pretrained(tmp_path / "mine")
    return model, tmp_path / "mine"


def assert_same(model, other):
    assert other.bundle == model.bundle
    assert not other.training
    for (name, a), (other_name, b) in zip(
        model.state_dict().items(), other.state_dict().items(), strict=True
    ):
        assert name == other_name and torch.equal(a, b)


def test_folder_round_trip(saved):
    model, folder = saved
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "video_preprocessor_config.json",
    ]
    assert_same(model, VideoSwinTransformer.from_pretrained(folder))
    assert_same(model, load_model(str(folder)))


def test_the_weights_file_alone_rebuilds_its_model(saved, tmp_path):
    model, folder = saved
    alone = tmp_path / "alone.safetensors"
    (folder / "model.safetensors").rename(alone)
    assert_same(model, VideoSwinTransformer.from_pretrained(alone))


def test_half_precision_storage_comes_back_as_float32(saved):
    model, folder = saved
    model.save_pretrained(folder, dtype=torch.float16)
    other = VideoSwinTransformer.from_pretrained(folder)
    for name, tensor in other.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, model.state_dict()[name].half().float())


def test_another_drop_path_rate_for_fine_tuning(saved):
    _, folder = saved
    model = VideoSwinTransformer.from_pretrained(folder, drop_path_rate=0.3)
    assert model.backbone.layers[-1].blocks[-1].drop_path.rate == pytest.approx(0.3)


def _without(name):
    def change(folder):
        (folder / name).unlink()

    return change


def _cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _text(folder):
    (folder / "model.safetensors").write_text("these are not weights")


def _pickle(folder):
    torch.save({"a": torch.ones(1)}, folder / "model.safetensors")


def _other_network(folder):
    path = folder / "config.json"
    data = json.loads(path.read_text())
    data["model"]["embed_dim"] = 64
    path.write_text(json.dumps(data))


def _missing_tensor(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["backbone.norm.weight"]
    save_file(tensors, folder / "model.safetensors")


def _extra_tensor(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "backbone.extra": torch.ones(1)}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_without("model.safetensors"), "no model at"),
        (_cut, "damaged or truncated"),
        (_text, "not a readable safetensors"),
        (_pickle, "not a readable safetensors"),
        (_other_network, "size mismatch"),
        (_missing_tensor, "backbone.norm.weight"),
        (_extra_tensor, "backbone.extra"),
    ],
)
def test_anything_but_full_coverage_is_refused_by_name(saved, change, says):
    _, folder = saved
    change(folder)
    with pytest.raises(CheckpointError, match=says):
        load_model(folder)


def test_a_foreign_safetensors_file_without_config(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="is not in a supported format"):
        load_model(tmp_path / "foreign.safetensors")


def test_a_folder_that_cannot_be_written(saved, tmp_path):
    model, _ = saved
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        model.save_pretrained(tmp_path / "file")


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "data"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("card", list_cards(), ids=lambda card: card.name)
def test_every_card_builds_its_network(card):
    with torch.device("meta"):
        model = create_model(card.name)
    assert model.bundle == card.bundle
    for alias in card.aliases:
        assert find_card(alias) is card


def test_every_card_with_weights_gives_them():
    names = list_models(pretrained=True, download=False)
    assert names
    for name in names:
        card = find_card(name)
        model = create_model(name, pretrained=True)
        assert model.bundle == card.bundle
        assert not model.training


def test_arguments_of_create_model():
    model = create_model("swin-nano", num_classes=12, in_chans=1, drop_path_rate=0.0)
    assert model.config.num_classes == 12 and model.bundle.labels == ()
    assert model(torch.rand(1, 1, 8, 112, 112)).shape == (1, 12)
    headless = create_model("camera-motion", pretrained=True, num_classes=0)
    assert headless(torch.rand(1, 3, 8, 112, 112)).shape == (1, 192)
    with pytest.raises(CheckpointError, match="have 3 input channels"):
        create_model("camera-motion", pretrained=True, in_chans=1)


def test_names_that_do_not_exist():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'swin-t'\?"):
        create_model("swim-t")
    with pytest.raises(CheckpointError, match="architecture without weights"):
        create_model("swin-t", pretrained=True)
    with pytest.raises(CheckpointError, match="no file or folder"):
        load_model("weights/absent.safetensors")
    with pytest.raises(UnknownNameError):
        load_model("swim-t")


def test_list_models_takes_patterns_over_names_and_aliases():
    assert list_models("swin3d_?") == [
        "swin_tiny_patch244_window877",
        "swin_small_patch244_window877",
        "swin_base_patch244_window877",
    ]
    assert list_models("nothing*") == []


def test_default_bundle_of_a_grey_network_has_one_mean():
    assert len(BundleConfig.for_model(ModelConfig(in_chans=1)).preprocessing.mean) == 1


def test_a_file_keeps_its_labels_beside_the_config_of_another_model(tmp_path):
    other = dataclasses.replace(small_bundle(), labels=tuple("ABCDE"))
    VideoSwinTransformer(other).save_pretrained(tmp_path / "other")
    fresh().save_pretrained(tmp_path / "mine")
    moved = tmp_path / "other" / "mine.safetensors"
    (tmp_path / "mine" / "model.safetensors").rename(moved)
    assert load_model(moved).bundle.labels == tuple("abcde")
    assert VideoSwinTransformer.from_pretrained(moved).bundle.labels == tuple("abcde")
    assert load_model(tmp_path / "other").bundle.labels == other.labels


def test_load_model_reads_a_folder_with_weights_of_another_tool(tmp_path):
    tensors = random_state(OFFICIAL_TINY, shrink=8)
    torch.save({"state_dict": tensors}, tmp_path / "pytorch_model.bin")
    name = "backbone.layers.0.blocks.0.attn.qkv.weight"
    assert torch.equal(load_model(tmp_path).state_dict()[name], tensors[name])


def test_load_checkpoint_keeps_stored_labels_with_the_name_of_an_architecture(tmp_path):
    card = find_card("swin-t").bundle
    model = dataclasses.replace(card.model, num_classes=2)
    bundle = dataclasses.replace(card, model=model, labels=("a", "b"))
    VideoSwinTransformer(bundle).save_pretrained(tmp_path)
    loaded, _ = load_checkpoint(tmp_path, architecture="swin-t")
    assert loaded.bundle.labels == ("a", "b")


def test_the_config_of_another_library_does_not_replace_the_stored_one(saved):
    model, folder = saved
    (folder / "config.json").write_text('{"model_type": "swin"}')
    assert_same(model, VideoSwinTransformer.from_pretrained(folder))
    assert_same(model, load_model(folder))
