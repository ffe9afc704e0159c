"""Files of every tool load with full coverage and compute what the tool computes."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.video import swin3d_t

import video_swin_transformer as vst
from tests.containers import (
    OFFICIAL_BASE_W16,
    OFFICIAL_FORMATS,
    OFFICIAL_TINY,
    TIMM_IMAGE_TINY,
    TORCHVISION_IMAGE_TINY,
    official_container,
    random_state,
    save,
    timm_from_torchvision_image,
    torchvision_from_official,
    video_container,
)
from tests.oracle import reference
from video_swin_transformer.errors import CheckpointError
from video_swin_transformer.registry import find_card, weights_path
from video_swin_transformer.weights import load_checkpoint, load_model
from video_swin_transformer.weights.infer_config import infer_config
from video_swin_transformer.weights.key_mapping import FORMATS, convert, rename_from_official

VIDEO = torch.randn(1, 3, 6, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def tiny():
    """The weights of a whole tiny recognizer, under the official names."""
    return random_state(OFFICIAL_TINY)


@pytest.fixture(scope="module")
def oracle(tiny):
    """torchvision's own network, strictly filled with them."""
    network = swin3d_t()
    network.load_state_dict(torchvision_from_official(tiny))
    with torch.inference_mode():
        return network.eval()(VIDEO)


def outputs(model):
    with torch.inference_mode():
        return model(VIDEO)


@pytest.mark.parametrize("kind", [k for k in OFFICIAL_FORMATS if k != "backbone"])
def test_recognizers_of_every_tool_give_the_logits_of_torchvision(kind, tiny, oracle, tmp_path):
    model, report = load_checkpoint(save(video_container(kind, tiny), tmp_path / "file.pth"))
    torch.testing.assert_close(outputs(model), oracle, rtol=0, atol=2e-5)
    assert report.is_complete and report.adaptations == ()
    assert (report.matched_tensors, report.matched_params) == (173, 28_158_070)
    assert report.architecture == "swin_tiny_patch244_window877"
    assert kind in report.format and "12 derived buffers dropped" in report.conversions
    assert not model.training and all(p.requires_grad for p in model.parameters())
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_a_backbone_alone_has_no_classifier_and_the_same_features(tiny, tmp_path):
    path = save(video_container("backbone", tiny), tmp_path / "backbone.pt")
    model, report = load_checkpoint(path)
    whole, _ = load_checkpoint(save(official_container(tiny), tmp_path / "whole.pth"))
    assert model.num_classes == 0 and report.matched_tensors == 171
    with torch.inference_mode():
        assert torch.equal(model.forward_features(VIDEO), whole.forward_features(VIDEO))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: OrderedDict((f"module.{n}", t) for n, t in state.items()),
        lambda state: {"state_dict": {f"module.{n}": t for n, t in state.items()}},
        lambda state: {"model": {f"module._orig_mod.{n}": t for n, t in state.items()}},
        lambda state: {"model": {"x": 1}, "state_dict": state},
        lambda state: {n: torch.nn.Parameter(t) for n, t in small_floats(state).items()},
    ],
    ids=["ddp", "ddp in state_dict", "compiled ddp in model", "both keys", "parameters"],
)
def test_wrappers_are_taken_off(wrap, tmp_path):
    state = random_state(OFFICIAL_TINY, shrink=8)
    model, _ = load_checkpoint(save(wrap(state), tmp_path / "file.pth"))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name])


def small_floats(state):
    return {name: t for name, t in state.items() if t.is_floating_point()}


def test_the_older_pickle_stream_and_safetensors(tmp_path):
    state = random_state(OFFICIAL_TINY, shrink=8)
    save_file(state, tmp_path / "b.safetensors")
    (tmp_path / "hub").mkdir()
    save(state, tmp_path / "hub" / "pytorch_model.bin")
    sources = [
        save(official_container(state), tmp_path / "a.pth", legacy=True),
        tmp_path / "b.safetensors",
        tmp_path / "hub",
    ]
    for source in sources:
        model, _ = load_checkpoint(source)
        assert torch.equal(
            model.state_dict()["backbone.norm.weight"], state["backbone.norm.weight"]
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_files_of_one_other_number_type_become_float32_and_say_so(dtype, tmp_path):
    state = {n: t.to(dtype) for n, t in small_floats(random_state(OFFICIAL_TINY, 0, 8)).items()}
    model, report = load_checkpoint(save(state, tmp_path / "file.pth"))
    name = str(dtype).removeprefix("torch.")
    assert report.dtype == name and f"{name} to float32" in report.conversions
    for key, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, state[key].float())


def test_stages_maps_and_data_preprocessor_of_mmaction2_are_ignored_and_reported(tmp_path):
    content = video_container("mmaction2", random_state(OFFICIAL_TINY, shrink=8))
    content["state_dict"]["backbone.norm0.weight"] = torch.ones(12)
    content["state_dict"]["data_preprocessor.mean"] = torch.ones(3, 1, 1, 1)
    _, report = load_checkpoint(save(content, tmp_path / "file.pth"))
    assert report.ignored_keys == ("backbone.norm0.weight", "data_preprocessor.mean")
    assert "ignored 2: backbone.norm0.weight" in str(report)


def test_the_window_16_base_of_something_something(tmp_path):
    state = random_state(OFFICIAL_BASE_W16)
    path = save(official_container(state), tmp_path / "sthv2.pth")
    model, report = load_checkpoint(path)
    assert report.architecture == "swin_base_patch244_window1677"
    assert report.matched_params == 88_834_038 and model.num_classes == 174
    assert model.config.window_size == (16, 7, 7) and model.bundle.sampling.rule == "uniform"
    last = "backbone.layers.3.blocks.1.attn.relative_position_bias_table"
    assert torch.equal(model.state_dict()[last], state[last])


def test_load_model_and_a_name_lead_to_the_same(tmp_path):
    state = random_state(OFFICIAL_TINY, shrink=8)
    path = save(official_container(state), tmp_path / "file.pth")
    assert torch.equal(
        load_model(path).state_dict()["cls_head.fc_cls.bias"], state["cls_head.fc_cls.bias"]
    )
    model, report = vst.load_checkpoint("camera-motion")
    assert model.bundle == load_model("camera-motion").bundle and report.is_complete
    assert report.format == "video-swin-transformer"


def test_a_published_name_brings_its_labels_and_sampling(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEOSWIN_HOME", str(tmp_path))
    card = find_card("swin_tiny_patch244_window877_kinetics400_1k")
    path = weights_path(card)
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    save(official_container(tiny), path)
    model, report = load_checkpoint(card.name)
    assert report.source == str(path) and report.is_complete
    assert model.bundle.name == card.name and len(model.bundle.labels) == 400
    assert model.bundle.sampling == card.bundle.sampling


def test_our_own_file_brings_its_sampling_and_labels(tmp_path):
    model = load_model("camera-motion")
    model.save_pretrained(tmp_path)
    for source in (tmp_path, tmp_path / "model.safetensors"):
        again, _ = load_checkpoint(source)
        assert again.bundle == model.bundle
        assert torch.equal(outputs(again), outputs(model))


# --- names and architecture, without files -----------------------------------------------------


def test_recorded_names_of_timm_are_those_the_tests_make():
    made = timm_from_torchvision_image(random_state(TORCHVISION_IMAGE_TINY))
    assert {n: list(t.shape) for n, t in made.items()} == reference(TIMM_IMAGE_TINY)


@pytest.mark.parametrize("key_format", FORMATS, ids=lambda f: f.name)
def test_names_go_to_every_tool_and_back(key_format):
    state = small_floats(random_state(OFFICIAL_TINY, shrink=8))
    back = convert(key_format, rename_from_official(key_format, state))
    expected = {n: t for n, t in state.items() if key_format.head or not n.startswith("cls_head.")}
    assert back.tensors.keys() == expected.keys()
    assert not (back.unexpected or back.ignored or back.derived or back.incomplete)
    assert all(torch.equal(back.tensors[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("card", vst.list_models())
def test_every_architecture_is_told_by_its_tensors(card):
    expected = find_card(card).bundle.model
    with torch.device("meta"):
        state = vst.VideoSwinTransformer(expected).state_dict()
    report = infer_config(state)
    with torch.device("meta"):
        again = vst.VideoSwinTransformer(report).state_dict()
    assert {n: t.shape for n, t in again.items()} == {n: t.shape for n, t in state.items()}
    assert report.window_size == expected.window_size and report.num_classes == expected.num_classes


@pytest.mark.parametrize(
    "changes",
    [
        {"window_size": (2, 7, 7)},
        {"window_size": (8, 8, 8)},
        {"window_size": (4, 4, 4), "patch_size": (4, 4, 4), "patch_norm": False},
        {"qkv_bias": False, "mlp_ratio": 2.0, "in_chans": 1, "num_classes": 0},
        {"depths": (1, 1), "num_heads": (2, 4), "embed_dim": 32},
    ],
)
def test_unusual_networks_are_told_by_their_tensors(changes):
    expected = vst.ModelConfig(**{"embed_dim": 12, "drop_path_rate": 0.1} | changes)
    with torch.device("meta"):
        state = vst.VideoSwinTransformer(expected).state_dict()
    assert infer_config(state) == expected


def test_a_window_that_tables_do_not_tell():
    config = vst.ModelConfig(embed_dim=12, window_size=(2, 3, 2))  # 3 * 5 * 3 rows
    with torch.device("meta"):
        state = vst.VideoSwinTransformer(config).state_dict()
    with pytest.raises(
        CheckpointError, match=r"45 rows, so the window size is ambiguous: .* architecture="
    ):
        infer_config(state)
    assert infer_config(state, window_tokens=[12]).window_size == (3, 2, 2)  # an index buffer tells
